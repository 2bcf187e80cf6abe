"""All commands of `marl-study`, and the options before a command."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from study.cli import inspect, manage, models, prepare, run
from study.cli.common import configure_logging

__all__ = ["app"]

app = typer.Typer(
    help="Hyperparameter studies of self-supervised multi-view representation learning of music audio.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
command: Callable[..., None]
for command in (prepare.doctor, run.run, run.resume, inspect.ls, inspect.status, manage.logs, manage.stop):
    app.command()(command)
for command in (inspect.results, inspect.leakage, inspect.plot, inspect.report, inspect.dashboard, manage.export):
    app.command()(command)
app.command("compile")(prepare.compile_stacks)
for command in (manage.verify, models.embed, models.swap, run.rescore, manage.clean, manage.delete):
    app.command()(command)
app.add_typer(prepare.data, name="data")


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
