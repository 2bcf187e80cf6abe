"""Hyperparameter studies of self-supervised multi-view representation learning of music audio.

>>> import study
>>> quickstart = study.run("quickstart")
>>> quickstart.front()
>>> model = quickstart.best("disentanglement/separation").model()

`python -c "import study"` imports nothing else: a name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.api.running import list_studies, open, resume, run  # noqa: A004
    from study.api.study import Study
    from study.api.trial import Trial
    from study.errors import Interrupted, RunError, UserError
    from study.spec.schema import HalvingConfig, ResourcesConfig, SearchConfig, Spec, TrainConfig
    from study.spec.space import Parameter

__all__ = [
    "HalvingConfig",
    "Interrupted",
    "Parameter",
    "ResourcesConfig",
    "RunError",
    "SearchConfig",
    "Spec",
    "Study",
    "TrainConfig",
    "Trial",
    "UserError",
    "list_studies",
    "open",
    "resume",
    "run",
]

_MODULES = {
    "study.api.running": ("list_studies", "open", "resume", "run"),
    "study.api.study": ("Study",),
    "study.api.trial": ("Trial",),
    "study.errors": ("Interrupted", "RunError", "UserError"),
    "study.spec.schema": ("HalvingConfig", "ResourcesConfig", "SearchConfig", "Spec", "TrainConfig"),
    "study.spec.space": ("Parameter",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
