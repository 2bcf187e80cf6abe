"""What several commands take, and how they write a table."""

from enum import StrEnum
from typing import Annotated

import pandas as pd
import typer

__all__ = ["Format", "StoreOption", "StudyArgument", "echo"]

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
