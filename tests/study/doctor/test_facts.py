"""What a machine finds out about itself."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from study.doctor.checks import check_disk
from study.doctor.facts import Facts, facts_here, packages_here
from study.environment import versions
from tests.messages import assert_mentions


def test_facts_travel_as_json():
    facts = facts_here()
    assert Facts.model_validate_json(facts.model_dump_json()) == facts
    assert facts.versions == versions()
    assert facts.cpus >= 1
    assert 0 < facts.available <= facts.memory
    assert facts.disks[0].folder == tempfile.gettempdir()


def test_of_two_installed_versions_of_a_package_the_imported_one_counts(tmp_path, monkeypatch):
    metadata = tmp_path / "rich-0.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: Rich\nVersion: 0.1\n")
    installed = packages_here()["rich"]
    assert installed != "0.1"
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])  # as setuptools does with what it brings along
    assert packages_here()["rich"] == installed
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert packages_here()["rich"] == "0.1"


def test_gpus_are_as_the_driver_lists_them(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'NVIDIA H200, 143771, 12, 570.86.15'\necho 'NVIDIA H200, 143771, [N/A], 570.86'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (gpu,) = facts_here().gpus
    assert (gpu.name, gpu.driver) == ("NVIDIA H200", "570.86.15")
    assert gpu.memory == 143771 * 1024**2
    program.write_text("#!/bin/sh\necho 'no driver' >&2\nexit 9\n")
    assert facts_here().gpus == ()


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("mount"), reason="only root may mount")
def test_a_small_full_disk_fails(tmp_path, monkeypatch):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        cache = facts_here().disks[1]
        assert Path(cache.folder).is_relative_to(tmp_path)
        found = check_disk(cache)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert found.verdict == "fail"
    assert_mentions(found.value, "4.19 MB free", "of 4.19 MB")


def test_a_cache_that_cannot_be_written_fails(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    assert check_disk(facts_here().disks[1]).verdict == "fail"
