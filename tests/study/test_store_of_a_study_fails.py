"""A whole study on an S3 server that fails while it runs. `make cluster-test` prints what each fault took."""

import threading
import time
from pathlib import Path

import pytest
import yaml

from study.analysis import StudyResults
from tests.study.commands import TINY, Running, run_command
from tests.study.faulty_s3 import FaultyS3, faulty_s3
from tests.study.s3_server import s3_server
from tests.study.stores import assert_same_values, results_of

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

# At least so long as the longest fault, so that the study goes through all of it.
SPEC = {**TINY, "train": {"steps": 3000, "batch_pairs": 16, "reports": 6}}


def minute_of_errors(faults: FaultyS3) -> None:
    faults.fails_for(60.0, 500)


def minute_of_silence(faults: FaultyS3) -> None:
    faults.hangs = True
    threading.Timer(60.0, lambda: setattr(faults, "hangs", False)).start()


def a_second_a_request(faults: FaultyS3) -> None:
    faults.delay_s = 1.0


def keys_refused_for_a_minute(faults: FaultyS3) -> None:
    faults.fails_for(60.0, 403)


def full_for_a_minute(faults: FaultyS3) -> None:
    faults.only = {"PUT"}
    faults.fails_for(60.0, 507)


def a_lost_part(faults: FaultyS3) -> None:
    faults.loses = "/reports/"


FAULTS = [
    minute_of_errors,
    minute_of_silence,
    a_second_a_request,
    keys_refused_for_a_minute,
    full_for_a_minute,
    a_lost_part,
]


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("faulty") / "tiny.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    return path


@pytest.fixture(scope="module")
def undisturbed(spec_path) -> tuple[StudyResults, float]:
    """The study, and the seconds that it took."""
    began = time.monotonic()
    outcome = run_command("run", spec_path, "--store", spec_path.parent / "undisturbed")
    assert outcome.status == 0, outcome.err
    return results_of(spec_path.parent / "undisturbed"), time.monotonic() - began


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_study_goes_through_it_and_has_the_values_of_one_undisturbed(
    fault, spec_path, undisturbed, tmp_path, monkeypatch
):
    theirs, seconds = undisturbed
    with s3_server(tmp_path / "s3") as server, faulty_s3(server) as faults:
        for name, value in faults.environment.items():
            monkeypatch.setenv(name, value)
        began = time.monotonic()
        with Running("run", spec_path, "--store", "s3://studies") as running:
            running.wait_for_line("\ntraining\n")
            fault(faults)
            status = running.wait(timeout_s=1200)
        assert status == 0, "".join(running.lines)
        longer_s = time.monotonic() - began - seconds
        faults.delay_s = 0.0
        ours = results_of("s3://studies")
        assert len(ours.runs) == 1
        assert_same_values(ours, theirs, check_dtype=False)
    print(f"\n{fault.__name__}: nothing lost, {longer_s:+.0f} s on {seconds:.0f} s")  # noqa: T201
