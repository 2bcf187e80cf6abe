"""The command line: `marl-study …`.

Machine-readable output goes to stdout, everything else to stderr. It exits with 0 when done, 1 when what was asked for
failed, 2 when the words were wrong, and 130 when it was stopped by Ctrl-C.
"""

import os
import sys
import warnings
from typing import Annotated

import typer

from study.cli.data import data
from study.cli.inspect import dashboard, leakage, ls, plot, report, results, status
from study.cli.machines import doctor, warm
from study.cli.manage import delete, export, logs, prune, stop, verify
from study.cli.models import embed, swap
from study.cli.run import rescore, resume, run
from study.cli.terminal import exit_status, show_warning

__all__ = ["main"]

app = typer.Typer(
    help="Hyperparameter studies of self-supervised multi-view representation learning of music audio.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    doctor,
    warm,
    run,
    resume,
    ls,
    status,
    logs,
    stop,
    results,
    leakage,
    plot,
    report,
    dashboard,
    export,
    verify,
    embed,
    swap,
    rescore,
    prune,
    delete,
):
    app.command()(command)
app.add_typer(data, name="data")


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Hyperparameter studies of self-supervised multi-view representation learning of music audio."""


def main() -> None:
    """Run a command; every error is one line that says what to do."""
    warnings.showwarning = show_warning
    try:
        sys.exit(exit_status(app))
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
