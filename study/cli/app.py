"""The `marl-study` application: its commands, its global options, and how it exits.

Results go to stdout, everything else to stderr. Exit status: 0 when the command succeeded, 1 when it failed, 2 when
its arguments are wrong, 130 after Ctrl-C.
"""

import os
import sys
import warnings
from importlib.metadata import version
from typing import Annotated

import typer

from study.cli.common import configure_logging, exit_status, show_warning
from study.cli.inspect import dashboard, leakage, ls, plot, report, results, status
from study.cli.manage import clean, delete, export, logs, stop, verify
from study.cli.models import embed, swap
from study.cli.prepare import compile_stacks, data, doctor
from study.cli.run import rescore, resume, run

__all__ = ["main"]

app = typer.Typer(
    help="Hyperparameter studies of self-supervised multi-view representation learning of music audio.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (doctor, run, resume, ls, status, logs, stop, results, leakage, plot, report, dashboard, export):
    app.command()(command)
app.command("compile")(compile_stacks)
for command in (verify, embed, swap, rescore, clean, delete):  # type: ignore[assignment]  # any function is a command
    app.command()(command)
app.add_typer(data, name="data")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"marl-study {version('marl-study')}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Log more: -v for progress, -vv for debugging.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Hyperparameter studies of self-supervised multi-view representation learning of music audio."""
    configure_logging(verbose, quiet)


def main() -> None:
    """Run a command. An error is reported in one line that says what to do."""
    warnings.showwarning = show_warning
    try:
        sys.exit(exit_status(app))
    except BrokenPipeError:  # the reader of the output has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
