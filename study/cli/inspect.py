"""Commands that show what is in a store: ls, status, results, leakage, plot, report, dashboard."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from study.analysis.status import status_of
from study.cli.options import Format, StoreOption, StudyArgument, echo
from study.cli.tables import status_lines, volume_line
from study.cli.terminal import err, out
from study.errors import DEFAULT_STORE, UserError
from study.storage import ObjectStore
from study.store import StudyStore

__all__ = ["dashboard", "leakage", "ls", "plot", "report", "results", "status"]


def ls(
    store: StoreOption = DEFAULT_STORE, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """List the studies of a store. One that cannot be read is named on stderr and left out.

    Example: marl-study ls --store s3://bucket/studies
    """
    from study.analysis import StudyResults
    from study.store import list_studies

    objects = ObjectStore(store)
    found = []
    for name in list_studies(objects):
        try:
            found.append(status_of(StudyResults(StudyStore(objects, name))))
        except UserError as error:
            err.print(f"warning: {error}; it was left out", markup=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    if not found:
        err.print(f"no studies in {objects.uri}")
    for one in found:
        states = ", ".join(f"{count} {state}" for state, count in one["trials"].items() if count)
        typer.echo(f"{one['study']:<24} {one['state']:<12} {states or 'no trials'} of {one['target']}")


def status(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say how far a study is.

    Example: marl-study status quickstart
    """
    from study.analysis import StudyResults

    found = status_of(StudyResults(StudyStore(ObjectStore(store), study)))
    typer.echo(json.dumps(found, indent=1) if as_json else status_lines(found))


def results(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    front: Annotated[bool, typer.Option("--front", help="Only trials that no other beats in all objectives.")] = False,
    progress: Annotated[bool, typer.Option("--progress", help="How the front grew, trial by trial.")] = False,
    output: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.table,
    optuna: Annotated[
        Path | None, typer.Option("--optuna", metavar="FILE", help="Write all trials as a storage of Optuna instead.")
    ] = None,
) -> None:
    """Show a study's results: means over replicates.

    Their standard deviation is in `<column>/sd`, half of their 90 % interval in `<column>/ci`, and how probably a trial
    is truly on the front, as far as its seeds let one say, in `front_probability`. Below the trials stands what they
    are compared with: an untrained network, and a plain variational autoencoder.

    The hypervolume measures a front: the volume between it and what the untrained network scores, in the product of the
    objectives' units. More is better.

    With --optuna, nothing is shown: all trials go into a new SQLite file, for `optuna.load_study` and optuna-dashboard.

    Example: marl-study results quickstart --front --format csv
    """
    from study.analysis import StudyResults
    from study.cli.tables import progress_table, results_table

    if front and progress:
        raise UserError("--front and --progress show different tables; say one of them")
    if optuna and (front or progress or output is not Format.table):
        raise UserError(
            "--optuna writes all trials to a file and shows no table; leave --front, --progress, --format out"
        )
    read = StudyResults(StudyStore(ObjectStore(store), study))
    if optuna:
        from study.search.optuna_export import write_optuna_storage

        write_optuna_storage(read, optuna)
        err.print(f"optuna: {optuna}, to be seen by: optuna-dashboard sqlite:///{optuna}", markup=False, soft_wrap=True)
        return
    if progress:
        table = read.progress()
    else:
        table = read.front() if front else read.results()
        table = table.merge(read.front_probability(), on="trial", how="left")
        if not front or output is Format.table:  # a program that asks for the front wants trials
            table = pd.concat([table, read.baselines()], ignore_index=True)
    if output is not Format.table:
        echo(table, output)
        return
    if progress:
        out().print(progress_table(table, f"progress of study {study}"))
    else:
        out().print(results_table(table, read.spec, f"front of study {study}" if front else f"study {study}"))
    err.print(volume_line(read.hypervolume(), read.trial_steps()))


def leakage(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    trial: Annotated[int | None, typer.Option(min=0, help="Which; the best in the last objective by default.")] = None,
    output: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.table,
) -> None:
    """Show what each subspace of a trial holds of each factor, wanted or not: 0 is chance, 1 is all of it.

    Networks and linear classifiers are asked, on means of the posteriors and on samples, with 90 % intervals over
    seeds; `clips_se` is the standard error from the finite number of held-out clips.

    Example: marl-study leakage quickstart --trial 3
    """
    from marl.evaluation import HELD_OUT_CLIPS
    from study.analysis import StudyResults
    from study.analysis.leakage import leakage as leakage_of
    from study.cli.tables import leakage_table
    from study.datasets.load import clips_of
    from study.export.trials import best_trial
    from study.spec.model_config import audio_of

    read = StudyResults(StudyStore(ObjectStore(store), study))
    chosen = best_trial(read, list(read.spec.objectives)[-1]) if trial is None else trial
    clips = clips_of(read.spec, read.store.objects, audio_of(read.spec))
    classes = dict(zip((factor.name for factor in clips.factors), clips.classes_at_stake("validation"), strict=True))
    found = leakage_of(read, chosen, classes, min(HELD_OUT_CLIPS, len(clips.splits["validation"])))
    if output is Format.table:
        out().print(leakage_table(found, f"study {study}, trial {chosen}: 0 is chance, 1 is all of the factor"))
    else:
        echo(found, output)


def plot(
    study: StudyArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="A file ending in .html, .png or .svg.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Draw the trade-off between the objectives, with error bars.

    Example: marl-study plot quickstart -o tradeoff.html
    """
    from study.analysis import StudyResults
    from study.charts.trade_off import save_chart, trade_off_chart

    save_chart(trade_off_chart(StudyResults(StudyStore(ObjectStore(store), study))), output)
    err.print(f"plot: {output}", soft_wrap=True)


def report(
    study: StudyArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder that gets index.html.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Draw a study as one page: trade-off, parameters, probes, mutual information and maps of the latents.

    Example: marl-study report quickstart -o report
    """
    from study.analysis import StudyResults

    read = StudyResults(StudyStore(ObjectStore(store), study))
    from study.report.page import write_report  # a study that is not there is told at once

    written = write_report(read, output)
    for what, why in written.missing.items():
        err.print(f"not drawn: {what}, because {why}", markup=False, soft_wrap=True)
    err.print(f"report: {written.path}", markup=False, soft_wrap=True)


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
    options += ["--client.toolbarMode=minimal", "--server.showEmailPrompt=false"]
    # Else each thread keeps memory of its own that it has freed.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    os.execv(  # noqa: S606  # the page replaces this process
        sys.executable, [sys.executable, "-m", "streamlit", "run", str(page), *options, "--", ObjectStore(store).uri]
    )
