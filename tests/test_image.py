"""The Dockerfile and what `docker build` sends: rules that need no Docker."""

import re
import subprocess
from pathlib import PurePosixPath

import pytest
from packaging.requirements import Requirement

from tests.study.commands import ROOT

# Instructions without comments, each with the lines that continue it.
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"(?m)^#.*\n|\\\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()
    if line.strip()
]
PATTERNS = [
    line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"
]


def arguments(name):
    return [argument for instruction, argument in INSTRUCTIONS if instruction == name]


def is_sent(path):
    """Return whether Docker copies a file: the last pattern for the file, or for a folder above it, decides."""
    sent = True
    for pattern in PATTERNS:
        place = pattern.removeprefix("!")
        anywhere = place.removeprefix("**/")
        is_nested = anywhere != place and anywhere in path.split("/")
        if place == "*" or is_nested or PurePosixPath(path).is_relative_to(place):
            sent = place != pattern
    return sent


def test_the_image_has_every_file_of_the_commit_so_that_the_commit_is_not_recorded_as_changed():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a checkout of git")
    files = done.stdout.splitlines()
    assert len(files) > 300
    assert [path for path in files if not is_sent(path)] == []
    assert is_sent(".git/HEAD")
    assert is_sent(".git/objects/pack/one.pack")


@pytest.mark.parametrize(
    "path",
    [
        "runs/quickstart/study.json",
        "exported/quickstart-trial-3-seed-1/model.safetensors",
        "recordings/private.wav",
        ".venv/bin/python",
        ".env",
        "marl/__pycache__/audio.cpython-311.pyc",
        "benchmarks/results/study.json",
        ".git/config",
        ".git/hooks/pre-push",
    ],
)
def test_the_image_has_no_studies_secrets_or_caches_of_the_working_tree(path):
    assert not is_sent(path)


def test_the_image_is_built_from_a_named_python_that_the_project_supports():
    (base,) = arguments("FROM")
    version = re.fullmatch(r"python:(3\.\d+)-slim-\w+", base)
    assert version
    assert version[1] in ("3.11", "3.12", "3.13")


def test_processes_of_the_image_are_not_root_and_own_what_is_copied():
    (user,) = arguments("USER")
    assert user.isdigit(), "Kubernetes cannot tell from a name that it is not root"
    assert int(user) > 0
    first_copy = next(place for place, (name, _) in enumerate(INSTRUCTIONS) if name == "COPY")
    assert ["USER", user] in INSTRUCTIONS[:first_copy]
    assert all(argument.startswith(f"--chown={user} ") for argument in arguments("COPY"))
    assert arguments("ADD") == []


def test_steps_leave_neither_package_lists_nor_caches():
    (system,) = [step for step in arguments("RUN") if "apt-get" in step]
    assert "--no-install-recommends" in system
    assert "rm -rf /var/lib/apt/lists/*" in system
    (environment,) = arguments("ENV")
    assert {"UV_NO_CACHE=1", "PIP_NO_CACHE_DIR=1"} <= set(environment.split())
    assert not any(re.search(r"\bsudo\b|\bcd /|;\s*apt-get", step) for step in arguments("RUN"))


def test_dependencies_are_installed_from_the_lock_before_the_code_is_copied():
    copied = [argument.split()[1:-1] for argument in arguments("COPY")]
    assert copied == [["Makefile", "requirements.lock", "pyproject.toml"], ["."]]
    steps = [argument for _, argument in INSTRUCTIONS]
    install = next(place for place, step in enumerate(steps) if "--constraints requirements.lock" in step)
    assert install < steps.index("--chown=1000 . .")


def test_the_build_argument_for_processors_names_the_locked_torch():
    assert arguments("ARG") == ["TORCH=cuda"]
    (pattern,) = re.findall(r"grep -oE '([^']+)' requirements.lock", " ".join(arguments("RUN")))
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [match[0] for line in lines if (match := re.match(pattern, line))]
    assert {Requirement(pin).name for pin in pins} == {"torch", "torchaudio"}
    assert all("==" in pin for pin in pins)
