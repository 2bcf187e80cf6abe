"""Readings of studies, and their behaviour when the store fails."""

import threading

import pandas as pd
import pytest

from dashboard.reading import StoreReader
from study.errors import UserError
from study.storage import ObjectStore
from study.store.tables import MIN_SEGMENTS_TO_COMPACT
from study.store.writer import StudyWriter
from tests.messages import assert_mentions, mentions
from tests.study.report.studies import trial_of, write_study
from tests.study.s3_server import s3_server


@pytest.fixture
def store(tmp_path, tiny):
    return write_study(tmp_path / "runs", tiny, [trial_of([4.0, 4.2], [0.2, 0.4])])


@pytest.fixture
def reader(tmp_path, store):
    return StoreReader(ObjectStore(str(tmp_path / "runs")))


def again(reader):
    """Read the study again at once."""
    reader.latest("tiny").expire()
    return reader.latest("tiny")


@pytest.mark.parametrize("path", ["../other/tiny", "tiny/../tiny", "..", ""])
def test_an_address_cannot_lead_out_of_the_store(reader, path):
    with pytest.raises(UserError, match=mentions("name", "letter", repr(path))):
        reader.latest(path)


def test_values_are_computed_once_per_reading(reader):
    first = reader.latest("tiny")
    calls = []
    assert first.once("x", lambda: calls.append(1) or 3) == 3
    assert again(reader).once("x", lambda: calls.append(1) or 4) == 3
    assert len(calls) == 1


def test_a_chart_is_created_once_for_each_view_and_anew_for_a_new_reading(reader, store):
    first = reader.latest("tiny")
    created = []

    def drawn(reading, view):
        return reading.drawn((view,), lambda: created.append(view) or {"view": view})

    assert drawn(first, "light") == drawn(first, "light") == {"view": "light"}
    drawn(first, "dark")
    assert created == ["light", "dark"]
    writer = StudyWriter(store, trials=2)
    writer.add("reports", {"trial": 1, "seed": 0, "step": 30, "metric_version": 1, "fidelity/log_mel_rmse_db": 1.0})
    writer.finish()
    drawn(again(reader), "light")
    assert created == ["light", "dark", "light"]


def test_the_oldest_charts_are_dropped(reader, monkeypatch):
    monkeypatch.setattr("dashboard.reading._MAX_DRAWN", 2)
    reading, created = reader.latest("tiny"), []
    for view in ("a", "b", "a", "c", "a", "b"):
        reading.drawn((view,), lambda view=view: created.append(view) or {"view": view})
    assert created == ["a", "b", "c", "b"]


def test_new_reports_create_a_new_reading(reader, store):
    before = reader.latest("tiny")
    writer = StudyWriter(store, trials=2)
    writer.add("reports", {"trial": 1, "seed": 0, "step": 30, "metric_version": 1, "fidelity/log_mel_rmse_db": 1.0})
    writer.finish()
    after = again(reader)
    assert after.fingerprint != before.fingerprint
    assert set(after.results.reports()["trial"]) == {0, 1}
    assert set(before.results.reports()["trial"]) == {0}


def test_an_outage_keeps_the_last_reading_and_recovery_replaces_it(reader, tmp_path):
    before = reader.latest("tiny")
    (tmp_path / "runs").rename(tmp_path / "away")
    gone = again(reader)
    assert_mentions(gone.outage, "'tiny'")
    pd.testing.assert_frame_equal(gone.results.results(), before.results.results())
    (tmp_path / "away").rename(tmp_path / "runs")
    back = again(reader)
    assert back.outage == ""
    assert back.time > before.time


def test_a_missing_store_raises(tmp_path):
    with pytest.raises(UserError, match=mentions("'tiny'")):
        StoreReader(ObjectStore(str(tmp_path))).latest("tiny")


def test_studies_stay_listed_during_an_outage(reader, tmp_path, monkeypatch):
    assert reader.studies() == ["tiny"]
    (tmp_path / "runs").rename(tmp_path / "away")
    monkeypatch.setattr("dashboard.reading.LIVE_S", -1.0)
    assert reader.studies() == ["tiny"]


def test_a_damaged_segment_is_reported_until_it_is_removed(reader, store):
    (part,) = store.objects.names("tiny/reports")
    whole = store.objects.read(part)
    store.objects.write("tiny/reports/0001-000009.parquet", whole[:100])
    (sentence,) = again(reader).warnings
    assert_mentions(sentence, "reports/0001-000009.parquet")
    assert len(reader.latest("tiny").results.reports()) == 2
    store.objects.delete("tiny/reports/0001-000009.parquet")
    assert again(reader).warnings == ()


def test_new_stars_and_notes_create_a_new_reading(reader):
    before = reader.latest("tiny")
    before.notes.star(0)
    after = again(reader)
    assert after.marks.starred == {0}
    assert after.fingerprint != before.fingerprint


def test_a_deleted_segment_disappears_from_the_next_reading(reader, store):
    writer = StudyWriter(store, trials=2)
    writer.add("reports", {"trial": 1, "seed": 0, "step": 30, "metric_version": 1, "fidelity/log_mel_rmse_db": 1.0})
    writer.finish()
    assert set(again(reader).results.reports()["trial"]) == {0, 1}
    store.objects.delete("tiny/reports/0002-000001.parquet")
    assert set(again(reader).results.reports()["trial"]) == {0}


def test_a_segment_that_replaces_a_deleted_one_of_equal_size_creates_a_new_reading(reader, store):
    row = {"seed": 0, "step": 30, "metric_version": 1, "fidelity/log_mel_rmse_db": 1.0}
    for trial in (1, 2):
        before = again(reader)
        writer = StudyWriter(store, trials=3)
        writer.add("reports", row | {"trial": trial})
        writer.finish()
        if trial == 2:
            store.objects.delete("tiny/reports/0002-000001.parquet")
            assert again(reader).fingerprint != before.fingerprint
            assert set(again(reader).results.reports()["trial"]) == {0, 2}


def test_concurrent_readers_see_a_growing_prefix_of_the_rows(reader, store, tmp_path):
    writer = StudyWriter(store, trials=400)
    is_done = threading.Event()
    seen: dict[int, list[list[int]]] = {0: [], 1: []}

    def read(place: int, own: StoreReader) -> None:
        while not is_done.is_set():
            seen[place].append(sorted(set(again(own).results.reports()["trial"])))

    both = (reader, StoreReader(ObjectStore(str(tmp_path / "runs"))))
    readers = [threading.Thread(target=read, args=one) for one in enumerate(both)]
    for reader in readers:
        reader.start()
    try:
        for trial in range(1, 3 * MIN_SEGMENTS_TO_COMPACT):
            row = {"trial": trial, "seed": 0, "step": 30, "metric_version": 1, "fidelity/log_mel_rmse_db": 1.0}
            writer.add("reports", row)
            writer.flush()
    finally:
        is_done.set()
        for reader in readers:
            reader.join()
    writer.finish()
    for readings in seen.values():
        assert readings
        for trials in readings:
            assert trials == list(range(len(trials)))
        counts = [len(trials) for trials in readings]
        assert counts == sorted(counts)
    assert all(len(again(one).results.reports()) == 2 + 3 * MIN_SEGMENTS_TO_COMPACT - 1 for one in both)


@pytest.mark.slow
def test_an_unreachable_bucket_keeps_the_last_reading(tmp_path, tiny, monkeypatch):
    with s3_server(tmp_path / "buckets") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        write_study("s3://studies/runs", tiny, [trial_of([4.0, 4.2], [0.2, 0.4])])
        reader = StoreReader(ObjectStore("s3://studies/runs"))
        assert len(reader.latest("tiny").results.results()) == 1
    gone = again(reader)
    assert_mentions(gone.outage, "s3://studies/runs")
    assert len(gone.results.results()) == 1
