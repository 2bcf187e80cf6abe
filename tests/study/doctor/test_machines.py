"""What facts of a machine say."""

import pytest

from study.doctor.checks import (
    check_disk,
    check_gpu,
    check_lock,
    check_machine,
    check_token,
    check_versions,
    locked_versions,
    merge_findings,
)
from study.doctor.facts import Disk, Gpu, facts_here
from study.environment import versions
from tests.messages import assert_mentions

MINE = {"python": "3.11.7", "torch": "2.11.0", "ray": "2.60.0", "code": "0123456789ab"}
GB = 1_000_000_000


def test_the_versions_of_this_process_pass():
    assert check_versions(versions(), versions()).verdict == "pass"


@pytest.mark.parametrize("name", MINE)
def test_another_version_fails_and_both_are_named(name):
    found = check_versions({**MINE, name: "another"}, MINE)
    assert found.verdict == "fail"
    assert_mentions(found.value, f"{name} another", MINE[name])
    assert "requirements.lock" in found.advice


def test_a_version_that_a_machine_does_not_tell_is_another():
    without = {name: version for name, version in MINE.items() if name != "code"}
    assert_mentions(check_versions(without, MINE).value, "code unknown", "0123456789ab")


def test_the_installed_packages_are_the_locked_ones():
    lock = locked_versions()
    assert {"torch", "torchaudio", "ray", "optuna"} <= lock.keys()
    assert check_lock(facts_here().packages, lock).verdict == "pass"


def test_a_package_of_another_version_is_named_and_fails_if_results_depend_on_it():
    lock = {"rich": "15.0", "torch": "2.11.0", "optuna": "5.0.0"}
    assert check_lock({**lock, "unlocked": "1.0"}, lock).verdict == "pass"
    found = check_lock({**lock, "rich": "14.0"}, lock)
    assert (found.verdict, found.value) == ("warn", "rich 14.0, locked 15.0")
    found = check_lock({**lock, "rich": "14.0", "torch": "2.10.0"}, lock)
    assert (found.verdict, found.value) == ("fail", "torch 2.10.0, locked 2.11.0, rich 14.0, locked 15.0")


def test_a_gpu_whose_memory_others_hold_is_a_warning():
    gpu = Gpu(name="H200", memory=150 * GB, used=1 * GB, driver="570.1")
    assert check_gpu(gpu).value == "H200, 150 GB, driver 570.1"
    assert check_gpu(gpu).verdict == "pass"
    assert check_gpu(gpu.model_copy(update={"used": 20 * GB})).verdict == "warn"


@pytest.mark.parametrize(
    ("free", "total", "is_writable", "verdict"),
    [
        (50 * GB, 100 * GB, True, "pass"),
        (4 * GB, 20 * GB, True, "warn"),
        (40 * GB, 1000 * GB, True, "warn"),  # Ray writes nothing to a disk that is so full
        (GB - 1, 10 * GB, True, "fail"),
        (50 * GB, 100 * GB, False, "fail"),
    ],
)
def test_the_verdict_on_a_disk_depends_on_its_free_space(free, total, is_writable, verdict):
    found = check_disk(Disk(folder="/tmp", total=total, free=free, is_writable=is_writable))
    assert found.verdict == verdict
    assert bool(found.advice) == (verdict != "pass")


def test_little_memory_is_reported():
    facts = facts_here()

    def verdict(available):
        machine = facts.model_copy(update={"available": available, "memory": 64 * GB})
        return next(found for found in check_machine(machine, versions(), {}) if found.check == "memory").verdict

    assert [verdict(size) for size in (8 * GB, 3 * GB, GB)] == ["pass", "warn", "fail"]


def test_a_cluster_without_a_token_fails():
    assert check_token(True).verdict == "pass"
    found = check_token(False)
    assert found.verdict == "fail"
    assert "ray get-auth-token" in found.advice


def test_machines_with_equal_findings_share_a_line():
    same = [check_versions(MINE, MINE)._replace(where=(host,)) for host in ("a", "b")]
    other = check_versions({**MINE, "ray": "2.59.0"}, MINE)._replace(where=("c",))
    assert [found.where for found in merge_findings([same[0], other, same[1]])] == [("a", "b"), ("c",)]
