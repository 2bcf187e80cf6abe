"""Commands that show what a store holds: ls, status, results, leakage, plot, report, dashboard."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from study.cli.common import (
    Format,
    FormatOption,
    JsonOption,
    OverwriteOption,
    StoreOption,
    StudyArgument,
    check_output,
    check_output_folder,
    log,
    open_results,
    print_table,
    show_table,
)
from study.errors import DEFAULT_STORE, UserError

__all__ = ["dashboard", "leakage", "ls", "plot", "report", "results", "status"]


def ls(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List the studies of a store.

    A study that cannot be read is named on stderr and left out.

    Example: marl-study ls --store s3://bucket/studies
    """
    from study.storage import ObjectStore
    from study.store import list_studies

    objects = ObjectStore(store)
    studies = []
    for name in list_studies(objects):
        try:
            studies.append(open_results(store, name).status())
        except UserError as error:
            log(f"warning: {error}; it was left out")
    if as_json:
        typer.echo(json.dumps(studies, indent=1))
        return
    if not studies:
        log(f"no studies in {objects.uri}")
    for study in studies:
        states = ", ".join(f"{count} {state}" for state, count in study["trials"].items() if count)
        typer.echo(f"{study['study']:<24} {study['state']:<12} {states or 'no trials'} of {study['target']}")


def status(study: StudyArgument, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show the state of a study, its trials by state, and its runs.

    Example: marl-study status quickstart
    """
    from study.cli.tables import status_lines

    state = open_results(store, study).status()
    typer.echo(json.dumps(state, indent=1) if as_json else status_lines(state))


def results(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    front: Annotated[bool, typer.Option("--front", help="Only trials on the Pareto front.")] = False,
    progress: Annotated[bool, typer.Option("--progress", help="How the front grew, trial by trial.")] = False,
    output: FormatOption = Format.table,
    optuna: Annotated[
        Path | None, typer.Option("--optuna", metavar="FILE", help="Write all trials as an Optuna storage instead.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Show the results of a study: means over replicates.

    The column `<column>/sd` holds the standard deviation, `<column>/ci` half of the 90 % interval, and
    `front_probability` the probability that the trial is on the front, given the spread over its seeds. The baselines,
    an untrained network and a plain variational autoencoder, follow the trials.

    The hypervolume is the volume between the front and the scores of the untrained network, in the product of the
    units of the objectives. More is better.

    With --optuna, all trials are written to an SQLite file for `optuna.load_study` and optuna-dashboard.

    Example: marl-study results quickstart --front --format csv
    """
    if front and progress:
        raise UserError("--front and --progress: give one of them, they show different tables; got both")
    if optuna and (front or progress or output is not Format.table):
        raise UserError("--optuna: writes all trials and shows no table; leave out --front, --progress and --format")
    if optuna:
        check_output("--optuna", optuna, overwrite)
    study_results = open_results(store, study)
    if optuna:
        from study.search.optuna_export import write_optuna_storage

        write_optuna_storage(study_results, optuna)
        log(f"optuna: {optuna}; open it with: optuna-dashboard sqlite:///{optuna}")
        return
    import pandas as pd

    from study.cli.tables import progress_table, results_table, volume_line

    if progress:
        table = study_results.progress()
    else:
        table = study_results.front() if front else study_results.results()
        table = table.merge(study_results.front_probability(), on="trial", how="left").astype({"trial": "Int64"})
        table.insert(0, "kind", "trial")
        if not front or output is Format.table:  # --front for a program holds trials only
            table = pd.concat([table, study_results.baselines()], ignore_index=True)
    if output is not Format.table:
        print_table(table, output)
        return
    if progress:
        show_table(progress_table(table, f"progress of study {study}"))
    else:
        title = f"front of study {study}" if front else f"study {study}"
        show_table(results_table(table, study_results.spec, title))
    log(volume_line(study_results.hypervolume(), study_results.trial_steps()))


def leakage(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    trial: Annotated[
        int | None, typer.Option(min=0, help="Number of the trial; by default the best one in the last objective.")
    ] = None,
    output: FormatOption = Format.table,
) -> None:
    """Show how much each subspace encodes of each factor.

    0 is chance, 1 is all of the factor.

    Small networks and linear classifiers read the means of the posteriors and samples of them. Intervals are 90 %
    intervals over seeds; `clips_se` is the standard error that the number of held-out clips causes.

    Example: marl-study leakage quickstart --trial 3
    """
    from marl.evaluation import HELD_OUT_CLIPS
    from study.analysis.leakage import leakage as leakage_of
    from study.cli.tables import leakage_table
    from study.datasets.load import clips_of
    from study.spec.resolved_spec import ResolvedSpec

    study_results = open_results(store, study)
    spec = study_results.spec
    number = study_results.best_trial(list(spec.objectives)[-1]) if trial is None else trial
    clips = clips_of(ResolvedSpec(spec), study_results.store.objects)
    classes = dict(zip((factor.name for factor in clips.factors), clips.num_eval_classes("validation"), strict=True))
    table = leakage_of(study_results, number, classes, min(HELD_OUT_CLIPS, len(clips.splits["validation"])))
    if output is Format.table:
        show_table(leakage_table(table, f"study {study}, trial {number}: 0 is chance, 1 is all of the factor"))
    else:
        print_table(table, output)


def plot(
    study: StudyArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="A file ending in .html, .png or .svg.")],
    store: StoreOption = DEFAULT_STORE,
    overwrite: OverwriteOption = False,
) -> None:
    """Draw the trade-off between the objectives, with error bars.

    Example: marl-study plot quickstart -o tradeoff.html
    """
    check_output("--output", output, overwrite, (".html", ".png", ".svg"))
    from study.charts.style import save_chart
    from study.charts.trade_off import trade_off_chart

    save_chart(trade_off_chart(open_results(store, study)), output)
    log(f"plot: {output}")


def report(
    study: StudyArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder that gets index.html.")],
    store: StoreOption = DEFAULT_STORE,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a study as one page of figures.

    Trade-off, parameters, probes, mutual information, and maps of the latents.

    Example: marl-study report quickstart -o report
    """
    check_output_folder("--output", output, overwrite)
    study_results = open_results(store, study)
    from study.report import write_report  # imports torch, so that a missing study is reported before

    page = write_report(study_results, output)
    for picture, reason in page.missing.items():
        log(f"not drawn: {picture}, because {reason}")
    log(f"report: {page.path}")


def dashboard(
    store: StoreOption = DEFAULT_STORE,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on localhost.")] = 8501,
) -> None:
    """Browse the studies of a store on http://localhost:8501.

    Example: marl-study dashboard --store s3://bucket/studies --port 8600
    """
    from importlib.util import find_spec

    from study.storage import ObjectStore

    page = Path(str(find_spec("dashboard").origin)).with_name("app.py")  # type: ignore[union-attr]  # installed with it
    options = ["--server.address=localhost", f"--server.port={port}", "--browser.gatherUsageStats=false"]
    options += ["--client.toolbarMode=minimal", "--server.showEmailPrompt=false"]
    # With one arena for each thread, glibc keeps memory that threads have freed.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    os.execv(  # noqa: S606  # Streamlit replaces this process
        sys.executable, [sys.executable, "-m", "streamlit", "run", str(page), *options, "--", ObjectStore(store).uri]
    )
