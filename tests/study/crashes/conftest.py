"""The study that is killed, and the same study undisturbed."""

from pathlib import Path

import pytest
import yaml

from study.results import StudyResults
from tests.study.commands import run_command
from tests.study.crashes.mortal import SPEC, environment, results_of


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("crash") / "mortal.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    return path


@pytest.fixture(scope="module")
def undisturbed(spec_path) -> StudyResults:
    store = spec_path.parent / "undisturbed"
    outcome = run_command("run", spec_path, "--store", store, env=environment())
    assert outcome.status == 0, outcome.err
    return results_of(store)
