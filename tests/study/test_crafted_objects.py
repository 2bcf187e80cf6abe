"""Crafted objects in a store can give readers wrong numbers, but cannot run code, hang or crash them."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dashboard.reading import StoreReader
from study.analysis import StudyResults
from study.cli.manage import status_lines
from study.errors import RunError, UnreadableObject, UserError
from study.export.audition import Audition
from study.export.bundle import export_trials
from study.runs.lifecycle import plan_cleanup
from study.storage import ObjectStore
from study.store import StudyStore, list_studies
from study.store.notes import Notes
from tests.messages import mentions
from tests.study.commands import TINY
from tests.study.report.studies import PLAIN, trial_of, write_study
from tests.study.stores import run_elsewhere

pytestmark = pytest.mark.slow

PART = "tiny/reports/0001-000000.parquet"  # before all others
NOW = datetime.now(UTC)
CONFIG = PLAIN | {"contrast.temperature": 0.5}


@pytest.fixture(scope="module")
def _intact(tmp_path_factory):
    trials = [trial_of([4.0, 4.2], [0.2, 0.4], config=CONFIG), trial_of([5.0, 4.9], [0.3, 0.4], config=CONFIG)]
    return write_study(tmp_path_factory.mktemp("intact") / "runs", TINY, trials)


@pytest.fixture(scope="module")
def _read_before(_intact):
    return read(_intact)


@pytest.fixture
def store(_intact, tmp_path):
    """A copy of a study with two trials."""
    shutil.copytree(_intact.objects.uri, tmp_path / "runs")
    return StudyStore(ObjectStore(str(tmp_path / "runs")), _intact.name)


@pytest.fixture
def as_before(store, _read_before):
    """Function that asserts that readers see the intact study."""
    return lambda: assert_same(_read_before, read(store))


def read(store):
    """All that commands and pages read of a study, without what was left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadableObject)
        again = StudyStore(ObjectStore(store.objects.uri), store.name)
        results = StudyResults(again)
        status = results.status()
        assert_printable(status_lines(status))
        plan_cleanup(results)
        Notes(again).read()
        StoreReader(again.objects).latest(store.name)
        again.read("log")
        return results.results(), results.reports(), results.progress(), results.front(), results.baselines()


def assert_same(before, after):
    for one, other in zip(before, after, strict=True):
        pd.testing.assert_frame_equal(one, other)


def assert_printable(text):
    assert all(character.isprintable() or character == "\n" for character in text)


def parquet(columns, **options):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def report(**columns):
    whole = {"trial": [0], "seed": [0], "step": [30], "metric_version": [1], "time": [NOW]}
    return parquet({name: values for name, values in (whole | columns).items() if values is not None})


def billion_rows():
    """Some hundred bytes that stand for a billion rows: one value, repeated."""
    buffer = io.BytesIO()
    column = pa.array(np.zeros(100_000, np.int64))
    table = pa.table({"trial": column, "seed": column, "step": column})
    with pq.ParquetWriter(buffer, table.schema, compression="zstd") as writer:
        for _ in range(400):
            writer.write_table(table)
    return buffer.getvalue()


PARTS = {
    "nothing": b"",
    "a pickle": pickle.dumps({"trial": [0]}),
    "cut short": report()[:300],
    "a broken footer": report()[:200] + report()[-8:],
    "no trial": report(trial=None),
    "no seed": report(seed=None),
    "trials as text": report(trial=["0"]),
    "trials with gaps": report(trial=pa.array([None], pa.int64())),
    "trials that no number holds": report(trial=pa.array([2**64 - 1], pa.uint64())),
    "steps as lists": report(step=[[1, 2]]),
    "times as text": report(time=["now"]),
    "times without a zone": report(time=[datetime(2026, 1, 1)]),  # noqa: DTZ001
    "times of another age": report(time=pa.array([2**62], pa.timestamp("us", "UTC"))),
    "metrics as text": report(**{"fidelity/log_mel_rmse_db": ["<script>"]}),
    "metrics as structures": report(**{"fidelity/log_mel_rmse_db": [{"a": 1}]}),
    "its own run": report(run=[7]),
    "names that a terminal obeys": report(**{"x/\x1b[2J\n": [1.0]}),
    "names without end": report(**{"x" * 100_000: [1.0]}),
    "more columns than a real report": report(**{f"x/{number}": [0.0] for number in range(10_001)}),
    "rows without end": billion_rows,  # takes a second
}


@pytest.mark.parametrize(
    ("table", "what"),
    [(table, what) for table in ("reports", "trials") for what in PARTS if (table, what) != ("trials", "no seed")],
)
def test_a_crafted_segment_is_named_and_skipped(store, as_before, table, what):
    part = PARTS[what]
    store.objects.write(f"tiny/{table}/0001-000000.parquet", part() if callable(part) else part)
    with pytest.warns(UnreadableObject, match=mentions(f"{table}/0001-000000.parquet")) as said:
        store.read(table)
    assert_printable(str(said[0].message))
    as_before()


def test_columns_that_do_not_fit_those_before_are_left_out_with_their_part(store, as_before):
    store.objects.write(
        "tiny/trials/0009-000001.parquet", report(**{"config/latent.private": ["wide"], "state": ["x"]})
    )
    with pytest.warns(UnreadableObject, match=mentions("trials/0009-000001.parquet", "incompatible")):
        store.read("trials")
    as_before()


def test_metadata_for_pandas_in_a_segment_is_ignored(store, as_before):
    table = pa.table({"trial": [0], "seed": [0], "step": [30], "metric_version": [1], "time": [NOW]})
    told = {"index_columns": ["trial"], "columns": [], "column_indexes": [], "pandas_version": "3"}
    for row in ("reports", "trials"):
        table = table.replace_schema_metadata({"pandas": json.dumps(told)})
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        store.objects.write(f"tiny/{row}/0001-000000.parquet", buffer.getvalue())
    assert "trial" in store.read("reports")
    read(store)


@pytest.mark.parametrize(
    "name",
    [
        "reports/../../../etc/passwd",
        "reports/0001-000009.parquet\nwarning: all is well",
        "reports/\x1b[2J.parquet",
        "reports/<img src=x onerror=alert(1)>.parquet",
        "checkpoints/0/0/now/model.safetensors",
        f"checkpoints/0/0/{'9' * 200}/replicate.json",
        "checkpoints/..%2f..%2f/0/30/replicate.json",
        "latents/0-0.parquet/deeper",
        "runs/../0001.json",
        "runs/99999.json",
        "notes/\x1b]0;title\x07.json",
        "leases/0002-x.json",
    ],
)
def test_crafted_names_are_neither_followed_nor_obeyed(store, as_before, name):
    where = Path(os.path.normpath(f"{store.objects.uri}/tiny/{name}"))
    if where.is_relative_to(store.objects.uri):  # a bucket has such names, a folder cannot
        store.objects.write(f"tiny/{name}", b"{}")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        StudyResults(store).results()
        store.latest_checkpoint(0, 0)
        store.delete_earlier_checkpoints(0, 0, 30)
    assert all(str(one.message).isprintable() for one in said if one.category is UnreadableObject)
    as_before()


def test_folders_of_names_that_no_study_has_are_no_studies(store):
    for name in ("..x/", "a\nb", "\x1b[2J", "x" * 200, "<b>"):
        store.objects.write(f"{name}/study.json", b"{}")
    assert list_studies(store.objects) == ["tiny"]


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"spec": {"name": "\\u001b[2J"}, "format": 1}',
        b'{"format": 1, "format": 1e999}',
        b"\x80\x04\x95",
    ],
)
def test_crafted_json_is_named(store, content):
    run = "tiny/runs/0007.json"
    for name in (run, "tiny/baselines.json", "tiny/checkpoints/0/0/30/replicate.json"):
        store.objects.write(name, content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert 7 not in store.runs()
        assert store.baselines() is None
        assert store.latest_checkpoint(0, 0) is None
    assert [one.category for one in said] == [UnreadableObject] * 3
    for one in said:
        assert_printable(str(one.message))
    read(store)
    store.objects.write("tiny/study.json", content)
    with pytest.raises(UserError, match=mentions("tiny/study.json", "damaged")) as refusal:
        store.metadata()
    assert_printable(str(refusal.value))


@pytest.mark.parametrize(
    "changed",
    [
        {"trials": "many"},
        {"trials": 10**30},
        {"started": "yesterday"},
        {"heartbeat": "2026-01-01T00:00:00"},
        {"trainers": 1e300},
        {"trainers": "1"},
        {"host": "\x1b[2J"},
        {"host": "x" * 10_000},
        {"process": []},
        {"finished": {}},
    ],
)
def test_a_crafted_run_is_named_and_skipped(store, as_before, changed):
    store.write_run(8, {**run_elsewhere(10), **changed})
    with pytest.warns(UnreadableObject, match=mentions("runs/0008.json")):
        assert list(store.runs()) == [1]
    as_before()


def test_a_file_that_is_larger_than_any_that_is_written_is_not_read(store, as_before):
    uri = Path(store.objects.uri)
    huge = [
        "runs/0002.json",
        "reports/0001-000000.parquet",
        "checkpoints/0/0/30/replicate.json",
        "latents/0-0.parquet",
    ]
    for name in huge:
        (uri / "tiny" / name).parent.mkdir(parents=True, exist_ok=True)
        with (uri / "tiny" / name).open("wb") as file:
            file.truncate(1 << 40)  # of holes
    with pytest.warns(UnreadableObject, match=mentions("runs/0002.json", 1 << 40)):
        assert list(store.runs()) == [1]
    with pytest.warns(UnreadableObject, match=mentions("checkpoints/0/0/30", 1 << 40)):
        assert store.latest_checkpoint(0, 0) is None
    with pytest.warns(UnreadableObject, match=mentions("latents/0-0.parquet", 1 << 40)):
        assert store.read_latents(0, 0) is None
    as_before()
    with (uri / "tiny" / "study.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UserError, match=mentions("study.json", 1 << 40)):
        store.metadata()


def test_pipes_and_links_outside_the_store_do_not_block(store, as_before, tmp_path):
    folder = Path(store.objects.uri) / "tiny"
    os.mkfifo(folder / "reports" / "0001-000000.parquet")
    (folder / "latents").mkdir(exist_ok=True)
    os.mkfifo(folder / "latents" / "0-0.parquet")
    (folder / "reports" / "0001-000008.parquet").symlink_to("/dev/zero")
    (folder / "runs" / "deeper").symlink_to("/")
    as_before()
    assert store.read_latents(0, 0) is None


class _Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


@pytest.mark.parametrize("content", [pickle.dumps(_Bomb()), b"", (1 << 62).to_bytes(8, "little") + b"{}"])
def test_crafted_weights_are_never_executed(store, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        files = {"model.safetensors": content, "config.json": content}
        store.write_checkpoint(0, seed, 30, files, {"reports": []})
    results = StudyResults(store)
    with pytest.raises((UserError, RunError), match=r"checkpoint|config.json|damaged"):
        Audition.of(results, 0, 0)
    with pytest.raises((UserError, RunError, ValueError)):
        export_trials(results, [0], "disentanglement/separation", tmp_path / "out")
    assert not (tmp_path / "exploded").exists()
    assert not list(tmp_path.rglob("*exploded*"))


@pytest.mark.parametrize(
    "columns", [{"private/0": ["x"]}, {"clip": [[1]], "private/0": [None]}, {"a": [1], "A\n": [2]}]
)
def test_latents_that_are_none_are_named_and_left_out(store, columns):
    store.objects.write("tiny/latents/0-0.parquet", parquet(columns))
    with pytest.warns(UnreadableObject, match=mentions("latents/0-0.parquet")):
        assert store.read_latents(0, 0) is None


def test_html_in_values_is_text_in_tables_and_pages(store, cli):
    evil = "<script>alert(1)</script>[bold]\x1b[2J"
    row = {"trial": 2, "state": evil, "error": evil, "step": 1, "sampler": "{}", "config/contrast.strategy": evil}
    store.append("trials", 9, 1, [row])
    for words in (["results", "tiny"], ["status", "tiny"], ["ls"], ["leakage", "tiny"]):
        outcome = cli(*words, "--store", store.objects.uri)
        assert outcome.status == 0, outcome.err
        assert "\x1b[2J" not in outcome.out + outcome.err
    reading = StoreReader(store.objects).latest("tiny")
    assert reading.results.trials()["error"].tolist()[-1] == evil  # as it is: pages escape it


def test_a_reader_needs_little_memory_for_objects_that_claim_a_huge_size(store):
    """Under a limit of memory that an honest study does not come near."""
    store.objects.write(PART, billion_rows())
    code = (
        "import sys, warnings; from pathlib import Path; from study.storage import ObjectStore;"
        "from study.analysis import StudyResults; from study.store import StudyStore; warnings.simplefilter('ignore');"
        "print(len(StudyResults(StudyStore(ObjectStore(sys.argv[1]), 'tiny')).results()));"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, store.objects.uri], capture_output=True, text=True, check=True)
    rows, peak_kb = map(int, done.stdout.split())
    assert rows == 2
    assert peak_kb < 800_000
