"""Run a spec, and resume a study: what is checked before trials start, and what is logged at the end."""

from rich.console import Console

from study.analysis import StudyResults
from study.analysis.post_training import missing_post_training, unavailable_post_training
from study.datasets import check_pairs, factors_of, with_content
from study.errors import Interrupted, RunError, UserError, command_for, option
from study.runs.dry_run import check_free_space, estimate_storage, storage_line
from study.runs.lifecycle import confirmation_spec, create_study, spec_of
from study.spec.resolved_spec import ResolvedSpec, StackPlan
from study.storage import ObjectStore
from study.store import StudyStore
from study.store.lease import check_no_live_run


def run_spec(resolved: ResolvedSpec, objects: ObjectStore, address: str | None, console: Console) -> None:
    """Prepare the data of a spec, create its study unless it exists, and run its trials.

    Args:
        resolved: Spec of the study.
        objects: Store of the study.
        address: As in `ray_session`.
        console: Console for progress.

    Raises:
        UserError: If the store has a study of this name with another spec, it is running, or it cannot be written.
        RunError: If no trial is complete in the end, or the run fails.
        Interrupted: If the user stops the run.
    """
    if resolved.needs_preparation:
        from study.datasets.prepare import ensure_prepared
        from study.runs.ray_cluster import ray_session

        given = resolved
        session = ray_session(address)
        resolved = with_content(given, objects, lambda: ensure_prepared(given, objects, session, console))
    store = StudyStore(objects, resolved.spec.name)
    create_study(store, resolved, address)
    run_trials(store, resolved.spec.search.trials or 0, address, console)


def resume_study(
    results: StudyResults, trials: int | None, confirm: int | None, address: str | None, console: Console
) -> None:
    """Resume an interrupted study, or add trials to it.

    Args:
        results: Results of the study so far.
        trials: Number of trials that the study is to have; None for the number of its last run.
        confirm: Number of new seeds under which the front is trained again, as the study NAME-confirmed.
        address: As in `ray_session`.
        console: Console for progress.

    Raises:
        UserError: If the study cannot have this number of trials, is running, or cannot be written.
        RunError: If no trial is complete in the end, or the run fails.
        Interrupted: If the user stops the run.
    """
    spec = results.spec
    target = results.target if trials is None else trials
    if target < (existing := len(results.trials())):
        rule = f"must be at least the {existing} trials of study {spec.name!r}"
        raise UserError(f"{option('trials')}: {rule}; got {target}")
    if trials is not None and spec.search.sampler == "grid" and target != spec.search.trials:
        rule = f"must be the {spec.search.trials} cells of the grid of study {spec.name!r}"
        raise UserError(f"{option('trials')}: {rule}; got {target}")
    results.store.objects.check_writable()
    run_trials(results.store, target, address, console)
    if confirm is not None:
        resolved = confirmation_spec(StudyResults(results.store), confirm)
        confirmation = StudyStore(results.store.objects, resolved.spec.name)
        create_study(confirmation, resolved, address)
        run_trials(confirmation, resolved.spec.search.trials or 0, address, console)


def run_trials(store: StudyStore, target: int, address: str | None, console: Console) -> None:
    """Run a study until it has `target` finished trials, including trials of earlier runs."""

    def log(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    before = StudyResults(store)
    check_no_live_run(store, before.runs)
    finished = int(before.trials()["state"].isin(["complete", "pruned", "failed"]).sum())
    remaining = max(0, target - finished) + (0 if before.has_plain_vae else 1)
    if unavailable := unavailable_post_training(before):
        counts = ", ".join(f"{group} of {count} models ({reason})" for (group, reason), count in unavailable.items())
        log(f"skipped, because an earlier run could not compute it: {counts}; to try again, use `rescore`")
    if not remaining and not missing_post_training(before):
        log(f"study {store.name} is complete: {finished} trials")
        return
    from study.runs.driver import run_study  # imports Ray, which a complete study does not need

    resolved = spec_of(before.metadata)
    check_pairs(resolved, store.objects)
    plan = StackPlan.model_validate(before.metadata.stack)
    estimate = estimate_storage(resolved, plan, remaining, factors_of(resolved, store.objects))
    log(storage_line(estimate, store.uri))
    if warning := check_free_space(estimate, store.objects.uri, halving=resolved.spec.halving is not None):
        log(f"warning: {warning}")
    try:
        run_study(store, target, console, address)
    except (Interrupted, KeyboardInterrupt):  # KeyboardInterrupt: a second Ctrl-C while checkpoints are written
        raise Interrupted(f"stopped; resume it with: {command_for(store.uri, 'resume')}") from None
    states = StudyResults(store).trials()["state"].value_counts()
    log(f"study {store.name} is done: " + ", ".join(f"{count} {state}" for state, count in states.items()))
    if not states.get("complete", 0):
        raise RunError(f"no trial of study {store.name!r} is complete; see why: {command_for(store.uri, 'results')}")
