"""Errors that the command line reports in one line, and the commands that its messages suggest.

This module imports nothing of the project, so that `--help` starts quickly.
"""

import shlex
from pathlib import Path

__all__ = ["DEFAULT_STORE", "Interrupted", "RunError", "UnreadableObject", "UserError", "command_for"]

DEFAULT_STORE = "runs"
"""Folder of studies where `--store` is not given."""


def command_for(study_uri: str, command: str) -> str:
    """Return the shell command for a command of `marl-study` on the study at `StudyStore.uri`."""
    store, _, study = study_uri.rpartition("/")
    option = "" if store == str(Path(DEFAULT_STORE).absolute()) else f" --store {shlex.quote(store)}"
    return f"marl-study {command} {shlex.quote(study)}{option}"


class UserError(Exception):
    """The command, the spec or the environment is wrong: nothing was changed, and the command exits with 2."""


class RunError(Exception):
    """The command is valid, but failed while it ran: it exits with 1."""


class Interrupted(BaseException):
    """The user stopped the run. All progress is in the store.

    It is no Exception, like KeyboardInterrupt, so that no handler of errors catches it and spends time on cleaning up.
    """


class UnreadableObject(UserWarning):
    """An object of the store is truncated or corrupt and was left out."""
