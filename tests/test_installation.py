"""What `make` installs: requirements.lock agrees with pyproject.toml on each platform, and uv comes from it."""

import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain

import pytest
import yaml
from packaging.requirements import Requirement

from tests.study.commands import ROOT

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
# One entry of the lock: the pin, then its hashes on lines that the line before continues.
ENTRIES = re.findall(r"^([A-Za-z0-9].*?)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$", LOCK, flags=re.MULTILINE)
PINS = [Requirement(pin) for pin, _ in ENTRIES]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PLATFORMS = {
    "Linux x86-64": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    "Linux arm64": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    "macOS arm64": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
}


def pins_of(platform: str, python: str) -> dict[str, str]:
    """Return the locked versions by name on a platform."""
    environment = {**PLATFORMS[platform], "python_version": python, "python_full_version": f"{python}.0"}
    chosen = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(environment)]
    versions = {pin.name: str(pin.specifier).removeprefix("==") for pin in chosen}
    assert len(versions) == len(chosen), "a package has two versions on one platform"
    return versions


def test_each_pin_has_hashes_and_the_lock_names_no_package_index():
    assert len(ENTRIES) > 100
    assert [pin for pin, hashes in ENTRIES if not hashes] == []
    assert "://" not in LOCK
    assert "index-url" not in LOCK


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_lock_satisfies_all_dependencies_on_each_platform(platform, python):
    versions = pins_of(platform, python)
    dependencies = chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for dependency in map(Requirement, dependencies):
        if dependency.name == PROJECT["name"]:  # an extra that includes others
            continue
        assert dependency.specifier.contains(versions[dependency.name]), dependency


def test_libraries_of_nvidia_are_locked_for_linux_alone():
    def packages_for_gpus(platform: str) -> list[str]:
        return [name for name in pins_of(platform, "3.11") if name.startswith(("nvidia-", "cuda-", "triton"))]

    assert len(packages_for_gpus("Linux x86-64")) > 10
    assert packages_for_gpus("Linux arm64") == packages_for_gpus("Linux x86-64")
    assert packages_for_gpus("macOS arm64") == []


@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
def test_pages_name_the_locked_torch_for_machines_without_a_gpu(page):
    versions = pins_of("Linux x86-64", "3.11")
    text = (ROOT / page).read_text(encoding="utf-8")
    assert f"--torch-backend cpu torch=={versions['torch']} torchaudio=={versions['torchaudio']}" in text


def test_the_citation_has_the_version_and_licence_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert [citation[name] for name in ("title", "version", "license")] == [
        PROJECT[name] for name in ("name", "version", "license")
    ]
    assert citation["authors"] == PROJECT["authors"]


def test_the_installation_page_names_every_extra():
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert [extra for extra in PROJECT["optional-dependencies"] if extra != "dev" and f"`{extra}`" not in text] == []


@pytest.fixture
def checkout(tmp_path):
    """Return a folder with the files that `make` reads, and a Python that only records its arguments."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    programs = tmp_path / "venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text('#!/bin/sh\necho "$@" >>commands\n')
    (programs / "python").chmod(0o755)
    return tmp_path


def make(checkout, target, python=sys.executable):
    command = ["make", f"PYTHON={python}", "VENV=venv", target]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=60, check=False)


def test_pip_installs_uv_alone_and_checks_its_hashes(checkout):
    assert make(checkout, "venv/bin/uv").returncode == 0
    assert "--require-hashes -r venv/uv.txt" in (checkout / "commands").read_text()
    (uv,) = [pin for pin, _ in ENTRIES if pin.startswith("uv==")]
    pin, *hashes = (checkout / "venv" / "uv.txt").read_text().splitlines()
    assert pin == f"{uv} \\"
    assert len(hashes) > 3
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?", line) for line in hashes)
    assert not hashes[-1].endswith("\\")


def test_an_old_python_is_refused_with_its_version(checkout):
    old = checkout / "old-python"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10); $2"\n')
    old.chmod(0o755)
    outcome = make(checkout, "venv/bin/uv", old)
    assert outcome.returncode != 0
    assert "Python 3.11 or later is needed" in outcome.stderr
    assert not (checkout / "commands").exists()


def test_uv_checks_hashes_and_trusts_the_certificates_of_the_system(checkout):
    uv = checkout / "venv" / "bin" / "uv"
    uv.write_text('#!/bin/sh\necho "$@" >>commands\n')
    uv.chmod(0o755)
    assert make(checkout, "venv/.installed").returncode == 0
    pins, project = (checkout / "commands").read_text().splitlines()
    assert "--require-hashes -r requirements.lock" in pins
    assert "--editable ." in project
    assert all("--system-certs" in command for command in (pins, project))
