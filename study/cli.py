"""The command line: `marl-study …`.

Machine-readable output goes to stdout, everything else to stderr. It exits with 0 when done, 1 when what was asked for
failed, 2 when the words were wrong, and 130 when it was stopped by Ctrl-C.
"""

import json
import os
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from study.errors import Interrupted, RunError, UserError
from study.objects import Objects
from study.status import DEFAULT_STORE, command_for, status_lines, status_of, volume_line
from study.store import StudyStore
from study.terminal import err, exit_status, out, show_warning

__all__ = ["main"]

app = typer.Typer(
    help="Hyperparameter studies of self-supervised multi-view representation learning of music audio.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StoreOption = Annotated[
    str,
    typer.Option("--store", envvar="MARL_STORE", help="Folder or s3://bucket/prefix that holds the studies."),
]
StudyArgument = Annotated[str, typer.Argument(help="Name of the study.")]


class _Format(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Hyperparameter studies of self-supervised multi-view representation learning of music audio."""


@app.command()
def run(
    spec_file: Annotated[Path, typer.Argument(metavar="SPEC", help="YAML file of the study.")],
    store: StoreOption = DEFAULT_STORE,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a field.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="How many trials, instead of search.trials.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run and how long it might take.")] = False,
) -> None:
    """Run a study, or go on with it.

    Example: marl-study run studies/quickstart.yaml --set train.steps=400
    """
    from study.beginning import begin
    from study.configuration import resolve
    from study.spec_file import load_spec

    changes = list(overrides or [])
    if trials is not None:
        changes.append(f"search.trials={trials}")
    spec = resolve(load_spec(spec_file, changes))
    objects = Objects(store)
    if dry_run:
        from study.dry_run import describe

        typer.echo(describe(spec, objects))
        return
    study = StudyStore(objects, spec.name)
    begin(study, spec)
    _launch(study, spec.search.trials or 0)


@app.command()
def resume(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    trials: Annotated[int | None, typer.Option(min=1, help="Bring the study to this many trials.")] = None,
) -> None:
    """Go on with a study that was interrupted, or give it more trials.

    Example: marl-study resume quickstart --trials 24
    """
    from study.results import StudyResults

    objects = Objects(store)
    found = StudyStore(objects, study)
    results = StudyResults(found)
    target = results.target if trials is None else trials
    known = len(results.trials())
    if target < known:
        raise UserError(f"--trials: study {study!r} has {known} trials already; got {target}")
    if trials is not None and results.spec.search.sampler == "grid" and target != results.spec.search.trials:
        raise UserError(f"--trials: the grid of study {study!r} has {results.spec.search.trials} cells; got {target}")
    objects.check_writable()
    _launch(found, target)


@app.command()
def ls(
    store: StoreOption = DEFAULT_STORE, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """List the studies of a store.

    Example: marl-study ls --store s3://bucket/studies
    """
    from study.store import list_studies

    objects = Objects(store)
    found = [status_of(StudyStore(objects, name)) for name in list_studies(objects)]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    if not found:
        err.print(f"no studies in {objects.uri}")
    for one in found:
        states = ", ".join(f"{count} {state}" for state, count in one["trials"].items() if count)
        typer.echo(f"{one['study']:<24} {one['state']:<12} {states or 'no trials'} of {one['target']}")


@app.command()
def status(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say how far a study is.

    Example: marl-study status quickstart
    """
    found = status_of(StudyStore(Objects(store), study))
    typer.echo(json.dumps(found, indent=1) if as_json else status_lines(found))


@app.command()
def results(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    front: Annotated[bool, typer.Option("--front", help="Only trials that no other beats in all objectives.")] = False,
    progress: Annotated[bool, typer.Option("--progress", help="How the front grew, trial by trial.")] = False,
    output: Annotated[_Format, typer.Option("--format", help="table, csv or json.")] = _Format.table,
) -> None:
    """Show a study's results: means over replicates, with their standard deviation in `<column>/sd`.

    The hypervolume measures a front: the volume between it and what the untrained network scores, in the product of the
    objectives' units. More is better.

    Example: marl-study results quickstart --front --format csv
    """
    from study.results import StudyResults
    from study.tables import progress_table, results_table

    if front and progress:
        raise UserError("--front and --progress show different tables; say one of them")
    read = StudyResults(StudyStore(Objects(store), study))
    table = read.progress() if progress else read.front() if front else read.results()
    if output is _Format.csv:
        typer.echo(table.to_csv(index=False), nl=False)
    elif output is _Format.json:
        typer.echo(table.to_json(orient="records", indent=1, date_format="iso"))
    else:
        if progress:
            out().print(progress_table(table, f"progress of study {study}"))
        else:
            out().print(results_table(table, read.spec, f"front of study {study}" if front else f"study {study}"))
        err.print(volume_line(read.hypervolume(), read.trial_steps()))


@app.command()
def plot(
    study: StudyArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="A file ending in .html, .png or .svg.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Draw the trade-off between the objectives, with error bars.

    Example: marl-study plot quickstart -o tradeoff.html
    """
    from study.plot import save_chart, trade_off_chart
    from study.results import StudyResults

    save_chart(trade_off_chart(StudyResults(StudyStore(Objects(store), study))), output)
    err.print(f"plot: {output}", soft_wrap=True)


@app.command()
def report(
    study: StudyArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder that gets index.html.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Draw a study as one page: trade-off, parameters, probes, mutual information and maps of the latents.

    Example: marl-study report quickstart -o report
    """
    from study.results import StudyResults

    read = StudyResults(StudyStore(Objects(store), study))
    from study.report import write_report  # a study that is not there is told at once

    written = write_report(read, output)
    for what, why in written.missing.items():
        err.print(f"not drawn: {what}, because {why}", markup=False, soft_wrap=True)
    err.print(f"report: {written.path}", markup=False, soft_wrap=True)


@app.command()
def export(
    study: StudyArgument,
    to: Annotated[Path, typer.Option("--to", help="Folder that gets one folder a model.")],
    store: StoreOption = DEFAULT_STORE,
    front: Annotated[bool, typer.Option("--front", help="Every trial of the front.")] = False,
    trial: Annotated[int | None, typer.Option("--trial", min=0, help="This trial.")] = None,
    best: Annotated[str | None, typer.Option("--best", metavar="COLUMN", help="The best trial in a metric.")] = None,
) -> None:
    """Write models out of a study, each with what is needed to use and to check it.

    Example: marl-study export quickstart --best disentanglement/separation --to exported
    """
    from study.export import best_trial, export_trials
    from study.results import StudyResults

    if sum([front, trial is not None, best is not None]) != 1:
        raise UserError("say which models: exactly one of --front, --trial ID and --best COLUMN")
    read = StudyResults(StudyStore(Objects(store), study))
    by = best or list(read.spec.objectives)[-1]
    if best is not None:
        trials = [best_trial(read, best)]
    else:
        trials = [trial] if trial is not None else [int(number) for number in read.front()["trial"]]
    if not trials:
        raise UserError(f"study {study!r} has no complete trial yet, so no front")
    for bundle in export_trials(read, trials, by, to):
        typer.echo(str(bundle))


@app.command()
def verify(folder: Annotated[Path, typer.Argument(metavar="DIR", help="An exported model.")]) -> None:
    """Check that an exported model is whole and scores what it says.

    Example: marl-study verify exported/quickstart-trial-7-seed-0
    """
    from study.bundle import verify as check

    scores = check(folder)
    for name, (stated, found) in scores.items():
        if " of " in name:  # one line a clip would hide the others
            continue
        typer.echo(f"{name:<34} stated {stated:9.4f}   found {found:9.4f}")
    err.print(f"verified: {folder}", soft_wrap=True)


@app.command()
def delete(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    yes: Annotated[bool, typer.Option("--yes", help="Really delete it.")] = False,
) -> None:
    """Delete a study and everything in it.

    Example: marl-study delete quickstart --yes
    """
    from study.results import StudyResults

    found = StudyStore(Objects(store), study)
    read = StudyResults(found)
    if read.is_live:
        raise UserError(f"study {study!r} is running; stop it first")
    if not yes:
        raise UserError(f"this deletes {len(read.trials())} trials and their models in {found.uri}; say --yes to do it")
    found.delete()
    err.print(f"deleted {found.uri}", soft_wrap=True)


@app.command()
def prune(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted.")] = False,
) -> None:
    """Delete weights far from the front, and what writers left behind. Results and latents stay.

    Kept are the weights of the front, and of every trial that would be on it were it better by one standard deviation.

    Example: marl-study prune quickstart --dry-run
    """
    from study.prune import kept_line, plan_prune, prune_table
    from study.prune import prune as delete_planned
    from study.results import StudyResults

    read = StudyResults(StudyStore(Objects(store), study))
    plan = plan_prune(read)
    if not plan.deletions:
        typer.echo("nothing to prune")
        return
    if not dry_run:
        delete_planned(read, plan)
    out().print(prune_table(plan, dry_run))
    typer.echo(kept_line(plan))


@app.command()
def dashboard(
    store: StoreOption = DEFAULT_STORE,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on localhost.")] = 8501,
) -> None:
    """Browse the studies of a store on http://localhost:8501.

    Example: marl-study dashboard --store s3://bucket/studies --port 8600
    """
    from importlib.util import find_spec

    page = Path(str(find_spec("dashboard").origin)).with_name("app.py")  # type: ignore[union-attr]  # it is ours
    options = ["--server.address=localhost", f"--server.port={port}", "--browser.gatherUsageStats=false"]
    os.execv(  # noqa: S606  # the page replaces this process
        sys.executable, [sys.executable, "-m", "streamlit", "run", str(page), *options, "--", Objects(store).uri]
    )


def main() -> None:
    """Run a command; every error is one line that says what to do."""
    warnings.showwarning = show_warning
    try:
        sys.exit(exit_status(app))
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _launch(store: StudyStore, target: int) -> None:
    from study.recorder import refuse_if_live
    from study.results import StudyResults

    before = StudyResults(store)
    refuse_if_live(store.name, before.launches)
    over = before.trials()["state"].isin(["complete", "pruned", "failed"]).sum()
    if over >= target:
        err.print(f"study {store.name} is complete: {over} trials", soft_wrap=True)
        return
    from study.configuration import StackPlan
    from study.footprint import footprint, footprint_line
    from study.launch import launch

    size = footprint(before.spec, StackPlan.model_validate(before.document.stack), target - int(over))
    err.print(footprint_line(size, store.uri), soft_wrap=True)
    try:
        launch(store, target, err)
    except Interrupted:
        err.print(f"stopped; go on with: {command_for(store, 'resume')}", soft_wrap=True)
        raise
    states = StudyResults(store).trials()["state"].value_counts()
    err.print(
        f"study {store.name} is done: " + ", ".join(f"{count} {state}" for state, count in states.items()),
        soft_wrap=True,
    )
    if not states.get("complete", 0):
        raise RunError(f"no trial of study {store.name!r} came to its end; `{command_for(store, 'results')}` shows why")


if __name__ == "__main__":
    main()
