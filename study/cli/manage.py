"""Commands that take models out of a store, or delete what it holds: export, verify, delete, prune."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from study.cli.options import StoreOption, StudyArgument
from study.cli.terminal import err, out
from study.errors import DEFAULT_STORE, RunError, UserError, command_for
from study.formatting import printable
from study.storage import ObjectStore
from study.store import StudyStore
from study.store.lease import is_live

__all__ = ["delete", "export", "logs", "prune", "stop", "verify"]


def export(
    study: StudyArgument,
    to: Annotated[Path, typer.Option("--to", help="Folder that gets one folder a model.")],
    store: StoreOption = DEFAULT_STORE,
    front: Annotated[bool, typer.Option("--front", help="Every trial of the front.")] = False,
    trial: Annotated[list[int] | None, typer.Option("--trial", min=0, help="This trial; may be repeated.")] = None,
    best: Annotated[str | None, typer.Option("--best", metavar="COLUMN", help="The best trial in a metric.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="NAME", help="For the model card, for example CC-BY-4.0.")
    ] = None,
) -> None:
    """Write models out of a study, each with what is needed to use and to check it.

    Example: marl-study export quickstart --best disentanglement/separation --to exported
    """
    from study.analysis import StudyResults
    from study.export.trials import best_trial, export_trials

    if sum([front, bool(trial), best is not None]) != 1:
        raise UserError("say which models: exactly one of --front, --trial ID and --best COLUMN")
    read = StudyResults(StudyStore(ObjectStore(store), study))
    by = best or list(read.spec.objectives)[-1]
    if best is not None:
        trials = [best_trial(read, best)]
    else:
        trials = list(dict.fromkeys(trial or ())) or [int(number) for number in read.front()["trial"]]
    if not trials:
        raise UserError(f"study {study!r} has no complete trial yet, so no front")
    for bundle in export_trials(read, trials, by, to, licence):
        typer.echo(str(bundle))


def verify(folder: Annotated[Path, typer.Argument(metavar="DIR", help="An exported model.")]) -> None:
    """Check that an exported model is whole and scores what it says.

    Example: marl-study verify exported/quickstart-trial-7-seed-0
    """
    from study.export.bundle import verify as check

    scores = check(folder)
    for name, (stated, found) in scores.items():
        if " of " in name:  # one line a clip would hide the others
            continue
        typer.echo(f"{name:<34} stated {stated:9.4f}   found {found:9.4f}")
    err.print(f"verified: {folder}", soft_wrap=True)


def delete(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    yes: Annotated[bool, typer.Option("--yes", help="Really delete it.")] = False,
) -> None:
    """Delete a study and everything in it.

    Example: marl-study delete quickstart --yes
    """
    from study.analysis import StudyResults

    found = StudyStore(ObjectStore(store), study)
    read = StudyResults(found)
    if read.is_live:
        raise UserError(f"study {study!r} is running; stop it first")
    if not yes:
        raise UserError(f"this deletes {len(read.trials())} trials and their models in {found.uri}; say --yes to do it")
    found.delete()
    err.print(f"deleted {found.uri}", soft_wrap=True)


def prune(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted.")] = False,
) -> None:
    """Delete weights far from the front, and what writers left behind. Results and latents stay.

    Kept are the weights of the front, and of every trial that would be on it were it better by one standard deviation.

    Example: marl-study prune quickstart --dry-run
    """
    from study.analysis import StudyResults
    from study.runs.cleanup import kept_line, plan_prune, prune_table
    from study.runs.cleanup import prune as delete_planned

    read = StudyResults(StudyStore(ObjectStore(store), study))
    plan = plan_prune(read)
    if not plan.deletions:
        typer.echo("nothing to prune")
        return
    if not dry_run:
        delete_planned(read, plan)
    out().print(prune_table(plan, dry_run))
    typer.echo(kept_line(plan))


_LOOK_EVERY_S = 2.0
# It looks every ten seconds, and writing checkpoints takes some more.
_STOPS_WITHIN_S = 60.0


def logs(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the study is not running any more.")] = False,
) -> None:
    """Show what a study has said of itself, in all its runs, with the time in UTC.

    Example: marl-study logs quickstart --follow
    """
    for line in _lines(ObjectStore(store), study, follow):
        typer.echo(line)


def stop(study: StudyArgument, store: StoreOption = DEFAULT_STORE) -> None:
    """Ask the run of a study, wherever it runs, to write checkpoints and end; wait until it has.

    Example: marl-study stop quickstart --store s3://bucket/studies
    """
    found = StudyStore(ObjectStore(store), study)
    run = _live(found)
    if run is None:
        found.metadata()  # a study that is not there is told as such
        raise UserError(f"study {study!r} is not running: {_last_sign_of_life(found)}")
    found.ask_to_stop(run)
    err.print(f"asked run {run} of study {study} to write checkpoints and stop", soft_wrap=True)
    deadline = time.monotonic() + _STOPS_WITHIN_S
    while _live(found) == run:
        if time.monotonic() > deadline:
            raise RunError(
                f"run {run} of study {study!r} has not stopped within {_STOPS_WITHIN_S:.0f} s, "
                f"{_last_sign_of_life(found)}; it may still do so, as `{command_for(found.uri, 'status')}` will show"
            )
        time.sleep(_LOOK_EVERY_S)
    err.print(f"stopped; go on with: {command_for(found.uri, 'resume')}", soft_wrap=True)


def _lines(objects: ObjectStore, study: str, follow: bool) -> Iterator[str]:
    """Lines of the log, oldest first; followed, those that come while the study runs."""
    from study.store.cache import StudyCache

    store = StudyStore(objects, study, StudyCache())
    store.metadata()
    shown = 0
    while True:
        is_running = _live(store) is not None  # asked first: it writes its last lines before it ends
        rows = store.read("log")
        for time_, line in zip(rows["time"][shown:], rows["line"][shown:], strict=True) if len(rows) else ():
            yield f"{pd.Timestamp(time_):%Y-%m-%d %H:%M:%S}  {printable(line)}"
        shown = len(rows)
        if not follow or not is_running:
            return
        time.sleep(_LOOK_EVERY_S)


def _live(store: StudyStore) -> int | None:
    """The run that is at work, if one is."""
    live = [number for number, run in store.runs().items() if is_live(run, store.objects.now)]
    return max(live, default=None)


def _last_sign_of_life(store: StudyStore) -> str:
    runs = store.runs()
    if not runs:
        return "it was never launched"
    last = runs[max(runs)]
    if last.get("finished"):
        return f"run {max(runs)} finished at {last['finished']}"
    return f"the last heartbeat of run {max(runs)} was at {last['heartbeat']}"
