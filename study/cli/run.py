"""Commands that train or evaluate: run, resume, rescore."""

from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.common import (
    AddressOption,
    ClusterOption,
    Destination,
    SetOption,
    SpecArgument,
    StoreOption,
    StudyArgument,
    log,
    open_results,
    read_spec,
    stderr,
)
from study.errors import DEFAULT_STORE, Interrupted, RunError, UserError, command_for

if TYPE_CHECKING:
    from study.store import StudyStore

_MAX_TRIALS = 1_000_000  # as `study.spec.schema.MAX_TRIALS`, which takes a while to import


def run(
    spec_file: SpecArgument,
    store: StoreOption = DEFAULT_STORE,
    overrides: SetOption = None,
    trials: Annotated[
        int | None, typer.Option(min=1, max=_MAX_TRIALS, help="Number of trials, instead of search.trials.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved spec and an estimate of the duration, run nothing.")
    ] = False,
    address: AddressOption = None,
    cluster: ClusterOption = None,
) -> None:
    """Run a study on this machine or on a cluster.

    A study that exists with the same spec is resumed.

    Example: marl-study run quickstart --set train.steps=400
    """
    from study.runs.lifecycle import create_study
    from study.spec.ready import find_spec
    from study.storage import ObjectStore
    from study.store import StudyStore

    resolved = read_spec(spec_file, overrides, trials)
    spec = resolved.spec
    objects = ObjectStore(store)
    if dry_run:
        from study.datasets import with_content
        from study.progress import progress_line
        from study.runs.dry_run import describe_dry_run

        with progress_line(stderr()) as show:
            text = describe_dry_run(with_content(resolved, objects), objects, show)
        typer.echo(text)
        return
    destination = Destination(address, cluster, store)
    arguments = ["run", find_spec(spec_file).name, *(word for change in overrides or () for word in ("--set", change))]
    arguments += [] if trials is None else ["--trials", str(trials)]
    if destination.is_remote:
        destination.submit(spec.name, arguments, find_spec(spec_file))
        return
    study = StudyStore(objects, spec.name)
    if resolved.needs_preparation:
        from study.datasets import with_content
        from study.datasets.prepare import ensure_prepared
        from study.runs.ray_cluster import ray_session

        session = ray_session(address)
        resolved = with_content(resolved, objects, lambda: ensure_prepared(resolved, objects, session, stderr()))
    create_study(study, resolved, address)
    _run_trials(study, spec.search.trials or 0, address)


def resume(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    trials: Annotated[
        int | None, typer.Option(min=1, max=_MAX_TRIALS, help="Raise the number of trials of the study to this.")
    ] = None,
    confirm: Annotated[
        int | None,
        typer.Option(min=1, max=1000, metavar="SEEDS", help="Then train the front again under this many new seeds."),
    ] = None,
    address: AddressOption = None,
    cluster: ClusterOption = None,
) -> None:
    """Resume an interrupted study, or add trials to it.

    With --confirm, the trials of the front become the study NAME-confirmed. It uses seeds that did not choose them.

    Example: marl-study resume quickstart --trials 24
    """
    destination = Destination(address, cluster, store)
    if destination.is_remote:
        options = {"--trials": trials, "--confirm": confirm}
        arguments = [word for name, value in options.items() if value is not None for word in (name, str(value))]
        destination.submit(study, ["resume", study, *arguments], None)
        return
    results = open_results(store, study)
    target = results.target if trials is None else trials
    existing = len(results.trials())
    if target < existing:
        raise UserError(f"--trials: must be at least the {existing} trials of study {study!r}; got {target}")
    if trials is not None and results.spec.search.sampler == "grid" and target != results.spec.search.trials:
        raise UserError(
            f"--trials: must be the {results.spec.search.trials} cells of the grid of study {study!r}; got {target}"
        )
    results.store.objects.check_writable()
    _run_trials(results.store, target, address)
    if confirm is not None:
        from study.runs.lifecycle import confirmation_spec, create_study
        from study.store import StudyStore

        resolved = confirmation_spec(open_results(store, study), confirm)
        confirmation = StudyStore(results.store.objects, resolved.spec.name)
        create_study(confirmation, resolved, address)
        _run_trials(confirmation, resolved.spec.search.trials or 0, address)


def rescore(
    study: StudyArgument,
    store: StoreOption = DEFAULT_STORE,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="NAME,…", help="Groups of metrics; default: all but dci and sound."),
    ] = None,
    trial: Annotated[list[int] | None, typer.Option("--trial", help="Only this trial; may be repeated.")] = None,
    test: Annotated[bool, typer.Option("--test", help="Use test clips instead of validation clips.")] = False,
) -> None:
    """Evaluate the stored models of a study again, without training. Earlier rows stay.

    Example: marl-study rescore quickstart --metrics dci,sap
    """
    results = open_results(store, study)
    results.store.objects.check_writable()
    from study.runs.post_training import rescore as evaluate_again

    names = metrics.split(",") if metrics is not None else None
    count = evaluate_again(results, names, trial, "test" if test else "validation", stderr())
    log(f"evaluated {count} models of study {study}")


def _run_trials(store: "StudyStore", target: int, address: str | None) -> None:
    """Run a study until it has `target` finished trials, including trials of earlier runs."""
    from study.analysis import StudyResults
    from study.store.lease import check_no_live_run

    before = StudyResults(store)
    check_no_live_run(store, before.runs)
    finished = int(before.trials()["state"].isin(["complete", "pruned", "failed"]).sum())
    remaining = max(0, target - finished) + (0 if before.has_plain_vae else 1)
    if unavailable := before.unavailable_post_training():
        counts = ", ".join(f"{group} of {count} models ({reason})" for (group, reason), count in unavailable.items())
        log(f"skipped, because an earlier run could not compute it: {counts}; to try again, use `rescore`")
    if not remaining and not before.missing_post_training():
        log(f"study {store.name} is complete: {finished} trials")
        return
    from study.datasets import check_pairs, factors_of
    from study.runs.driver import run_study
    from study.runs.dry_run import check_free_space, estimate_storage, storage_line
    from study.runs.lifecycle import spec_of
    from study.spec.resolved_spec import StackPlan

    resolved = spec_of(before.metadata)
    check_pairs(resolved, store.objects)
    plan = StackPlan.model_validate(before.metadata.stack)
    estimate = estimate_storage(resolved, plan, remaining, factors_of(resolved, store.objects))
    log(storage_line(estimate, store.uri))
    if warning := check_free_space(estimate, store.objects.uri, halving=resolved.spec.halving is not None):
        log(f"warning: {warning}")
    try:
        run_study(store, target, stderr(), address)
    except (Interrupted, KeyboardInterrupt):  # KeyboardInterrupt: a second Ctrl-C while checkpoints are written
        raise Interrupted(f"stopped; resume it with: {command_for(store.uri, 'resume')}") from None
    states = StudyResults(store).trials()["state"].value_counts()
    log(f"study {store.name} is done: " + ", ".join(f"{count} {state}" for state, count in states.items()))
    if not states.get("complete", 0):
        raise RunError(f"no trial of study {store.name!r} is complete; see why: {command_for(store.uri, 'results')}")
