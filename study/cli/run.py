"""Commands that train or evaluate: run, resume, rescore."""

from typing import Annotated

import typer

from study.cli.common import (
    AddressOption,
    ClusterOption,
    SetOption,
    SpecArgument,
    StoreOption,
    StudyArgument,
    log,
    open_results,
    read_spec,
    stderr,
)
from study.errors import DEFAULT_STORE

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
    from study.runs.destination import Destination
    from study.storage import ObjectStore

    resolved = read_spec(spec_file, overrides, trials)
    if dry_run:
        from study.datasets import with_content
        from study.progress import progress_line
        from study.runs.dry_run import describe_dry_run

        objects = ObjectStore(store)
        with progress_line(stderr()) as show:
            text = describe_dry_run(with_content(resolved, objects), objects, show)
        typer.echo(text)
        return
    Destination(address, cluster, store).run(resolved, stderr())


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
    from study.runs.destination import Destination

    Destination(address, cluster, store).resume(study, trials, confirm, stderr())


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
