"""The command line `marl-study`: a module for each group of commands, which import what they need when they run.

Results go to stdout, everything else to stderr. Exit status: 0 when the command succeeded, 1 when it failed, 2 when
its arguments are wrong, 130 after Ctrl-C.
"""

import io
import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    import typer

__all__ = ["main"]


def main() -> None:
    """Run a command. An error is reported in one line that says what to do."""
    try:
        from study.cli.common import common_options_first, exit_status, show_warning
        from study.errors import command_line

        warnings.showwarning = show_warning
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # not every encoding has all characters
        with command_line():
            sys.exit(exit_status(partial(_app(), common_options_first(sys.argv[1:]))))
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)


def _app() -> "typer.Typer":
    """Return all commands, and the options before a command. `main` handles Ctrl-C while this imports the commands."""
    import typer

    from study.cli import manage, models, prepare, results, run, spec
    from study.cli.common import configure_logging

    app = typer.Typer(
        help="Hyperparameter studies of self-supervised multi-view representation learning of music audio.",
        context_settings={"help_option_names": ["-h", "--help"]},
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    command: Callable[..., None]
    for command in (spec.init, spec.validate, spec.metrics, spec.schema):
        app.command()(command)
    for command in (prepare.doctor, run.run, run.resume, manage.ls, manage.status, manage.logs, manage.stop):
        app.command()(command)
    for command in (results.results, results.leakage, results.plot, results.report, results.dashboard, models.export):
        app.command()(command)
    app.command("compile")(prepare.compile_stacks)
    for command in (models.verify, models.embed, models.swap, run.rescore, manage.clean, manage.delete):
        app.command()(command)
    app.add_typer(prepare.data, name="data")

    def print_version(is_asked: bool) -> None:
        if is_asked:
            typer.echo(f"marl-study {version('marl-study')}")
            raise typer.Exit

    @app.callback()
    def options(
        verbose: Annotated[
            int, typer.Option("--verbose", "-v", count=True, help="Log more: -v for progress, -vv for debugging.")
        ] = 0,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log errors only.")] = False,
        debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
        show_version: Annotated[
            bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit.")
        ] = False,
    ) -> None:
        """Hyperparameter studies of self-supervised multi-view representation learning of music audio."""
        configure_logging(verbose, quiet)

    return app
