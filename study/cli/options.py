"""What several commands take, and how they write a table."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from study.cli.terminal import err
from study.errors import DEFAULT_STORE, UserError, command_for
from study.storage import ObjectStore
from study.store import StudyStore

__all__ = ["AddressOption", "ClusterOption", "Destination", "Format", "StoreOption", "StudyArgument", "echo"]

StoreOption = Annotated[
    str,
    typer.Option("--store", envvar="MARL_STORE", help="Folder or s3://bucket/prefix that holds the studies."),
]
StudyArgument = Annotated[str, typer.Argument(help="Name of the study.")]


class Format(StrEnum):
    """How a table is written."""

    table = "table"
    csv = "csv"
    json = "json"


def echo(table: pd.DataFrame, output: Format) -> None:
    """A table for other programs."""
    if output is Format.csv:
        typer.echo(table.to_csv(index=False), nl=False)
    else:
        typer.echo(table.to_json(orient="records", indent=1, date_format="iso"))


AddressOption = Annotated[
    str | None,
    typer.Option(help="Of a cluster: http://HOST:8265 of its dashboard, or `auto` on its head."),
]
ClusterOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Launch it on the cluster that `ray up FILE` started.")
]


class Destination:
    """Where a study is launched: here, or on a cluster by its dashboard or its file.

    Raises:
        UserError: when both are named, or a store that other machines cannot see.
    """

    def __init__(self, address: str | None, cluster: Path | None, store: str) -> None:
        if address is not None and cluster is not None:
            raise UserError("--address and --cluster: one of them says where the cluster is; got both")
        self._address, self._cluster, self._store = address, cluster, store
        is_shared = "://" in store or Path(store).is_absolute()
        if address is not None and not is_shared:
            raise UserError(
                "--store: machines of a cluster need one that all of them see, s3://bucket/prefix or the full path of "
                f"a shared folder; got {store}"
            )

    @property
    def is_elsewhere(self) -> bool:
        """Whether another process launches it, on the cluster."""
        return self._cluster is not None or (self._address is not None and self._address.startswith("http"))

    def launch(self, study: str, words: list[str], file: Path | None) -> None:
        """Launch it there."""
        from study.runs.ray_cluster import on_head, submit

        if self._cluster is not None:
            # The head knows where its studies are, if nothing else is said here.
            where = [] if self._store == DEFAULT_STORE else ["--store", self._store]
            on_head(self._cluster, [*words, *where], file)
            return
        submit(self._address or "", [*words, "--store", self._store], file, _say)
        follow = StudyStore(ObjectStore(self._store), study)
        _say(
            f"the study goes on without this terminal; follow it by `{command_for(follow.uri, 'logs')} --follow` and "
            f"`{command_for(follow.uri, 'status')}`, stop it by `{command_for(follow.uri, 'stop')}`"
        )


def _say(line: str) -> None:
    err.print(line, markup=False, soft_wrap=True)
