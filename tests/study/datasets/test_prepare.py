"""`marl-study data build` and `data describe`, as a user calls them."""

import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from study.datasets.prepared_set import PreparedSet
from study.storage import ObjectStore
from tests.messages import assert_mentions
from tests.study.commands import Outcome, Running, run_on_ray
from tests.study.datasets.recordings import vowel, write_recordings, write_spec
from tests.study.processes import wait_until

pytestmark = pytest.mark.slow
TIMGM = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")
THREE_HOURS_S = 3 * 60 * 60


def needs_a_font() -> None:
    """Skip the test without Debian's sound font, except in CI. `make test` installs it as root."""
    if not TIMGM.exists() and not os.environ.get("CI"):
        pytest.skip(f"no {TIMGM} (Debian's package timgm6mb-soundfont)")


def set_of(outcome, store) -> PreparedSet:
    """The set that `data build` named on stdout."""
    return PreparedSet(ObjectStore(str(store)), Path(outcome.out.strip()).name)


def three_hours(path: Path, sample_rate: int = 8_000) -> None:
    """A vowel, then nothing for three hours; of which a file system keeps hardly anything."""
    samples = THREE_HOURS_S * sample_rate
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + 2 * samples,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        sample_rate,
        2 * sample_rate,
        2,
        16,
        b"data",
        2 * samples,
    )
    with path.open("wb") as file:
        file.write(header + (vowel("a", 200.0, sample_rate) * 32767).astype("<i2").tobytes())
        file.truncate(len(header) + 2 * samples)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """240 recordings, and among them what recordings should not be."""
    folder = write_recordings(tmp_path_factory.mktemp("own") / "recordings")
    (folder / "corrupt.flac").write_bytes(b"fLaC" + bytes(range(256)) * 20)
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    three_hours(folder / "three hours.wav")
    soundfile.write(folder / "telephone.wav", vowel("e", 150.0, 8_000), 8_000)
    soundfile.write(folder / "short.wav", vowel("e", 150.0, 16_000, 0.05), 16_000)
    soundfile.write(folder / "again.flac", soundfile.read(folder / "singer-00/a-0.wav", dtype="int16")[0], 16_000)
    with (folder / "factors.csv").open("a", encoding="utf-8") as table:
        table.writelines(
            f"{name},a,123.4,low,99\r\n"
            for name in (
                "corrupt.flac",
                "silent.wav",
                "three hours.wav",
                "telephone.wav",
                "short.wav",
                "again.flac",
                "gone.wav",
            )
        )
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Where these are prepared."""
    return tmp_path_factory.mktemp("built") / "runs"


@pytest.fixture(scope="module")
def built(ray_of_process, folder, store) -> Outcome:
    """What the command said when they were."""
    outcome = run_on_ray("data", "build", write_spec(folder.parent / "voices.yaml", folder), "--store", store)
    assert outcome.status == 0, outcome.err
    return outcome


def test_unusable_files_are_reported_and_all_others_become_clips(built, store):
    table = set_of(built, store).table.set_index("name")
    rejected = table["rejected"].dropna().to_dict()
    facts = {
        "corrupt.flac": ["decoded"],
        "silent.wav": ["silent", "-60 dB"],
        "short.wav": ["short", "0.050 s", "0.1 s"],
        "again.flac": ["singer-00/a-0.wav"],
        "gone.wav": [],
    }
    assert rejected.keys() == facts.keys()
    for name, reason in rejected.items():
        assert_mentions(reason, *facts[name])
    assert_mentions(built.err, "242 clips", "folder", 5)
    assert_mentions(built.err, "corrupt.flac", "decoded")
    assert table.loc["three hours.wav", "sounds_s"] == pytest.approx(1.0, abs=0.01)
    assert table.loc["telephone.wav", "sounds_s"] == pytest.approx(1.0, abs=0.01)


def test_a_second_build_reuses_the_prepared_set(cli, built, folder, store, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    # How it is split, and what a study does with it, make no other set.
    spec = write_spec(tmp_path / "other.yaml", folder, name="other", views={"shared": ["voice"]})
    again = cli("data", "build", spec, "--store", store, "--set", "data.split=clip")
    assert (again.status, again.out) == (0, built.out)
    assert_mentions(again.err, "already")
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()} == before


def test_changed_audio_files_give_another_set(cli_on_ray, tmp_path):
    own = write_recordings(tmp_path / "recordings", singers=10, pitches=1)
    spec, store = write_spec(tmp_path / "voices.yaml", own), tmp_path / "runs"
    first = cli_on_ray("data", "build", spec, "--store", store)
    soundfile.write(own / "singer-00/a-0.wav", vowel("o", 300.0, 16_000), 16_000)
    second = cli_on_ray("data", "build", spec, "--store", store)
    assert first.status == second.status == 0
    assert first.out != second.out


def test_a_killed_build_continues_with_the_missing_chunks(cli_on_ray, tmp_path):
    needs_a_font()
    store, spec = tmp_path / "runs", tmp_path / "notes.yaml"
    write_spec(
        spec,
        tmp_path,
        name="notes",
        data={"kind": "soundfont", "instruments": [0, 40], "velocities": list(range(20, 128, 14))},
        views={"shared": ["instrument", "family"]},
    )
    with Running("data", "build", spec, "--store", store) as building:
        building.wait_for_line("preparing 768 clips of soundfont")
        sets = store / "_data"
        wait_until(lambda: len(list(sets.glob("*/chunks/*.parquet"))) >= 2, 120, lambda: "two chunks were not written")
        building.kill()
    before = {path: path.stat().st_mtime_ns for path in sets.glob("*/chunks/*.parquet")}
    assert not list(sets.glob("*/set.json"))
    outcome = cli_on_ray("data", "build", spec, "--store", store)
    assert outcome.status == 0, outcome.err
    assert_mentions(outcome.err, "768 clips", "soundfont", "prepared")
    assert 2 <= len(before) < 6
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(set_of(outcome, store).rows) == 768


def test_sets_can_be_prepared_in_and_described_from_a_bucket(cli, cli_on_ray, s3_of_ray, tmp_path, monkeypatch):
    for name, value in s3_of_ray.environment.items():
        monkeypatch.setenv(name, value)
    own = write_recordings(tmp_path / "recordings", singers=10, pitches=2)
    shutil.copy(own / "singer-00/a-0.wav", own / "again.wav")
    with (own / "factors.csv").open("a", encoding="utf-8") as table:
        table.write("again.wav,a,123.4,low,99\r\n")
    spec, store = write_spec(tmp_path / "voices.yaml", own), f"s3://studies/{tmp_path.name}"
    outcome = cli_on_ray("data", "build", spec, "--store", store)
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith(f"{store}/_data/")
    examples = tmp_path / "examples"
    found = cli("data", "describe", spec, "--store", store, "--examples", examples)
    assert found.status == 0, found.err
    for part in ("80 clips", "training", "without a partner", "vowel", "loudness", "again.wav"):
        assert part in found.out
    heard, sample_rate = soundfile.read(sorted(examples.iterdir())[0])
    assert (len(heard), sample_rate) == (16_000, 16_000)


@pytest.mark.usefixtures("built")
def test_the_json_description_has_the_accuracy_on_raw_log_mels(cli, folder, store, tmp_path):
    spec = write_spec(tmp_path / "voices.yaml", folder)
    found = cli("data", "describe", spec, "--store", store, "--json")
    rows = {row["factor"]: row for row in json.loads(found.out)}
    assert rows.keys() == {"vowel", "f0", "voice"}
    assert rows["vowel"]["read"] > 0.95
    assert rows["vowel"]["chance"] == 0.25
    assert 0.05 < rows["voice"]["unknown"] < 0.15


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        (
            {"data": {"kind": "folder", "path": "nowhere", "factors": ["a", "b"]}},
            ["data", "path", "folder", "nowhere"],
        ),
        (
            {"data": {"kind": "soundfont", "path": "none.sf2"}},
            ["data", "path", ".sf2", ".sf3", "none.sf2"],
        ),
        (
            {"data": {"kind": "nsynth", "path": "nowhere"}},
            ["data", "path", "folder", "examples.json", "nowhere"],
        ),
        (
            {"data": {"kind": "phrases", "rhythms": ["waltz", "straight"]}},
            ["data.rhythms", "straight", "waltz"],
        ),
        ({"data": {"kind": "syntone"}}, ["syntone", "preparation"]),
    ],
)
def test_invalid_specs_are_rejected_and_nothing_is_written(cli, tmp_path, changes, facts):
    shared = {"folder": "a", "soundfont": "family", "nsynth": "family", "phrases": "melody", "syntone": "timbre"}
    spec = write_spec(tmp_path / "spec.yaml", tmp_path, **changes, views={"shared": [shared[changes["data"]["kind"]]]})
    outcome = cli("data", "build", spec, "--store", tmp_path / "runs")
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 1
    assert_mentions(outcome.err, *facts)
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_reports_data_that_is_not_prepared(cli, folder, tmp_path):
    spec = write_spec(tmp_path / "voices.yaml", folder)
    outcome = cli("run", spec, "--store", tmp_path / "runs", "--dry-run")
    assert outcome.status == 2
    assert_mentions(outcome.err, "data", "marl-study data build")
