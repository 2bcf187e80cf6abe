"""Commands that take models out of a store, or delete what it holds: export, verify, delete, prune."""

from pathlib import Path
from typing import Annotated

import typer

from study.commands.options import StoreOption, StudyArgument
from study.errors import UserError
from study.objects import Objects
from study.results.status import DEFAULT_STORE
from study.store import StudyStore
from study.terminal import err, out

__all__ = ["delete", "export", "prune", "verify"]


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
    from study.export.export import best_trial, export_trials
    from study.results import StudyResults

    if sum([front, bool(trial), best is not None]) != 1:
        raise UserError("say which models: exactly one of --front, --trial ID and --best COLUMN")
    read = StudyResults(StudyStore(Objects(store), study))
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
    from study.results import StudyResults

    found = StudyStore(Objects(store), study)
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
