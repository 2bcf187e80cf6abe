import json
import threading
from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.errors import UnreadableObject, UserError
from study.spec import Baseline, parse_spec
from study.spec.resolve import resolve
from study.storage import ObjectStore
from study.store import StudyMetadata, StudyStore, list_studies
from tests.messages import mentions
from tests.study.stores import RUN


@pytest.fixture
def store(tmp_path):
    return StudyStore(ObjectStore(str(tmp_path)), "tiny")


def metadata(tiny):
    spec = resolve(parse_spec(tiny, "spec")).spec
    return StudyMetadata(spec=spec, stack={"lanes": 4}, factors=("timbre",), created=datetime.now(UTC), writer="1.0")


def rows(first, count=1, **columns):
    return [{"trial": first + index, "seed": 0, "step": 10, **columns} for index in range(count)]


def trials_of(store):
    return store.read("trials")["trial"].tolist()


def test_a_study_exists_once_its_metadata_is_written(store, tiny):
    assert not store.exists()
    written = metadata(tiny)
    store.create(written)
    assert store.exists()
    assert store.metadata() == written
    assert list_studies(store.objects) == ["tiny"]


def test_a_missing_study_is_reported_with_the_existing_ones(store, tiny):
    store.create(metadata(tiny))
    with pytest.raises(UserError, match=mentions("'other'", "tiny")):
        StudyStore(store.objects, "other").metadata()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": 2}', b"\xff"])
def test_a_damaged_document_is_named(store, tiny, content):
    store.create(metadata(tiny))
    store.objects.write("tiny/study.json", content)
    with pytest.raises(UserError, match=mentions("tiny/study.json", "damaged")):
        store.metadata()


def test_rows_come_back_in_the_order_of_runs_and_sequences(store):
    for run, sequence, first in ((2, 1, 20), (1, 2, 11), (1, 1, 10), (1, 10, 12)):
        store.append("trials", run, sequence, rows(first))
    assert trials_of(store) == [10, 11, 12, 20]
    assert store.read("trials")["run"].tolist() == [1, 1, 1, 2]


def test_parts_with_other_columns_and_empty_columns_merge(store):
    store.append("trials", 1, 1, rows(0, error=None, **{"config/a": 1.5, "config/c": None}))
    store.append("trials", 1, 2, rows(1, error="broke", **{"config/b": 2, "config/c": 0.5}))
    table = store.read("trials")
    assert table["config/c"].dtype == float
    assert table["config/a"].tolist()[0] == 1.5
    assert pd.isna(table["config/a"].tolist()[1])
    assert table["error"].tolist()[1] == "broke"
    assert store.read("reports").empty


def test_columns_that_a_later_version_adds_are_read(store):
    store.append("reports", 1, 1, rows(0))
    store.append("reports", 2, 1, rows(1, node="worker-1", generation=2, **{"fidelity/new": 0.5}))
    table = store.read("reports")
    assert table["node"].tolist()[1] == "worker-1"
    assert table["fidelity/new"].tolist()[1] == 0.5


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"\x80\x04\x95pickle", None])
def test_a_corrupt_segment_is_named_and_skipped_and_no_other_rows_are_lost(store, damage):
    for sequence in (1, 2, 3):
        store.append("trials", 1, sequence, rows(sequence))
    name = "tiny/trials/0001-000002.parquet"
    half = store.objects.read(name)[:400]
    store.objects.write(name, half if damage is None else damage)
    with pytest.warns(UnreadableObject, match=mentions("trials/0001-000002.parquet")):
        assert trials_of(store) == [1, 3]


def test_an_object_that_is_no_segment_is_named_and_skipped(store):
    store.append("trials", 1, 1, rows(1))
    store.objects.write("tiny/trials/notes.txt", b"hello")
    with pytest.warns(UnreadableObject, match=mentions("trials/notes.txt", "table")):
        assert trials_of(store) == [1]


def test_many_segments_are_compacted_to_one_without_duplicate_rows(store):
    for sequence in range(1, 70):
        store.append("reports", 3, sequence, rows(sequence))
        store.compact("reports", 3)
    names = store.objects.names("tiny/reports")
    assert names[0] == "tiny/reports/0003-000001-000064.parquet"
    assert len(names) == 6
    assert store.read("reports")["trial"].tolist() == list(range(1, 70))


def test_a_part_that_was_compacted_but_not_yet_deleted_counts_once(store):
    kept = {}
    for sequence in range(1, 65):
        store.append("reports", 1, sequence, rows(sequence))
        name = f"tiny/reports/0001-{sequence:06d}.parquet"
        kept[name] = store.objects.read(name)
    store.compact("reports", 1)
    for name, content in kept.items():  # as if the compaction had been killed before it deleted anything
        store.objects.write(name, content)
    assert store.read("reports")["trial"].tolist() == list(range(1, 65))


def test_a_damaged_part_is_not_compacted_away(store):
    for sequence in range(1, 65):
        store.append("reports", 1, sequence, rows(sequence))
    store.objects.write("tiny/reports/0001-000005.parquet", b"damaged")
    store.compact("reports", 1)
    assert len(store.objects.names("tiny/reports")) == 64


def test_a_reader_beside_a_compacting_writer_always_sees_every_row(store):
    for sequence in range(1, 64):
        store.append("reports", 1, sequence, rows(sequence))
    seen = []

    def read():
        for _ in range(15):
            seen.append(set(store.read("reports")["trial"]))  # noqa: PERF401  # read again and again

    reader = threading.Thread(target=read)
    reader.start()
    for sequence in range(64, 200):
        store.append("reports", 1, sequence, rows(sequence))
        store.compact("reports", 1)
    reader.join()
    assert all(set(range(1, 64)) <= found for found in seen)


FILES = {"model.safetensors": b"weights", "config.json": b"{}"}


@pytest.mark.parametrize("trial", [3, Baseline.PLAIN_VAE])
def test_the_latest_whole_checkpoint_is_found_and_older_ones_are_deleted(store, trial):
    assert store.latest_checkpoint(trial, 0) is None
    store.write_checkpoint(trial, 0, 100, FILES, {"reports": []})
    store.write_checkpoint(trial, 0, 20_000, {**FILES, "state.safetensors": b"moments"}, {"reports": [1]})
    found = store.latest_checkpoint(trial, 0)
    assert (found.step, found.files["state.safetensors"], found.record["reports"]) == (20_000, b"moments", [1])
    assert not store.objects.names(f"tiny/checkpoints/{trial}/0/100")
    assert store.latest_checkpoint(trial, 1) is None
    assert store.latest_checkpoint(30, 0) is None


def test_a_checkpoint_from_a_trainer_that_should_be_dead_deletes_no_later_one(store):
    store.write_checkpoint(0, 0, 200, FILES, {})
    store.write_checkpoint(0, 0, 100, FILES, {})
    assert store.latest_checkpoint(0, 0).step == 200


def test_a_checkpoint_without_its_record_does_not_count(store):
    store.write_checkpoint(0, 0, 10, FILES, {})
    for name, content in FILES.items():  # a writer killed before the record
        store.objects.write(f"tiny/checkpoints/0/0/20/{name}", content)
    assert store.latest_checkpoint(0, 0).step == 10


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(store, file):
    store.write_checkpoint(0, 0, 10, FILES, {})
    older = {name: store.objects.read(name) for name in store.objects.names("tiny/checkpoints")}
    store.write_checkpoint(0, 0, 20, FILES, {})
    for name, content in older.items():
        store.objects.write(name, content)
    store.objects.write(f"tiny/checkpoints/0/0/20/{file}", b"flipped")
    with pytest.warns(UnreadableObject, match=mentions("checkpoints/0/0/20", file)):
        assert store.latest_checkpoint(0, 0).step == 10


@pytest.mark.parametrize("record", [b"", b"[]", b'{"sha256": {"../../study.json": "0"}}', b'{"sha256": {"gone": "0"}}'])
def test_a_record_that_makes_no_sense_is_named_and_left_out(store, record):
    store.objects.write("tiny/checkpoints/0/0/10/replicate.json", record)
    with pytest.warns(UnreadableObject, match=mentions("checkpoints/0/0/10")):
        assert store.latest_checkpoint(0, 0) is None


def test_a_damaged_run_is_named_and_left_out(store):
    store.write_run(1, RUN)
    store.objects.write("tiny/runs/0002.json", b"{")
    with pytest.warns(UnreadableObject, match=mentions("runs/0002.json")):
        assert list(store.runs()) == [1]


def test_deleting_a_study_leaves_the_others(store, tiny):
    store.create(metadata(tiny))
    other = StudyStore(store.objects, "tiny2")
    other.create(metadata(tiny))
    store.delete()
    assert list_studies(store.objects) == ["tiny2"]


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(
        st.fixed_dictionaries(
            {"trial": st.integers(0, 2**40)},
            optional={"error": st.text(), "config/x": st.floats(allow_nan=False), "config/s": st.text(max_size=5)},
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_rows_survive_the_way_through_the_store(tmp_path_factory, values):
    store = StudyStore(ObjectStore(str(tmp_path_factory.mktemp("store"))), "any")
    store.append("trials", 1, 1, values)
    table = store.read("trials")
    for index, row in enumerate(values):
        for name in set(table) - {"run"}:
            found = table[name][index]
            assert found == row[name] if row.get(name) is not None else pd.isna(found)


def test_json_of_the_document_is_for_people_too(store, tiny):
    store.create(metadata(tiny))
    content = json.loads(store.objects.read("tiny/study.json"))
    assert content["spec"]["train"]["steps"] == 30
    assert content["spec"]["space"]["latent.private"] == {"choice": [2, 4], "when": {}}


def test_latents_come_back_as_they_were_written(store):
    columns = {"clip": [3, 1], "factor/timbre": ["sine", "square"], "private/0": [0.5, -1.0]}
    store.write_latents(2, 1, columns)
    assert store.read_latents(2, 1).to_dict("list") == columns
    assert store.read_latents(2, 0) is None


def test_damaged_latents_are_named_and_left_out(store):
    store.objects.write("tiny/latents/2-1.parquet", b"PAR1 not really")
    with pytest.warns(UnreadableObject, match=mentions("latents/2-1.parquet")):
        assert store.read_latents(2, 1) is None


def test_rows_of_a_baseline_are_kept_apart_from_those_of_trials(store):
    row = {"seed": 0, "step": 10, "metric_version": 1}
    store.append("reports", 1, 1, [{"trial": Baseline.PLAIN_VAE, **row, "loss/x": 1.0}])
    store.append(
        "reports", 1, 2, [{"trial": 3, **row, "loss/x": 2.0}, {"trial": Baseline.PLAIN_VAE, **row, "step": 20}]
    )
    trials = store.read("reports")
    assert trials[["trial", "loss/x"]].to_dict("list") == {"trial": [3], "loss/x": [2.0]}
    assert trials["trial"].dtype == "int64"
    assert not {"kind", "baseline"} & set(trials)
    baseline = store.rows("reports").of_baseline(Baseline.PLAIN_VAE).frame()
    assert baseline["step"].tolist() == [10, 20]
    assert "trial" not in baseline
    assert store.rows("reports").of_baseline(Baseline.UNTRAINED).frame().empty
    everything = store.rows("reports").frame()
    assert everything["kind"].tolist() == ["baseline", "trial", "baseline"]


def test_a_row_of_a_trial_needs_its_number(store):
    store.append("reports", 1, 1, [{"trial": None, "seed": 0, "step": 10}])
    with pytest.warns(UnreadableObject, match=mentions("reports/0001-000001")):
        assert store.read("reports").empty
