"""Where a study runs: in this process, on this machine or connected to a cluster, or as a command on a cluster."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console

from marl.registry import uninstalled_plugins
from study.analysis import StudyResults
from study.errors import DEFAULT_STORE, UserError, command_for, option
from study.spec.plugins import load_recorded
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore
from study.store import StudyStore


class Destination:
    """Where a study runs.

    Args:
        address: Cluster to use: `http://HOST:8265` of its dashboard, `auto` on its head node, or HOST:PORT of the head
            node; None for this machine.
        cluster: Cluster file of `ray up`, instead of an address.
        store: Store of the study.

    Raises:
        UserError: If there are an address and a cluster file, or a cluster cannot reach the store.
    """

    def __init__(self, address: str | None, cluster: Path | None, store: str) -> None:
        if address is not None and cluster is not None:
            names = f"{option('address')} and {option('cluster')}"
            raise UserError(f"{names}: give one of them; got {address} and {cluster}")
        self._address, self._cluster, self._store = address, cluster, store
        if address is not None and not ("://" in store or Path(store).is_absolute()):
            raise UserError(
                f"{option('store')}: a cluster needs a store that all its machines can reach, s3://bucket/prefix or "
                f"the absolute path of a shared folder; got {store}"
            )

    def run(self, resolved: ResolvedSpec, console: Console) -> None:
        """Run a spec. On a cluster that is not connected to this process, return when the study has started there.

        `run_spec` describes the errors.
        """
        if not self._is_remote:
            from study.runs.run import run_spec

            run_spec(resolved, ObjectStore(self._store), self._address, console)
            return
        with tempfile.TemporaryDirectory(prefix="marl-spec-") as folder:
            file = Path(folder) / f"{resolved.spec.name}.yaml"
            content = resolved.spec.model_dump(mode="json", exclude_none=True)
            file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
            self._submit(resolved.spec.name, ["run", file.name], [file, *uninstalled_plugins()], console)

    def resume(self, study: str, trials: int | None, confirm: int | None, console: Console) -> None:
        """Resume a study. On a cluster that is not connected to this process, return when it has started there.

        `resume_study` describes the arguments and the errors.
        """
        if not self._is_remote:
            from study.runs.run import resume_study

            store = StudyStore(ObjectStore(self._store), study)
            resume_study(StudyResults(store), trials, confirm, self._address, console)
            return
        options = {"--trials": trials, "--confirm": confirm}
        words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
        # The head node of a cluster file has kept the plug-ins.
        plugins = self._load_plugins(study) if self._cluster is None else []
        self._submit(study, ["resume", study, *words], plugins, console)

    def _load_plugins(self, study: str) -> list[Path]:
        """Import the plug-ins of a study, and return those that are outside of installed packages."""
        try:
            metadata = StudyStore(ObjectStore(self._store), study).metadata()
        except UserError:  # only the cluster reaches the store
            return []
        load_recorded(metadata.spec, metadata.plugins)
        return uninstalled_plugins()

    @property
    def _is_remote(self) -> bool:
        """True if a process on the cluster runs the study."""
        return self._cluster is not None or (self._address is not None and self._address.startswith("http"))

    def _submit(self, study: str, arguments: Sequence[str], files: Sequence[Path], console: Console) -> None:
        """Run `marl-study` with these arguments, without `--store`, on the cluster.

        The files are sent along: the spec, and plug-ins outside of installed packages.
        """
        from study.runs.ray_cluster import run_on_head, submit_job

        if self._cluster is not None:
            # The cluster file sets MARL_STORE on the head node; the default store of this machine does not override it.
            store_option = [] if self._store == DEFAULT_STORE else ["--store", self._store]
            run_on_head(self._cluster, [*arguments, *store_option], files)
            return

        def log(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        submit_job(self._address or "", [*arguments, "--store", self._store], files, log)
        uri = f"{ObjectStore(self._store).uri}/{study}"
        log(
            f"the study continues without this process; follow it with `{command_for(uri, 'logs')} --follow` and "
            f"`{command_for(uri, 'status')}`, stop it with `{command_for(uri, 'stop')}`"
        )
