"""Commands name the extra that they miss, and the extras of pyproject.toml are those that commands name."""

import tomllib
from importlib.util import find_spec

import pytest
from packaging.requirements import Requirement

from study import extras
from tests.messages import assert_mentions
from tests.study.commands import ROOT, run_here

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def names(requirements):
    """Return requirements without versions, such as ray[default]."""
    return {f"{one.name}{''.join(f'[{extra}]' for extra in one.extras)}" for one in map(Requirement, requirements)}


@pytest.mark.parametrize(
    ("extra", "module", "command"),
    [
        ("dashboard", "streamlit", ["dashboard"]),
        ("aws", "s3fs", ["ls", "--store", "s3://bucket/studies"]),
        ("gcs", "gcsfs", ["ls", "--store", "gs://bucket/studies"]),
        ("azure", "adlfs", ["ls", "--store", "az://container/studies"]),
        ("cluster", "boto3", ["resume", "tiny", "--cluster", "cluster.yaml"]),
        ("cluster", "aiohttp_cors", ["resume", "tiny", "--address", "http://127.0.0.1:1", "--store", "/studies"]),
    ],
)
def test_a_command_without_its_extra_names_the_package_and_the_extra(monkeypatch, extra, module, command):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == module else find_spec(name))
    outcome = run_here(*command)
    assert outcome.status == 2
    assert_mentions(outcome.err, extras._PACKAGES[extra][module], f"pip install 'marl-study[{extra}]'")
    assert len(outcome.err.splitlines()) == 1


def test_each_extra_that_a_command_names_installs_what_it_checks():
    for extra, packages in extras._PACKAGES.items():
        assert set(packages.values()) == names(EXTRAS[extra])


def test_the_base_installation_has_no_package_of_an_extra():
    of_extras = set().union(*(names(EXTRAS[extra]) for extra in EXTRAS if extra not in ("all", "dev")))
    assert len(of_extras) >= 7
    assert of_extras & names(PROJECT["dependencies"]) == set()


def test_all_is_every_extra_and_development_has_all():
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.extras == EXTRAS.keys() - {"all", "dev"}
    assert "marl-study[all]" in EXTRAS["dev"]
