"""Names of studies and plug-ins, and identities of trials and baselines."""

import re
from enum import StrEnum

from study.errors import UserError

STUDY_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
PLUGIN_SCHEMA = {"type": "string", "pattern": r"^[^\W\d][\w.]*:[^\W\d]\w*$"}
"""JSON Schema of the name of a plug-in, `module:name`."""
STUDY_NAME_RULE = "must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"


def is_study_name(name: str) -> bool:
    """Return whether a study can have this name. No such name is a path that leads out of the store."""
    return re.fullmatch(STUDY_NAME, name) is not None


def study_name(text: str) -> str:
    """Return the name of a study without the slash that shells complete; raise a UserError if it is not a name."""
    name = text.removesuffix("/")
    if not is_study_name(name):
        raise UserError(f"name of a study: {STUDY_NAME_RULE}; got {text!r}")
    return name


class Baseline(StrEnum):
    """Models that the trials of a study are compared with. They are not points of the search space."""

    PLAIN_VAE = "plain_vae"  # trained like a trial
    UNTRAINED = "untrained"

    @property
    def label(self) -> str:
        """Name of the baseline in a chart or a table."""
        return {Baseline.PLAIN_VAE: "plain VAE", Baseline.UNTRAINED: "untrained"}[self]


TrialId = int | Baseline
"""Number of a trial, or a baseline that is trained like one."""
