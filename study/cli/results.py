"""Commands that show the results of studies: results, leakage, plot, report, dashboard."""

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.common import (
    Format,
    FormatOption,
    JsonOption,
    OverwriteOption,
    PluginOption,
    StoreOption,
    StudyArgument,
    check_output,
    check_output_folder,
    format_of,
    log,
    open_results,
    open_study,
    permit_plugins,
    print_table,
    show_table,
)
from study.errors import DEFAULT_STORE, UserError
from study.formatting import cell_text, format_number, objective_label, printable

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from study.spec import Spec


def results(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    front: Annotated[bool, typer.Option("--front", help="Only trials on the Pareto front.")] = False,
    progress: Annotated[bool, typer.Option("--progress", help="How the front grew, trial by trial.")] = False,
    output: FormatOption = Format.table,
    as_json: JsonOption = False,
    optuna: Annotated[
        Path | None, typer.Option("--optuna", metavar="FILE", help="Write all trials as an Optuna storage instead.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Show the results of a study: means over replicates.

    The column `<column>/sd` holds the standard deviation, `<column>/ci` half of the 90 % interval, and
    `front_probability` the probability that the trial is on the front, given the spread over its seeds. The baselines,
    an untrained network and a plain variational autoencoder, follow the trials.

    `disentanglement/separation`, `information/…`, `accuracy/…`, `r2/…` and `leakage/…` come from the strong reader of
    samples of the posteriors, columns with `linear_` from the linear reader of the same samples, and `probe/…` from the
    lightweight reader of posterior means.

    The hypervolume is the volume between the front and the scores of the untrained network, in the product of the
    units of the objectives. More is better.

    With --optuna, all trials are written to an SQLite file for `optuna.load_study` and optuna-dashboard.

    Example: marl-study results quickstart --front --format csv
    """
    output = format_of(output, as_json)
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

    from study.analysis.tables import front_table, results_table

    if progress:
        table = study_results.progress()
    else:
        table = front_table(study_results) if front else results_table(study_results)
        if front and output is Format.table:  # --front for a program holds trials only
            table = pd.concat([table, study_results.baselines()], ignore_index=True)
    if output is not Format.table:
        print_table(table, output)
        return
    if progress:
        show_table(_progress_table(table, f"progress of study {study}"))
    else:
        title = f"front of study {study}" if front else f"study {study}"
        show_table(_results_table(table, study_results.spec, title))
    log(volume_line(study_results.hypervolume(), study_results.trial_steps()))


def leakage(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    trial: Annotated[
        int | None, typer.Option(min=0, help="Number of the trial; by default the best one in the last objective.")
    ] = None,
    plugin: PluginOption = None,
    output: FormatOption = Format.table,
    as_json: JsonOption = False,
) -> None:
    """Show how much each subspace encodes of each factor.

    0 is nothing, 1 is all of the factor.

    A strong reader and a linear one read samples of the posteriors, what the decoder receives: their columns are the
    information that they find, as a fraction of the factor's entropy. A lightweight reader, the small network of the
    papers, reads means, and of the front samples, too: its columns are its accuracy, where chance is 0. Intervals are
    90 % intervals over seeds.

    Example: marl-study leakage quickstart --trial 3
    """
    from study.api.study import Study
    from study.api.trial import Trial

    output = format_of(output, as_json)
    study_store = open_study(store, study)
    permit_plugins(study_store, plugin)
    chosen = Study(study_store).best() if trial is None else Trial(study_store, trial)
    table = chosen.leakage()
    if output is Format.table:
        show_table(_leakage_table(table, f"study {study}, trial {chosen.number}: 0 is nothing, 1 is all of the factor"))
        if "lightweight" not in set(table["reader"]):
            log(f"not measured: the lightweight reader. `marl-study rescore {study} --metrics probes` adds it.")
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
    plugin: PluginOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a study as one page of figures.

    Trade-off, parameters, what readers find, mutual information, and maps of the latents.

    Example: marl-study report quickstart -o report
    """
    check_output_folder("--output", output, overwrite)
    study_results = open_results(store, study)
    permit_plugins(study_results.store, plugin)
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

    from study.extras import check_extra
    from study.storage import ObjectStore

    check_extra("dashboard", "marl-study dashboard")
    page = Path(str(find_spec("dashboard").origin)).with_name("app.py")  # type: ignore[union-attr]  # installed with it
    options = ["--server.address=localhost", f"--server.port={port}", "--server.showEmailPrompt=false"]
    # With one arena for each thread, glibc keeps memory that threads have freed.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    os.execv(  # noqa: S606  # Streamlit replaces this process
        sys.executable, [sys.executable, "-m", "streamlit", "run", str(page), *options, "--", ObjectStore(store).uri]
    )


def _results_table(results: "pd.DataFrame", spec: "Spec", title: str) -> "Table":
    """Return a table of results: state, objectives with 90 % intervals, probability of the front, configuration."""
    from study.spec import Baseline

    table = _table(title)
    table.add_column("trial", justify="right")
    table.add_column("state")
    for name, mode in spec.objectives.items():
        better = "lower" if mode == "min" else "higher"
        table.add_column(f"{objective_label(name)}\n({better} is better)", justify="right")
    table.add_column("probability of\nthe front", justify="right")
    for name in spec.space:
        table.add_column(name.replace(".", ".\n"), justify="right")
    for _, row in results.iterrows():
        if row["kind"] == "baseline":
            cells = ["", Baseline(row["baseline"]).label]
        else:
            cells = [str(row["trial"]), printable(str(row["state"]))]
        cells += [_with_spread(row.get(name), row.get(f"{name}/ci")) for name in spec.objectives]
        cells.append(cell_text(row.get("front_probability")))
        cells += [cell_text(row.get(f"config/{name}")) for name in spec.space]
        table.add_row(*cells)
    return table


def _progress_table(progress: "pd.DataFrame", title: str) -> "Table":
    """Return a table of the front's growth: a row for each complete trial."""
    table = _table(title)
    for heading in ("time (UTC)", "trial", "complete", "trial-steps", "device-hours", "hypervolume"):
        table.add_column(heading, justify="right")
    for row in progress.itertuples():
        counts = str(row.trial), str(row.complete), f"{row.trial_steps:,}", f"{row.device_hours:.3f}"
        table.add_row(f"{row.time:%Y-%m-%d %H:%M:%S}", *counts, cell_text(row.hypervolume))
    return table


def _leakage_table(leaks: "pd.DataFrame", title: str) -> "Table":
    """Return a table of `leakage`: a row for each factor and subspace, a column for each reader."""
    from study.analysis.statistics import READINGS

    table = _table(title)
    table.add_column("factor")
    table.add_column("subspace")
    measured = set(zip(leaks["reader"], leaks["of"], strict=True))
    kinds = [kind for kind in READINGS.values() if kind in measured]
    for reader, of in kinds:
        table.add_column(f"{reader} reader\nof {of}", justify="right")
    for (factor, subspace), rows in leaks.groupby(["factor", "subspace"], sort=False):
        cells = {(row.reader, row.of): _with_spread(row.share, row.ci) for row in rows.itertuples()}
        mark = "" if rows["belongs"].all() else " (leak)"
        table.add_row(str(factor), f"{subspace}{mark}", *(cells.get(kind, "–") for kind in kinds))
    return table


def volume_line(hypervolume: float | None, trial_steps: int) -> str:
    """Return the hypervolume, if it is known, and the number of steps that it took."""
    if hypervolume is None or math.isnan(hypervolume):
        return f"{trial_steps:,} trial-steps"
    return f"hypervolume {format_number(hypervolume)} after {trial_steps:,} trial-steps"


def _table(title: str) -> "Table":
    from rich.table import Table

    return Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)


def _with_spread(mean: float | None, spread: float | None) -> str:
    if mean is None or math.isnan(mean):
        return "–"
    if spread is None or math.isnan(spread):
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {spread:.3f}"
