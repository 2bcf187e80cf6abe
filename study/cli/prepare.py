"""Commands that prepare a study: doctor, compile, data build, data describe."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.common import (
    AddressOption,
    Format,
    FormatOption,
    JsonOption,
    OverwriteOption,
    SetOption,
    SpecArgument,
    StoreOption,
    check_output_folder,
    format_of,
    log,
    print_table,
    read_spec,
    show_table,
    spec_path,
    stderr,
    stdout,
)
from study.errors import DEFAULT_STORE, RunError, UserError

if TYPE_CHECKING:
    from study.spec.resolved_spec import ResolvedSpec

data = typer.Typer(
    help="Prepare sounds for studies, and describe prepared sounds.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def doctor(
    spec_file: Annotated[
        Path | None,
        typer.Argument(metavar="[SPEC]", help="Spec that the machines must be able to run.", callback=spec_path),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ray cluster to check: `auto` on its head node, or HOST:PORT.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the store and the machines before a study runs.

    Each check passes, or says what to do.

    Example: marl-study doctor tradeoff --store s3://bucket/studies --address auto
    """
    from study.datasets import with_content
    from study.doctor import run_checks
    from study.doctor.checks import render_finding
    from study.storage import ObjectStore

    spec = with_content(read_spec(spec_file), ObjectStore(store)) if spec_file else None
    findings = []
    for finding in run_checks(spec, store, address):
        findings.append(finding)
        if not as_json:
            stdout().print(render_finding(finding))
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings], indent=1))
    verdicts = [finding.verdict for finding in findings]
    if failed := verdicts.count("fail"):
        raise RunError(f"{failed} of {len(findings)} checks failed")
    log(f"{verdicts.count('pass')} checks passed, {verdicts.count('warn')} warnings")


def compile_stacks(spec_file: SpecArgument, store: StoreOption = DEFAULT_STORE) -> None:
    """Compile the training steps of a study ahead of time.

    Compiled code is kept in the user's cache on this machine.

    Example: marl-study compile tradeoff
    """
    from study.datasets import with_content
    from study.formatting import format_duration
    from study.storage import ObjectStore
    from study.training.dry_run_worker import PlanReport, dry_run_stacks

    spec = with_content(read_spec(spec_file), ObjectStore(store))
    for report in dry_run_stacks(spec, store, measure_s=None):
        if isinstance(report, PlanReport):
            plan = report.plan
            nothing = "" if plan.compiled else "; nothing to compile"
            log(f"{plan.lanes} lanes on {report.device_name}, {plan.precision}, {plan.why}{nothing}")
        else:
            duration = format_duration(report.first_step_s)
            check = report.warning or "the compiled step agrees with the plain step"
            log(f"compiled stack {report.number} of {report.stacks} in {duration}: {report.stack}; {check}")


@data.command()
def build(
    spec_file: SpecArgument,
    store: StoreOption = DEFAULT_STORE,
    overrides: SetOption = None,
    address: AddressOption = None,
) -> None:
    """Decode, check and analyse the sounds of a spec once. Studies then read them from the store.

    Clips that exist already are not made again, so an interrupted build continues. The name of a prepared set is a
    hash of its sounds and settings: changed sounds make another set. Files that give no clip are reported with the
    reason.

    Example: marl-study data build instruments
    """
    from study.datasets.prepare import ensure_prepared
    from study.runs.ray_cluster import ray_session
    from study.storage import ObjectStore

    prepared = ensure_prepared(_prepared_spec(spec_file, overrides), ObjectStore(store), ray_session(address), stderr())
    typer.echo(prepared.uri)


@data.command()
def describe(
    spec_file: SpecArgument,
    store: StoreOption = DEFAULT_STORE,
    overrides: SetOption = None,
    output: FormatOption = Format.table,
    as_json: JsonOption = False,
    examples: Annotated[
        Path | None, typer.Option("--examples", metavar="DIR", help="Folder that gets examples as WAV files.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Describe prepared sounds: counts, pairs, factors, durations, loudness, and the rejected files with reasons.

    The column `read` is a baseline: the balanced accuracy of the lightweight reader of each factor, a small network, on
    raw log-mels of held-out clips.

    Example: marl-study data describe instruments --examples examples
    """
    output = format_of(output, as_json)
    if examples is not None:
        check_output_folder("--examples", examples, overwrite)
    from study.datasets import with_content
    from study.datasets.summarise import summarise, summary_tables, write_examples
    from study.storage import ObjectStore

    objects = ObjectStore(store)
    resolved = with_content(_prepared_spec(spec_file, overrides), objects)
    description = summarise(resolved, objects)
    if output is Format.table:
        log(description.uri)
        for table in summary_tables(description):
            show_table(table)
            typer.echo()
    else:
        print_table(description.factors, output)
    if description.pairs_warning:
        log(f"warning: {description.pairs_warning}")
    if examples is not None:
        written = write_examples(resolved, objects, examples)
        log(f"{len(written)} examples: {examples}")


def _prepared_spec(file: Path, overrides: list[str] | None) -> "ResolvedSpec":
    """Return the resolved spec of a data set that has to be prepared."""
    resolved = read_spec(file, overrides)
    if not resolved.needs_preparation:
        raise UserError(f"data.kind: {resolved.data.kind} is computed when a study starts and needs no preparation")
    return resolved
