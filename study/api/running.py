"""Functions of the Python API that find, run and resume studies."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from study.api.console import console
from study.api.study import Study
from study.errors import DEFAULT_STORE
from study.spec import Spec
from study.storage import ObjectStore
from study.store import StudyCache, StudyStore
from study.store import list_studies as names_of_studies

_STORE_VARIABLE = "MARL_STORE"


def run(
    spec: str | Path | Mapping[str, Any] | Spec,
    *,
    store: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    trials: int | None = None,
    address: str | None = None,
    cluster: str | Path | None = None,
    progress: bool = True,
) -> Study:
    """Run a study, and return it when its trials are complete.

    A study that exists with the same spec is resumed. Ctrl-C, or *Interrupt* in a notebook, stops the study after its
    checkpoints are written; `resume` continues it.

    Args:
        spec: Path of a YAML file, its content, or a `Spec`.
        store: Folder, or `s3://bucket/prefix`, that holds the studies. Default: `$MARL_STORE`, or else the folder
            `runs`.
        overrides: Changes of the spec by path, such as `{"train.steps": 400}`.
        trials: Number of trials, instead of `search.trials`.
        address: Ray cluster that runs the study: `auto` on its head node, or HOST:PORT. With `http://HOST:8265`, the
            address of the cluster's dashboard, a process on the cluster runs the study, and this function returns when
            the study has started.
        cluster: Cluster file of `ray up`. The study runs on that cluster, as with the address of a dashboard. Give the
            `store` that its machines use, so that the study can be read.
        progress: Whether to print progress: to stderr, in a notebook below the cell.

    Returns:
        The study.

    Raises:
        UserError: If the spec breaks a rule, the store has another study of this name or cannot be written, or the
            study is running already.
        RunError: If the run fails, or no trial is complete.
        Interrupted: If the user stops the run.

    Example:
        >>> import study
        >>> quickstart = study.run("quickstart", overrides={"train.steps": 400})
        >>> quickstart.front()
    """
    from study.runs.destination import Destination
    from study.spec.resolve import read_spec, unusual_objectives

    uri, out = _store_uri(store), console(progress)
    resolved = read_spec(spec, overrides or {}, trials)
    for sentence in unusual_objectives(resolved.spec):
        out.print(f"warning: {sentence}", markup=False, soft_wrap=True)
    Destination(address, None if cluster is None else Path(cluster), uri).run(resolved, out)
    return Study(_study_store(resolved.spec.name, uri))


def resume(
    name: str,
    *,
    store: str | Path | None = None,
    trials: int | None = None,
    confirm: int | None = None,
    address: str | None = None,
    cluster: str | Path | None = None,
    progress: bool = True,
) -> Study:
    """Resume an interrupted study, or add trials to it, and return it when its trials are complete.

    Args:
        name: Name of the study.
        store: Folder, or `s3://bucket/prefix`, that holds the studies. Default: `$MARL_STORE`, or else `runs`.
        trials: Number of trials that the study is to have. Default: that of its last run.
        confirm: Number of new seeds under which the front is trained again afterwards, as the study NAME-confirmed.
        address: Ray cluster that runs the study, as in `run`.
        cluster: Cluster file of `ray up`, as in `run`.
        progress: Whether to print progress: to stderr, in a notebook below the cell.

    Returns:
        The study.

    Raises:
        UserError: If there is no such study, it cannot have this number of trials, or it is running already.
        RunError: If the run fails, or no trial is complete.
        Interrupted: If the user stops the run.

    Example:
        >>> study.resume("quickstart", trials=24)
    """
    from study.runs.destination import Destination

    uri, out = _store_uri(store), console(progress)
    Destination(address, None if cluster is None else Path(cluster), uri).resume(name, trials, confirm, out)
    return Study(_study_store(name, uri))


def open(name: str, *, store: str | Path | None = None, plugins: Iterable[str] = ()) -> Study:  # noqa: A001  # called as study.open
    """Open a study of a store. It may be running, on any machine.

    Args:
        name: Name of the study.
        store: Folder, or `s3://bucket/prefix`, that holds the studies. Default: `$MARL_STORE`, or else `runs`.
        plugins: Plug-ins of the study that may be imported, such as `my_networks:Recurrent`. Reading imports no others,
            and they must have the source with which the study started.

    Raises:
        UserError: If there is no such study, the store cannot be read, or a plug-in cannot be imported.

    Example:
        >>> tradeoff = study.open("tradeoff", store="s3://bucket/studies")
    """
    study_store = _study_store(name, _store_uri(store))
    metadata = study_store.metadata()
    if permitted := list(plugins):
        from study.spec.plugins import load_recorded

        load_recorded(metadata.spec, metadata.plugins, permitted)
    return Study(study_store)


def list_studies(*, store: str | Path | None = None) -> list[str]:
    """Return the names of the studies in a store.

    Args:
        store: Folder, or `s3://bucket/prefix`, that holds the studies. Default: `$MARL_STORE`, or else `runs`.

    Raises:
        UserError: If the store cannot be read.
    """
    return names_of_studies(ObjectStore(_store_uri(store)))


def _store_uri(store: str | Path | None) -> str:
    return os.environ.get(_STORE_VARIABLE) or DEFAULT_STORE if store is None else str(store)


def _study_store(name: str, uri: str) -> StudyStore:
    return StudyStore(ObjectStore(uri), name, StudyCache())
