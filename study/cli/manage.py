"""Commands that manage the studies of a store: ls, status, logs, stop, clean, delete."""

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from study.cli.common import JsonOption, StoreOption, StudyArgument, log, open_results, open_study, show_table
from study.cli.results import volume_line
from study.errors import DEFAULT_STORE, RunError, UserError, command_for
from study.formatting import printable

if TYPE_CHECKING:
    from study.store import StudyStore

_POLL_S = 2.0
# A run looks for stop requests every ten seconds and then writes checkpoints.
_STOP_TIMEOUT_S = 60.0


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
    state = open_results(store, study).status()
    typer.echo(json.dumps(state, indent=1) if as_json else status_lines(state))


def logs(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    follow: Annotated[bool, typer.Option("--follow", help="Continue until the study stops running.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object on each line.")] = False,
) -> None:
    """Show the log of a study, of all its runs, with times in UTC.

    Example: marl-study logs quickstart --follow
    """
    for time_, line in _log_lines(store, study, follow):
        if as_json:
            typer.echo(json.dumps({"time": time_.isoformat(), "line": line}, ensure_ascii=False))
        else:
            typer.echo(f"{time_:%Y-%m-%d %H:%M:%S}  {printable(line)}")


def stop(study: StudyArgument, store: StoreOption = DEFAULT_STORE) -> None:
    """Stop a running study after it has written checkpoints.

    It may run on any machine. The command returns when it has stopped.

    Example: marl-study stop quickstart --store s3://bucket/studies
    """
    study_store = open_study(store, study)
    run = _live_run(study_store)
    if run is None:
        study_store.metadata()  # raises if the study does not exist
        raise UserError(f"study {study!r} is not running: {_last_activity(study_store)}")
    study_store.request_stop(run)
    log(f"asked run {run} of study {study} to write checkpoints and stop")
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while _live_run(study_store) == run:
        if time.monotonic() > deadline:
            raise RunError(
                f"run {run} of study {study!r} has not stopped within {_STOP_TIMEOUT_S:.0f} s, "
                f"{_last_activity(study_store)}; it may still stop, see: {command_for(study_store.uri, 'status')}"
            )
        time.sleep(_POLL_S)
    log(f"stopped; resume it with: {command_for(study_store.uri, 'resume')}")


def clean(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted.")] = False,
) -> None:
    """Delete weights of trials far from the front.

    Objects that interrupted writers left are deleted too. Results and latents stay.

    Weights of the front stay, and weights of trials that would be on it if improved by one standard deviation.

    Example: marl-study clean quickstart --dry-run
    """
    from study.runs.lifecycle import clean_up, cleanup_table, kept_line, plan_cleanup

    study_results = open_results(store, study)
    plan = plan_cleanup(study_results)
    if not plan.deletions:
        typer.echo("nothing to delete")
        return
    if not dry_run:
        clean_up(study_results, plan)
    show_table(cleanup_table(plan, dry_run))
    typer.echo(kept_line(plan))


def delete(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Delete a study with all its models and results.

    Example: marl-study delete quickstart --yes
    """
    study_results = open_results(store, study)
    uri = study_results.store.uri
    if study_results.is_live:
        raise UserError(f"study {study!r} is running; stop it first: {command_for(uri, 'stop')}")
    if not yes:
        trials = len(study_results.trials())
        raise UserError(f"this would delete {trials} trials and their models in {uri}; add --yes to confirm")
    study_results.store.delete()
    log(f"deleted {uri}")


def status_lines(status: dict[str, Any]) -> str:
    """Return the status of a study as lines of text."""
    states = ", ".join(f"{count} {state}" for state, count in status["trials"].items() if count)
    lines = [
        f"study {status['study']}: {status['state']}",
        f"trials: {states or 'none yet'}, of {status['target']}",
        f"front: {', '.join(map(str, status['front'])) or 'no complete trial yet'}",
        f"reached: {volume_line(status['hypervolume'], status['trial_steps'])}",
        f"runs: {status['runs']}, last heartbeat {status['last_heartbeat'] or 'none'}",
        f"store: {status['uri']}",
    ]
    if status["state"] == "interrupted":
        lines.append(f"resume with: {status['resume']}")
    return "\n".join(lines)


def _log_lines(store: str, study: str, follow: bool) -> Iterator[tuple[datetime, str]]:
    """Yield time and text of a study's log, oldest first; with `follow` also lines that are written from now on."""
    from study.storage import ObjectStore
    from study.store import StudyCache, StudyStore

    study_store = StudyStore(ObjectStore(store), study, StudyCache())
    study_store.metadata()  # raises if the study does not exist
    printed = 0
    while True:
        is_running = _live_run(study_store) is not None  # before reading: a run writes its last lines before it ends
        rows = study_store.read("log")
        for row in rows.iloc[printed:].itertuples():
            yield row.time, str(row.line)
        printed = len(rows)
        if not follow or not is_running:
            return
        time.sleep(_POLL_S)


def _live_run(study_store: "StudyStore") -> int | None:
    """Return the number of the run that is alive, if there is one."""
    from study.store.lease import is_live

    live = [number for number, run in study_store.runs().items() if is_live(run, study_store.objects.now)]
    return max(live, default=None)


def _last_activity(study_store: "StudyStore") -> str:
    runs = study_store.runs()
    if not runs:
        return "it never ran"
    number = max(runs)
    if runs[number].get("finished"):
        return f"run {number} finished at {runs[number]['finished']}"
    return f"the last heartbeat of run {number} was at {runs[number]['heartbeat']}"
