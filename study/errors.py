"""Errors that the command line reports in one line, and the commands that its messages suggest.

This module imports nothing of the project, so that `--help` starts quickly.
"""

import shlex
from pathlib import Path

__all__ = ["DEFAULT_STORE", "Interrupted", "RunError", "UnreadableObject", "UserError", "command_for"]

DEFAULT_STORE = "runs"
"""Folder of studies where `--store` is not given."""


def command_for(study_uri: str, command: str) -> str:
    """Return the shell command that applies a command of `marl-study` to a study.

    Args:
        study_uri: Address of the study, `StudyStore.uri`. `--store` is left out for the default store.
        command: Name of the command.
    """
    store, _, study = study_uri.rpartition("/")
    option = "" if store == str(Path(DEFAULT_STORE).absolute()) else f" --store {shlex.quote(store)}"
    return f"marl-study {command} {shlex.quote(study)}{option}"


class UserError(Exception):
    """The user's words or surroundings are wrong: nothing was changed, and the command exits with 2."""


class RunError(Exception):
    """The command was understood, but what it did failed: it exits with 1."""


class Interrupted(BaseException):
    """The run was stopped by the user; everything that was trained is in the store.

    Like KeyboardInterrupt it is no Exception, so that nothing on its way up takes it for an error and tidies up at
    length.
    """


class UnreadableObject(UserWarning):
    """An object of the store is truncated or corrupt and was left out."""
