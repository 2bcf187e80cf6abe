"""Commands on data: `marl-study data build`, `marl-study data describe`."""

from pathlib import Path
from typing import Annotated

import typer

from study.cli.options import AddressOption, Format, StoreOption, echo
from study.cli.terminal import err, out
from study.errors import DEFAULT_STORE, UserError
from study.spec import Spec
from study.storage import ObjectStore

__all__ = ["data"]

data = typer.Typer(
    help="Prepare sounds for studies, and see what they are.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="YAML file of a study; its data and audio matter.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a field.")]


@data.command()
def build(
    spec_file: SpecArgument,
    store: StoreOption = DEFAULT_STORE,
    overrides: SetOption = None,
    address: AddressOption = None,
) -> None:
    """Decode, check and analyse the sounds of a spec, once; studies then read them from the store.

    What is there already is not made again, and what was interrupted goes on. A set's name is a hash of the sounds and
    of the settings, so changed sounds are another set. What gives no clip is left out, and why is said.

    Example: marl-study data build studies/instruments.yaml
    """
    from study.datasets.prepare import prepared_now

    found = prepared_now(_spec(spec_file, overrides), ObjectStore(store), address, err)
    typer.echo(found.uri)


@data.command()
def describe(
    spec_file: SpecArgument,
    store: StoreOption = DEFAULT_STORE,
    overrides: SetOption = None,
    output: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.table,
    examples: Annotated[
        Path | None, typer.Option("--examples", metavar="DIR", help="Folder that gets clips to hear, as WAV.")
    ] = None,
) -> None:
    """Show what prepared sounds are: how many, which factors, how long and loud, what was left out and why.

    And the bar to beat: how well a probe reads each factor from raw log-mels of clips that it was not fitted on.

    Example: marl-study data describe studies/instruments.yaml --examples examples
    """
    from study.datasets.lookup import with_content
    from study.datasets.summarise import described, description_tables, write_examples

    objects = ObjectStore(store)
    spec = with_content(_spec(spec_file, overrides), objects)
    found = described(spec, objects)
    if output is Format.table:
        err.print(found.uri, markup=False, soft_wrap=True)
        for table in description_tables(found):
            out().print(table, "")
    else:
        echo(found.factors, output)
    if examples is not None:
        written = write_examples(spec, objects, examples)
        err.print(f"{len(written)} examples: {examples}", markup=False, soft_wrap=True)


def _spec(file: Path, overrides: list[str] | None) -> Spec:
    from study.spec.loader import load_spec
    from study.spec.resolve import resolve

    spec = resolve(load_spec(file, list(overrides or [])))
    if spec.data["kind"] == "syntone":
        raise UserError("data: syntone is computed when a study begins; there is nothing to prepare")
    return spec
