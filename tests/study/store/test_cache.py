"""Repeated reading of a study: the cache fetches new objects only, and returns the stored rows."""

import threading
import warnings

import pandas as pd
import pytest

from study.analysis import StudyResults
from study.errors import UnreadableObject
from study.storage import ObjectStore
from study.store import StudyCache, StudyStore
from study.store.tables import MIN_SEGMENTS_TO_COMPACT
from tests.messages import mentions
from tests.study.faulty_s3 import faulty_s3
from tests.study.report.studies import trial_of, write_study
from tests.study.s3_server import s3_server
from tests.study.stores import RUN


class CountedObjects(ObjectStore):
    """Notes the names of what is read, however that is done."""

    def __init__(self, uri):
        super().__init__(uri)
        self.was_read = []

    def read(self, name):
        self.was_read.append(name)
        return super().read(name)

    def read_all(self, names):
        self.was_read += names
        return super().read_all(names)

    def read_since(self):
        names, self.was_read = self.was_read, []
        return sorted(name.split("/", 1)[1] for name in names)


@pytest.fixture
def store(tmp_path):
    return StudyStore(CountedObjects(str(tmp_path)), "any", StudyCache())


def rows(*trials, **columns):
    return [{"trial": trial, "seed": 0, "step": 10, "metric_version": 1, **columns} for trial in trials]


def trials_of(store):
    return store.read("reports")["trial"].tolist()


def test_without_a_cache_everything_is_read_each_time(tmp_path):
    store = StudyStore(CountedObjects(str(tmp_path)), "any")
    store.append("reports", 1, 1, rows(1))
    for _ in range(2):
        assert trials_of(store) == [1]
        assert store.objects.read_since() == ["reports/0001-000001.parquet"]


def test_a_part_is_read_once(store):
    for sequence in (1, 2):
        store.append("reports", 1, sequence, rows(sequence))
    assert trials_of(store) == [1, 2]
    assert len(store.objects.read_since()) == 2
    store.append("reports", 1, 3, rows(3))
    assert trials_of(store) == [1, 2, 3]
    assert store.objects.read_since() == ["reports/0001-000003.parquet"]
    assert trials_of(store) == [1, 2, 3]
    assert store.objects.read_since() == []


def test_a_late_segment_keeps_its_position(store):
    store.append("reports", 2, 1, rows(3))
    assert trials_of(store) == [3]
    store.append("reports", 1, 2, rows(2))
    store.append("reports", 1, 1, rows(1))
    assert trials_of(store) == [1, 2, 3]


def test_parts_that_became_one_are_counted_once_and_in_order_and_only_the_whole_is_read(store):
    store.append("reports", 2, 1, rows(1000))
    for sequence in range(1, MIN_SEGMENTS_TO_COMPACT):
        store.append("reports", 1, sequence, rows(sequence))
    before = trials_of(store)
    store.objects.read_since()
    store.append("reports", 1, MIN_SEGMENTS_TO_COMPACT, rows(MIN_SEGMENTS_TO_COMPACT))
    StudyStore(ObjectStore(store.objects.uri), "any").compact("reports", 1)
    assert trials_of(store) == [*before[:-1], MIN_SEGMENTS_TO_COMPACT, 1000]
    assert store.objects.read_since() == [f"reports/0001-000001-{MIN_SEGMENTS_TO_COMPACT:06d}.parquet"]


@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
def test_a_damaged_part_is_named_each_time_and_counts_once_it_is_whole(store, damage):
    for sequence in (1, 2, 3):
        store.append("reports", 1, sequence, rows(sequence))
    name = "any/reports/0001-000002.parquet"
    whole = store.objects.read(name)
    store.objects.write(name, whole[: len(whole) // 2] if damage is None else damage)
    for _ in range(3):
        with pytest.warns(UnreadableObject, match=mentions("reports/0001-000002.parquet")):
            assert trials_of(store) == [1, 3]
    store.objects.write(name, whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trials_of(store) == [1, 2, 3]


def test_a_study_that_was_deleted_and_created_again_is_read_again(store):
    store.append("reports", 1, 1, rows(1))
    assert trials_of(store) == [1]
    store.delete()
    store.append("reports", 1, 1, rows(2))  # as many bytes under the same name
    assert trials_of(store) == [2]


def test_the_heartbeat_of_a_run_is_seen_and_runs_that_ended_are_not_read_again(store):
    for number in (1, 2):
        store.write_run(number, RUN)
    assert list(store.runs()) == [1, 2]
    store.objects.read_since()
    later = {**RUN, "heartbeat": "2026-01-01T10:10:00+00:00"}
    store.write_run(2, later)
    assert store.runs()[2] == later
    assert store.objects.read_since() == ["runs/0002.json"]


def test_threads_that_share_a_cache_all_see_everything_and_read_it_once(store):
    for sequence in range(1, 40):
        store.append("reports", 1, sequence, rows(sequence))
    start, seen = threading.Barrier(4), []

    def read():
        start.wait()
        seen.append(trials_of(store))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [list(range(1, 40))] * 4
    assert len(store.objects.read_since()) == 39


def test_results_that_follow_from_earlier_ones_are_those_that_are_read_at_once(tmp_path, tiny):
    written = write_study(
        tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([3.0, 3.3], [0.3, 0.7], "running")]
    )
    store = StudyStore(written.objects, written.name, StudyCache())
    before = StudyResults(store)
    assert before.results()["replicates"].tolist() == [2, 2]
    (like,) = before.reports([0]).query("seed == 1").drop(columns="run").to_dict("records")
    written.append("reports", 1, 90, [{**like, "trial": 1, "seed": seed} for seed in (0, 1)])
    (state,) = before.trials().query("trial == 1").drop(columns="run").to_dict("records")
    written.append("trials", 1, 90, [{**state, "state": "complete"}])
    after, anew = StudyResults(store), StudyResults(written)
    for table in ("trials", "reports", "results", "front", "progress", "baselines"):
        pd.testing.assert_frame_equal(getattr(after, table)(), getattr(anew, table)(), check_exact=True)
    assert after.results()["state"].tolist() == ["complete", "complete"]
    assert after.size == (before.size[0] + 1, before.size[1] + 2)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "buckets") as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("trials", [2, 300])
def test_the_requests_of_a_refresh_do_not_depend_on_the_number_of_trials(server, tmp_path, monkeypatch, tiny, trials):
    with faulty_s3(server) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        written = write_study(f"s3://studies/{tmp_path.name}", tiny, [trial_of([4.0, 4.2], [0.2, 0.4])] * trials)
        for sequence in range(100, 110):
            written.append("reports", 1, sequence, rows(0))
        store = StudyStore(written.objects, written.name, StudyCache())

        def refresh():
            proxy.asked.clear()
            results = StudyResults(store)
            results.results(), results.front(), results.progress(), results.baselines()
            return len(proxy.asked)

        # The document, baselines (which are not there), and lists of runs, trials and reports. Each part is new.
        assert refresh() == 5 + 1 + 1 + 1 + 10, proxy.asked
        assert refresh() == 5, proxy.asked
        written.append("reports", 1, 200, rows(1))
        assert refresh() == 5 + 1, proxy.asked
