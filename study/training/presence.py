"""Which studies share a cluster: each leaves an actor there that does nothing, and lives as long as its driver.

The actor's process imports this module, so it imports nothing else.
"""

from typing import Any

import ray

__all__ = ["be_present", "present_studies"]

_PREFIX = "study/"


class _Presence:
    """An actor with a name and no work."""


def be_present(study: str, namespace: str) -> Any:
    """A handle; while somebody has it, others know of this study."""
    presence = ray.remote(num_cpus=0)(_Presence)
    return presence.options(name=f"{_PREFIX}{study}", namespace=namespace).remote()


def present_studies(namespace: str) -> list[str]:
    """Names of the studies that share this cluster now."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    names = [actor["name"] for actor in actors if actor["namespace"] == namespace]
    return [name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX)]
