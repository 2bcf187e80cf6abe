"""Commands that compute: run, resume, rescore."""

from pathlib import Path
from typing import Annotated

import typer

from study.cli.options import AddressOption, ClusterOption, Destination, StoreOption, StudyArgument
from study.cli.terminal import err
from study.errors import DEFAULT_STORE, Interrupted, RunError, UserError, command_for
from study.storage import ObjectStore
from study.store import StudyStore

__all__ = ["rescore", "resume", "run"]


def run(
    spec_file: Annotated[Path, typer.Argument(metavar="SPEC", help="YAML file of the study.")],
    store: StoreOption = DEFAULT_STORE,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a field.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="How many trials, instead of search.trials.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run and how long it might take.")] = False,
    address: AddressOption = None,
    cluster: ClusterOption = None,
) -> None:
    """Run a study, or go on with it; on this machine, or on a cluster.

    Example: marl-study run studies/quickstart.yaml --set train.steps=400
    """
    from study.runs.create import begin
    from study.spec.loader import load_spec
    from study.spec.resolve import resolve

    changes = list(overrides or [])
    if trials is not None:
        changes.append(f"search.trials={trials}")
    spec = resolve(load_spec(spec_file, changes))
    objects = ObjectStore(store)
    if dry_run:
        from study.datasets.lookup import with_content
        from study.runs.dry_run import describe

        typer.echo(describe(with_content(spec, objects), objects))
        return
    destination = Destination(address, cluster, store)
    words = ["run", spec_file.name, *(word for change in changes for word in ("--set", change))]
    if destination.is_elsewhere:
        destination.launch(spec.name, words, spec_file)
        return
    study = StudyStore(objects, spec.name)
    if spec.data["kind"] != "syntone":
        from study.datasets.lookup import with_content
        from study.datasets.prepare import prepared_now

        spec = with_content(spec, objects, lambda: prepared_now(spec, objects, address, err))
    begin(study, spec, address)
    _launch(study, spec.search.trials or 0, address)


def resume(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    trials: Annotated[int | None, typer.Option(min=1, help="Bring the study to this many trials.")] = None,
    confirm: Annotated[
        int | None, typer.Option(min=1, metavar="SEEDS", help="Train the front again under so many fresh seeds.")
    ] = None,
    address: AddressOption = None,
    cluster: ClusterOption = None,
) -> None:
    """Go on with a study that was interrupted, or give it more trials.

    With --confirm the trials of its front become a study NAME-confirmed, under seeds that they were not chosen by.

    Example: marl-study resume quickstart --trials 24
    """
    destination = Destination(address, cluster, store)
    if destination.is_elsewhere:
        wishes = {"--trials": trials, "--confirm": confirm}
        words = [word for name, wish in wishes.items() if wish is not None for word in (name, str(wish))]
        destination.launch(study, ["resume", study, *words], None)
        return
    from study.analysis import StudyResults

    objects = ObjectStore(store)
    found = StudyStore(objects, study)
    results = StudyResults(found)
    target = results.target if trials is None else trials
    known = len(results.trials())
    if target < known:
        raise UserError(f"--trials: study {study!r} has {known} trials already; got {target}")
    if trials is not None and results.spec.search.sampler == "grid" and target != results.spec.search.trials:
        raise UserError(f"--trials: the grid of study {study!r} has {results.spec.search.trials} cells; got {target}")
    objects.check_writable()
    _launch(found, target, address)
    if confirm is not None:
        from study.runs.create import begin, confirmation_of

        spec = confirmation_of(StudyResults(found), confirm)
        again = StudyStore(objects, spec.name)
        begin(again, spec, address)
        _launch(again, spec.search.trials or 0, address)


def rescore(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    metrics: Annotated[
        str | None, typer.Option("--metrics", metavar="NAME,…", help="Which groups; all but dci and sound by default.")
    ] = None,
    trial: Annotated[list[int] | None, typer.Option("--trial", help="Only this trial; may be given again.")] = None,
    test: Annotated[bool, typer.Option("--test", help="On test clips instead of validation clips.")] = False,
) -> None:
    """Measure the models of a study again, from what is stored of them; earlier rows stay.

    Example: marl-study rescore quickstart --metrics dci,sap
    """
    from study.analysis import StudyResults

    read = StudyResults(StudyStore(ObjectStore(store), study))
    read.store.objects.check_writable()
    from study.runs.post_training import rescore as measure

    names = metrics.split(",") if metrics is not None else None
    measured = measure(read, names, trial, "test" if test else "validation", err)
    err.print(f"measured {measured} models of study {study}", soft_wrap=True)


def _launch(store: StudyStore, target: int, address: str | None = None) -> None:
    from study.analysis import StudyResults
    from study.store.lease import refuse_if_live

    before = StudyResults(store)
    refuse_if_live(store, before.runs)
    over = int(before.trials()["state"].isin(["complete", "pruned", "failed"]).sum())
    to_come = max(0, target - over) + (0 if before.has_plain_vae else 1)
    if not to_come and not before.unexamined():
        err.print(f"study {store.name} is complete: {over} trials", soft_wrap=True)
        return
    from study.datasets.load import factors_of
    from study.runs.create import spec_of
    from study.runs.driver import launch
    from study.runs.dry_run import footprint, footprint_line
    from study.spec.model_config import StackPlan

    spec = spec_of(before.metadata)
    known = factors_of(spec, store.objects)
    size = footprint(spec, StackPlan.model_validate(before.metadata.stack), to_come, known)
    err.print(footprint_line(size, store.uri), soft_wrap=True)
    try:
        launch(store, target, err, address)
    except (Interrupted, KeyboardInterrupt):  # the latter when asked once more while all is put away
        err.print(f"stopped; go on with: {command_for(store.uri, 'resume')}", soft_wrap=True)
        raise Interrupted from None
    states = StudyResults(store).trials()["state"].value_counts()
    err.print(
        f"study {store.name} is done: " + ", ".join(f"{count} {state}" for state, count in states.items()),
        soft_wrap=True,
    )
    if not states.get("complete", 0):
        raise RunError(
            f"no trial of study {store.name!r} came to its end; `{command_for(store.uri, 'results')}` shows why"
        )
