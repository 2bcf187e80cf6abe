"""What the commands share: options, output on stdout and stderr, logging, and the exit status."""

import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from study.errors import Interrupted, RunError, UnreadableObject, UserError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from study.analysis import StudyResults
    from study.spec.resolved_spec import ResolvedSpec
    from study.store import StudyStore

_COMMON_OPTION = re.compile(r"-v+|-q|--verbose|--quiet|--debug")

StoreOption = Annotated[
    str, typer.Option("--store", envvar="MARL_STORE", help="Folder or s3://bucket/prefix that holds the studies.")
]


def _study_name(text: str) -> str:
    from study.spec import study_name

    return study_name(text)


def spec_path(path: Path | None) -> Path | None:
    """Return the path of a spec, which is stdin for `-`."""
    return Path("/dev/stdin") if path == Path("-") else path


StudyArgument = Annotated[str, typer.Argument(help="Name of the study.", callback=_study_name)]
SpecArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SPEC", help="YAML file of the study, name of a ready study, or - for stdin.", callback=spec_path
    ),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a field of the spec.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AddressOption = Annotated[
    str | None, typer.Option(help="Cluster to use: http://HOST:8265 of its dashboard, or `auto` on its head node.")
]
ClusterOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Run on the cluster that `ray up FILE` started.")
]
PluginOption = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="MODULE:NAME", help="Plug-in that may be imported; may be repeated."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]

Format = StrEnum("Format", ["table", "csv", "json"])
FormatOption = Annotated[Format, typer.Option("--format", help="table, csv or json.")]


def format_of(output: Format, as_json: bool) -> Format:
    """Return the format that the options `--format` and `--json` ask for."""
    if as_json and output is Format.csv:
        raise UserError("--format and --json: give one of them; got csv and --json")
    return Format.json if as_json else output


def print_table(table: "pd.DataFrame", output: Format) -> None:
    """Write a data frame to stdout as CSV or JSON."""
    if output is Format.csv:
        typer.echo(table.to_csv(index=False), nl=False)
    else:
        typer.echo(table.to_json(orient="records", indent=1, date_format="iso"))


def read_spec(spec_file: Path, overrides: list[str] | None = None, trials: int | None = None) -> "ResolvedSpec":
    """Return the resolved spec of a file with the changes of options; log a warning for what may be a mistake."""
    from study.spec.resolve import read_spec as read
    from study.spec.resolve import unusual_objectives

    resolved = read(spec_file, overrides or (), trials)
    for sentence in unusual_objectives(resolved.spec):
        log(f"warning: {sentence}")
    return resolved


def open_study(store: str, study: str) -> "StudyStore":
    """Return the study of a name in a store. pandas and pyarrow are imported here, not when a command is parsed."""
    from study.storage import ObjectStore
    from study.store import StudyStore

    return StudyStore(ObjectStore(store), study)


def open_results(store: str, study: str) -> "StudyResults":
    """Return the results of a study."""
    from study.analysis import StudyResults

    return StudyResults(open_study(store, study))


def permit_plugins(store: "StudyStore", names: Iterable[str] | None) -> None:
    """Import plug-ins of a study that the user names, for a command that otherwise imports none."""
    if names:
        from study.spec.plugins import load_recorded

        metadata = store.metadata()
        load_recorded(metadata.spec, metadata.plugins, names)


def check_output(
    option: str, output: Path, overwrite: bool, suffixes: tuple[str, ...] = (), inputs: Iterable[str | Path] = ()
) -> None:
    """Raise UserError unless a command may write a file.

    It replaces an existing file with `--overwrite` only, and never one of its inputs.
    """
    if suffixes and output.suffix.lower() not in suffixes:
        raise UserError(f"{option}: must end in {' or '.join(suffixes)}; got {output}")
    try:
        if not output.parent.is_dir():
            raise UserError(f"{option}: there is no folder {output.parent}")
        if output.is_dir():
            raise UserError(f"{option}: must be a file; {output} is a folder")
        if output.exists():
            if any(Path(path).exists() and output.samefile(path) for path in inputs):
                raise UserError(f"{option}: must be a new file; {output} is an input of the command")
            if not output.is_file():
                raise UserError(f"{option}: must be a regular file; got {output}")
        if not overwrite and (output.exists() or output.is_symlink()):
            raise UserError(f"{option}: {output} already exists; choose another name, or replace it with --overwrite")
    except OSError as error:
        raise UserError(f"{option}: cannot write {output}: {error.strerror}") from None


def check_output_folder(option: str, folder: Path, overwrite: bool) -> None:
    """Raise UserError unless a command may write files into the folder: it is new, empty, or given `--overwrite`."""
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{option}: must be a folder; {folder} is a file")
        if not overwrite and folder.is_dir() and any(folder.iterdir()):
            raise UserError(
                f"{option}: {folder} already holds files; choose a new folder, or replace files in it with --overwrite"
            )
    except OSError as error:
        raise UserError(f"{option}: cannot write {folder}: {error.strerror}") from None


def common_options_first(words: list[str]) -> list[str]:
    """Return the words of a command line with the common options in front: `ls -v` is `-v ls`."""
    end = words.index("--") if "--" in words else len(words)
    common = [word for word in words[:end] if _COMMON_OPTION.fullmatch(word)]
    return [*common, *(word for word in words[:end] if word not in common), *words[end:]]


_PIPE_WIDTH = 200
_INTERRUPTED = 130
# Longer cells may be broken at spaces, so that a column of sentences does not push out the others.
_MAX_UNBROKEN = 20
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


@cache
def stderr() -> "Console":
    """Return the console for messages."""
    from rich.console import Console

    class MessageConsole(Console):
        def on_broken_pipe(self) -> None:
            """Continue without messages if their reader has ended."""
            _discard(sys.stderr)

    return MessageConsole(stderr=True, highlight=False)


def stdout() -> "Console":
    """Return the console for tables. A pipe has no width, so tables are not folded for it."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def show_table(table: "Table") -> None:
    """Print a table on stdout. On a terminal that is too narrow, columns at the right are left out, and named."""
    console = stdout()
    hidden = drop_columns(table, console) if console.is_terminal else []
    console.print(table)
    if hidden:
        log(f"left out of a narrow terminal: {', '.join(hidden)}; widen it, or pipe the output")


def drop_columns(table: "Table", console: "Console") -> list[str]:
    """Remove columns from the right until the table fits the console, and return their headings."""
    from rich.cells import cell_len

    for column in table.columns:
        column.min_width = min(_MAX_UNBROKEN, max((cell_len(str(cell)) for cell in column.cells), default=0))
    hidden: list[str] = []
    unbounded = console.options.update_width(10_000)
    while len(table.columns) > 1 and console.measure(table, options=unbounded).minimum > console.width:
        hidden.insert(0, str(table.columns.pop().header).replace(".\n", ".").replace("\n", " "))
    return hidden


def log(line: str) -> None:
    """Print a line on stderr, without markup and without folding it."""
    stderr().print(line, markup=False, soft_wrap=True)


def configure_logging(verbose: int, quiet: bool) -> None:
    """Send the log records of this project to stderr, at the level that -v and -q ask for."""
    from rich.logging import RichHandler

    level = logging.ERROR if quiet else _LEVELS[min(verbose, len(_LEVELS) - 1)]
    handler = RichHandler(console=stderr(), show_path=verbose > 1, rich_tracebacks=False)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    for package in ("marl", "study"):
        logger = logging.getLogger(package)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def exit_status(command: Callable[[], object]) -> int:
    """Run a command and return its exit status. With `--debug` errors are shown with their traceback."""
    try:
        command()
    except SystemExit as leave:
        if isinstance(leave.__context__, BrokenPipeError):  # Typer and rich exit with 1 when `head` has read enough
            _discard(sys.stdout)
            return 0
        if leave.code == _INTERRUPTED:  # Typer exits so after Ctrl-C
            log("stopped")
        return leave.code if isinstance(leave.code, int) else 1
    except (UserError, RunError) as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        else:
            log(f"error: {error}")
        return 2 if isinstance(error, UserError) else 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _discard(sys.stdout)
        log(f"error: cannot write the output: {error.strerror}")
        return 2
    except Interrupted as error:
        log(str(error) or "stopped")
        return _INTERRUPTED
    return 0


def _discard(stream: TextIO) -> None:
    """Send what is left of a stream nowhere, because Python writes it again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Print warnings about unreadable objects of the store. Other warnings address callers of libraries, not users."""
    if issubclass(category, UnreadableObject):
        log(f"warning: {message}")
