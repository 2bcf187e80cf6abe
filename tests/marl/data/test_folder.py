import itertools
import os
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from marl.data import KINDS
from marl.data.audio_dataset import UnusableClipError
from marl.data.folder import Folder
from tests.marl.data.entries import waveforms_of
from tests.messages import assert_mentions, mentions

RATE = 16_000


def config(path, **fields):
    return Folder(path=str(path), **{"factors": ("instrument", "take"), **fields})


def write(path, seconds=1.0, rate=RATE, seed=0, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels))
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return samples.mean(axis=1)


def table(path, *rows, header="file,instrument,take"):
    path.mkdir(exist_ok=True)
    (path / "factors.csv").write_text("\n".join([header, *rows]) + "\n")
    return path


def refusal(folder, **fields):
    with pytest.raises(ValueError, match=".") as error:
        config(folder, **fields).entries()
    reason = str(error.value)
    assert reason.isprintable()
    return reason


def test_entries_are_the_rows_of_the_table(tmp_path):
    folder = table(tmp_path, "b.wav,oboe,1", "sub/a.wav,flute,2.5", "c.wav,,")
    (tmp_path / "not in the table.wav").write_bytes(b"nothing")
    found = config(folder)
    assert found.factor_names == ("instrument", "take") == config(folder).factor_names
    entries = found.entries()
    assert [(entry.name, entry.values, entry.group) for entry in entries] == [
        ("b.wav", ("oboe", 1.0), "b.wav"),
        ("sub/a.wav", ("flute", 2.5), "sub/a.wav"),
        ("c.wav", (None, None), "c.wav"),
    ]
    assert config(folder).entries() == entries


def test_clips_of_a_file_share_a_split_by_default(tmp_path):
    assert config(tmp_path).split == "group"
    assert config(tmp_path, split="instrument").split == "instrument"


def test_it_is_registered_as_a_kind_of_data(tmp_path):
    folder = table(tmp_path, "a.wav,oboe,1")
    assert KINDS["folder"] is Folder
    assert len(config(folder).entries()) == 1


@pytest.mark.parametrize("name", ["factors.csv", "factors.parquet"])
def test_columns_of_text_stay_text_and_numeric_columns_become_numbers(tmp_path, name):
    columns = {
        "file": ["a.wav", "b.wav", "c.wav"],
        "numbers": ["1", "-2.5e3", ""],
        "words": ["001", "1_2", "NA"],
        "some": ["7", "", "x"],
        "padded": ["001", "002", ""],
        "ids": ["1_1", "1_2", "11_2"],
        "spelt": ["inf", "nan", "null"],
        "measured": ["1.5", "nan", "1e999"],
    }
    frame = pd.DataFrame(columns)
    frame.to_csv(tmp_path / name, index=False) if name.endswith("csv") else frame.to_parquet(tmp_path / name)
    factors = tuple(columns)[1:]
    rows = [entry.values for entry in config(tmp_path, table=name, factors=factors).entries()]
    assert dict(zip(factors, zip(*rows, strict=True), strict=True)) == {
        "numbers": (1.0, -2500.0, None),
        "words": ("001", "1_2", "NA"),
        "some": ("7", None, "x"),
        "padded": (1.0, 2.0, None),
        "ids": ("1_1", "1_2", "11_2"),
        "spelt": ("inf", "nan", "null"),
        "measured": (1.5, None, None),
    }
    assert all(type(value) in (str, float, type(None)) for row in rows for value in row)


def test_typed_parquet_columns_are_converted(tmp_path):
    columns = {
        "file": ["a.wav", "b.wav", "c.wav"],
        "whole": [1, 2, 3],
        "real": [1.0, np.nan, np.inf],
        "nullable": pd.array([1, None, 3], dtype="Int64"),
        "word": pd.Categorical(["x", None, "y"]),
        "truth": [True, False, True],
        "day": pd.to_datetime(["2020-01-01", None, "2020-01-03"]),
        "list": [[1], [2, 3], None],
    }
    pd.DataFrame(columns).to_parquet(tmp_path / "factors.parquet")
    factors = tuple(columns)[1:]
    found = config(tmp_path, table="factors.parquet", factors=factors).entries()
    assert [entry.values for entry in found] == [
        (1.0, 1.0, 1.0, "x", "True", "2020-01-01 00:00:00", "[1]"),
        (2.0, None, None, None, "False", None, "[2 3]"),
        (3.0, None, 3.0, "y", "True", "2020-01-03 00:00:00", None),
    ]


def test_tables_exported_by_spreadsheets_are_read(tmp_path):
    text = '\ufefffile,instrument,take\r\n"a, b.wav","a ""small"" flute",1\r\n\r\nä.wav,Flöte,2\r\n'
    (tmp_path / "factors.csv").write_bytes(text.encode())
    assert [(entry.name, entry.values) for entry in config(tmp_path).entries()] == [
        ("a, b.wav", ('a "small" flute', 1.0)),
        ("ä.wav", ("Flöte", 2.0)),
    ]


def test_a_group_column_says_which_files_belong_together(tmp_path):
    folder = table(
        tmp_path, "a.wav,oboe,1,ann", "b.wav,oboe,2,bob", "c.wav,oboe,3,ann", header="file,instrument,take,who"
    )
    assert [entry.group for entry in config(folder, group="who").entries()] == ["ann", "bob", "ann"]
    assert [entry.group for entry in config(folder, group="instrument").entries()] == ["oboe"] * 3
    table(tmp_path, "a.wav,oboe,1,ann", "b.wav,oboe,2,", header="file,instrument,take,who")
    assert_mentions(refusal(folder, group="who"), "'who'", "'b.wav'")


def test_invalid_tables_are_described_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=mentions("path", "folder", tmp_path / "missing")):
        config(tmp_path / "missing").entries()
    assert_mentions(refusal(tmp_path), "factors.csv")
    (tmp_path / "factors.csv").mkdir()
    assert_mentions(refusal(tmp_path), "factors.csv", "Is a directory")
    (tmp_path / "factors.csv").rmdir()
    (tmp_path / "factors.csv").touch()
    assert_mentions(refusal(tmp_path), "factors.csv", "column 'file'")
    assert_mentions(refusal(table(tmp_path)), "factors.csv", "row")
    folder = table(tmp_path, "a.wav,oboe,1")
    assert_mentions(refusal(folder, file="path"), "column 'path'", "'file'", "'instrument'", "'take'")
    assert_mentions(refusal(folder, factors=("pitch",)), "column 'pitch'")
    assert_mentions(refusal(folder, group="singer"), "column 'singer'")
    table(tmp_path, "a.wav,oboe,1,2", header="file,instrument,take,take")
    assert_mentions(refusal(folder), "column 'take'", "twice")
    table(tmp_path, "a.wav,oboe,1", "b.wav,oboe,1,7")
    assert_mentions(refusal(folder), "factors.csv", "3 cells", "row 3", 4)
    table(tmp_path, 'a.wav,"oboe,1')
    assert_mentions(refusal(folder), "factors.csv", "end of data")
    (tmp_path / "factors.csv").write_bytes(b"file,instrument,take\na.wav,fl\xf6te,1\n")
    assert_mentions(refusal(folder), "factors.csv", "UTF-8")
    (tmp_path / "factors.parquet").write_bytes(b"PAR1 or not")
    assert_mentions(refusal(folder, table="factors.parquet"), "factors.parquet", "table")


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.wav", "b/../../a.wav", "b/../a.wav", "", ".", "a\0.wav"])
def test_paths_outside_the_folder_are_rejected(tmp_path, name):
    folder = table(tmp_path, f'"{name}",oboe,1')
    assert_mentions(refusal(folder), "file", "path", "folder", repr(name or None))


def test_links_to_outside_the_folder_are_rejected(tmp_path):
    folder = table(tmp_path / "folder", "a.wav,oboe,1")
    write(tmp_path / "outside" / "a.wav")
    (folder / "a.wav").symlink_to(tmp_path / "outside" / "a.wav")
    assert_mentions(refusal(folder), "'a.wav'", "link")
    table(folder, "sub/a.wav,oboe,1")
    (folder / "sub").symlink_to(tmp_path / "outside")
    assert_mentions(refusal(folder), "'sub/a.wav'", "link")
    # Links within the folder, and a linked folder, are allowed.
    table(folder, "b.wav,oboe,1")
    write(folder / "c.wav")
    (folder / "b.wav").symlink_to(folder / "c.wav")
    (tmp_path / "link").symlink_to(folder)
    assert len(config(tmp_path / "link").entries()) == 1
    (folder / "c.wav").unlink()
    (folder / "c.wav").symlink_to(folder / "b.wav")
    assert isinstance(only(folder), UnusableClipError)


def test_equivalent_paths_count_as_one_file(tmp_path):
    for same in ("a.wav", "./a.wav", ".//a.wav"):
        assert_mentions(refusal(table(tmp_path, "a.wav,oboe,1", f"{same},oboe,2")), "one row", "'a.wav'", "two")


@pytest.mark.parametrize(
    ("fields", "facts"),
    [
        ({"factors": ()}, ["factors", "at least 1"]),
        ({"factors": ("a", "b", "a")}, ["factors", "twice"]),
        ({"clips_per_file": 0}, ["clips_per_file", "greater than or equal to 1", 0]),
        ({"shortest_s": 0.0}, ["shortest_s", "greater than 0"]),
        ({"colour": "red"}, ["colour", "extra"]),
    ],
)
def test_invalid_settings_are_rejected(tmp_path, fields, facts):
    with pytest.raises(ValidationError, match=mentions(*facts)):
        config(tmp_path, **fields)


def waveforms(folder, samples=RATE, **fields):
    found = config(folder, **fields)
    return waveforms_of(found, found.entries(), RATE, samples)


def only(folder, **fields):
    (found,) = waveforms(folder, **fields)
    return found


def test_a_clip_is_the_start_of_its_file(tmp_path):
    folder = table(tmp_path, "sub/a.wav,oboe,1")
    expected = write(folder / "sub" / "a.wav", 3.0, channels=2)
    found = only(folder)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[:RATE], atol=1e-6)


def test_short_files_are_padded_and_too_short_ones_rejected(tmp_path):
    folder = table(tmp_path, "a.wav,oboe,1")
    expected = write(folder / "a.wav", 0.3)
    found = only(folder)
    np.testing.assert_allclose(found[: len(expected)], expected, atol=1e-6)
    assert found.shape == (RATE,)
    assert not found[len(expected) :].any()
    assert only(folder, shortest_s=0.3).shape == (RATE,)
    assert_mentions(str(only(folder, shortest_s=0.31)), "short", "0.300 s", "0.31 s")


def test_the_minimum_length_may_exceed_a_clip(tmp_path):
    folder = table(tmp_path, "a.wav,oboe,1")
    expected = write(folder / "a.wav", 2.5)
    for clips in (1, 2):
        kept, *_ = waveforms(folder, shortest_s=2.5, clips_per_file=clips)
        np.testing.assert_allclose(kept, expected[:RATE], atol=1e-6)
        for reason in waveforms(folder, shortest_s=2.6, clips_per_file=clips):
            assert_mentions(str(reason), "short", "2.500 s", "2.6 s")


def test_clips_of_a_file_are_evenly_spaced(tmp_path):
    folder = table(tmp_path, "a.wav,oboe,1", "b.wav,flute,2")
    long, exact = write(folder / "a.wav", 9.0), write(folder / "b.wav", 5.0, seed=1)
    found = config(folder, clips_per_file=5)
    entries = found.entries()
    assert [entry.name for entry in entries[3:6]] == ["a.wav, clip 4 of 5", "a.wav, clip 5 of 5", "b.wav, clip 1 of 5"]
    assert Counter((entry.group, entry.values) for entry in entries) == {
        ("a.wav", ("oboe", 1.0)): 5,
        ("b.wav", ("flute", 2.0)): 5,
    }
    clips = waveforms_of(found, entries, RATE, RATE)
    for number in range(5):
        np.testing.assert_allclose(clips[number], long[2 * number * RATE :][:RATE], atol=1e-6)
        np.testing.assert_allclose(clips[5 + number], exact[number * RATE :][:RATE], atol=1e-6)


def test_overlapping_clips_are_rejected(tmp_path):
    folder = table(tmp_path, "a.wav,oboe,1")
    samples = write(folder / "a.wav", 3.5)
    *kept, fourth, fifth = waveforms(folder, clips_per_file=5)
    for clip, start in zip(kept, (0, 20_000, 40_000), strict=True):
        np.testing.assert_allclose(clip, samples[start:][:RATE], atol=1e-6)
    for missing in (fourth, fifth):
        assert isinstance(missing, UnusableClipError)
        assert_mentions(str(missing), "short", "clips")
    write(folder / "a.wav", 0.5)
    first, *others = waveforms(folder, clips_per_file=3)
    assert first.shape == (RATE,)
    assert [type(other) for other in others] == [UnusableClipError] * 2


def test_clips_do_not_depend_on_which_entries_are_loaded_together(tmp_path):
    folder = table(tmp_path, "a.wav,oboe,1", "b.wav,oboe,2")
    for seed, name in enumerate(("a.wav", "b.wav")):
        write(folder / name, 4.0, rate=44_100, seed=seed)
    found = config(folder, clips_per_file=3)
    entries = found.entries()
    together = waveforms_of(found, entries, RATE, RATE)
    for entry, clip in zip(entries, together, strict=True):
        (alone,) = waveforms_of(config(folder, clips_per_file=3), [entry], RATE, RATE)
        assert np.array_equal(alone, clip)
    for one, other in itertools.combinations(together, 2):
        assert not np.allclose(one, other)


def test_unusable_files_do_not_affect_other_files(tmp_path):
    folder = table(tmp_path, *(f"{name}.wav,oboe,1" for name in ("missing", "empty", "text", "good", "nan", "pipe")))
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("la la la " * 100)
    write(folder / "good.wav")
    soundfile.write(folder / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    os.mkfifo(folder / "pipe.wav")
    for clips in (1, 2):
        every = waveforms(folder, clips_per_file=clips)
        found = [str(clip) for clip in every if isinstance(clip, UnusableClipError)][::clips]
        assert_mentions(found[1], "empty")
        assert_mentions(found[2], "decoded", "Format not recognised")
    assert_mentions(str(waveforms(folder)[4]), "not finite")
    assert [isinstance(clip, UnusableClipError) for clip in waveforms(folder)] == [True, True, True, False, True, True]
    assert len(config(folder).digest()) == 64


def test_the_digest_covers_the_table_and_its_files(tmp_path):
    folder = table(tmp_path / "one", "a.wav,oboe,1", "b.wav,oboe,2")
    digests = [config(folder).digest()]
    assert config(folder).digest() == digests[0]
    for seed, name in enumerate(("a.wav", "b.wav")):
        write(folder / name, seed=seed)
        digests.append(config(folder).digest())
    write(folder / "b.wav", seed=7)
    digests.append(config(folder).digest())
    table(folder, "a.wav,oboe,1", "b.wav,oboe,3")
    digests.append(config(folder).digest())
    (folder / "a.wav").rename(folder / "c.wav")
    (folder / "b.wav").rename(folder / "a.wav")
    (folder / "c.wav").rename(folder / "b.wav")
    digests.append(config(folder).digest())
    assert len(set(digests)) == len(digests)
    write(folder / "other.wav")
    assert config(folder).digest() == digests[-1]
    folder.rename(tmp_path / "two")
    assert config(tmp_path / "two").digest() == digests[-1]


def survives(folder, **fields):
    try:
        for entry in config(folder, **fields).entries():
            assert all(value is None or type(value) in (str, float) for value in entry.values)
            assert all(np.isfinite(value) for value in entry.values if isinstance(value, float))
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200), st.text(alphabet='fileinstrumentake,;\r\n"\0\ufeff1.', max_size=100).map(str.encode)
    )
)
def test_any_table_is_read_or_rejected_in_one_line(tmp_path, content):
    (tmp_path / "factors.csv").write_bytes(content)
    survives(tmp_path)
    (tmp_path / "factors.csv").write_bytes(b"file,instrument,take\n" + content)
    survives(tmp_path)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=5))
def test_any_damaged_parquet_file_is_read_or_rejected_in_one_line(tmp_path, changes):
    frame = pd.DataFrame({"file": ["a.wav", "b.wav"], "instrument": ["x", "y"], "take": [1, 2]})
    data = bytearray(frame.to_parquet())
    for place, byte in changes:
        data[place % len(data)] = byte
    (tmp_path / "factors.parquet").write_bytes(data)
    survives(tmp_path, table="factors.parquet")
