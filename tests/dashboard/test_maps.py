import os
import signal
import time

import pandas as pd
import pytest

from dashboard import maps
from study.charts.style import MissingDataError
from study.charts.trial import umap_data
from tests.study.report.studies import separated

pytestmark = pytest.mark.slow
WAIT_S = 180


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "cache_folder", lambda: tmp_path)
    yield tmp_path / "umap"
    maps._pool().shutdown(cancel_futures=True)
    maps._pool.clear()
    maps._jobs.clear()


@pytest.fixture
def at_once(folder, monkeypatch):
    """Computations that end at once, by their number of clips."""
    computed = []

    class Done:
        def __init__(self, function, latents):
            computed.append(len(latents))
            self.value = function(latents)

        done = staticmethod(lambda: True)

        def result(self):
            return self.value

    class Pool:
        submit = staticmethod(Done)
        shutdown = staticmethod(lambda cancel_futures: None)

    class Maker:
        clear = staticmethod(lambda: None)

        def __call__(self):
            return Pool

    monkeypatch.setattr(maps, "_pool", Maker())
    monkeypatch.setattr(maps, "umap_data", lambda latents: latents.assign(subspace="shared", x=0.0, y=1.0))
    return computed


def latents(clips=60):
    return pd.DataFrame(separated()).sample(clips, random_state=0).reset_index(drop=True)


def map_when_ready(wanted):
    deadline = time.monotonic() + WAIT_S
    while (data := maps.map_of(wanted)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return data


def test_a_map_is_computed_in_the_background_and_equals_the_one_of_the_report(folder):
    started = time.monotonic()
    assert maps.map_of(latents()) is None
    assert time.monotonic() - started < 5
    pd.testing.assert_frame_equal(map_when_ready(latents()), umap_data(latents()))


def test_a_map_is_computed_once_and_then_read_from_disk(folder, at_once):
    first = maps.map_of(latents())
    pd.testing.assert_frame_equal(maps.map_of(latents()), first)
    assert at_once == [60]
    assert [path.suffix for path in folder.iterdir()] == [".parquet"]


def test_other_latents_have_another_map(folder, at_once):
    changed = latents().assign(**{"shared/0": 0.5})
    for one in (latents(), latents(50), changed, latents().rename(columns={"shared/0": "shared/1"})):
        maps.map_of(one)
    assert at_once == [60, 50, 60, 60]
    assert len(list(folder.iterdir())) == 4


def test_a_damaged_file_is_computed_again(folder, at_once):
    maps.map_of(latents())
    (path,) = folder.iterdir()
    path.write_bytes(b"PAR1 damaged")
    assert len(maps.map_of(latents())) == 60
    assert at_once == [60, 60]
    assert len(pd.read_parquet(path)) == 60


def test_a_folder_that_cannot_be_written_keeps_the_map_in_memory(folder, at_once):
    folder.write_text("not a folder")
    for _ in range(2):
        assert len(maps.map_of(latents())) == 60
    assert at_once == [60]


def test_too_few_clips_are_reported(folder):
    with pytest.raises(MissingDataError, match="at least 20 clips"):
        map_when_ready(latents(5))


def test_a_killed_process_is_reported_and_the_next_call_starts_another_one(folder):
    maps.map_of(latents())
    (process,) = maps._pool()._processes.values()
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(MissingDataError, match="killed"):
        map_when_ready(latents())
    assert maps.map_of(latents()) is None
