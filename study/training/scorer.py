"""Scores trained models of the store: by the same code, in groups of the same size, as when they were reported."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from marl.checkpoint import DESCRIPTION_FILE, MODEL_FILE, Description, parameters_of
from marl.config import Config
from marl.evaluation import evaluate
from marl.examination import Material, material_of
from marl.metrics import METRIC_VERSION
from marl.models import Model, Models
from marl.objective import lane_settings
from study.store import StudyStore
from study.training.stacks import Family

__all__ = ["Scorer"]


class Scorer:
    """Reads models that reached the full budget and measures them.

    Args:
        store: the study.
        family_of: of a configuration.
        models_of: makes models of a family of which a configuration is one.
        together: models of a group now, which decides the last bits of some metrics.
    """

    def __init__(
        self,
        store: StudyStore,
        family_of: Callable[[Config], Family],
        models_of: Callable[[Family, Config], Models],
        together: Callable[[], int],
    ) -> None:
        self._store = store
        self._family_of = family_of
        self._models_of = models_of
        self._together = together
        spec = store.document().spec
        self._steps, self._shared = spec.train.steps, spec.shared_factors

    def scores(
        self, replicates: Sequence[tuple[int, int]], measures: Sequence[str], split: str
    ) -> list[dict[str, Any]]:
        """Rows for `reports/`, one a replicate that has weights; those of the test split under `test/<name>`.

        Args:
            replicates: trial and seed of each.
            measures: names of `marl.evaluation.MEASURES`.
            split: on whose clips.
        """
        prefix = "" if split == "validation" else f"{split}/"
        by_family: dict[Family, list[tuple[int, int, Config, Model]]] = {}
        for trial, seed in replicates:
            if (found := self._load(trial, seed)) is not None:
                config, model = found
                by_family.setdefault(self._family_of(config), []).append((trial, seed, config, model))
        rows = []
        for family, members in by_family.items():
            models, size = self._models_of(family, members[0][2]), self._together()
            for first in range(0, len(members), size):
                group = members[first : first + size]
                together = models.group([model for *_, model in group], size)
                metrics = evaluate(together, self._shared, measures, split).metrics
                for (trial, seed, *_), scores in zip(group, metrics, strict=False):
                    # What is not finite on clips that nobody has looked at yet is absent.
                    finite = {f"{prefix}{name}": value for name, value in scores.items() if math.isfinite(value)}
                    rows.append(self._row(trial, seed) | finite)
        return rows

    def material(self, trial: int, seed: int) -> tuple[dict[str, Any], Material] | None:
        """A row to be completed, and what `marl.examination` needs of a model; none when it has no weights."""
        found = self._load(trial, seed)
        if found is None:
            return None
        config, model = found
        models = self._models_of(self._family_of(config), config)
        return self._row(trial, seed), material_of(models.group([model], 1))

    def _load(self, trial: int, seed: int) -> tuple[Config, Model] | None:
        found = self._store.latest_checkpoint(trial, seed)
        if found is None or found.step != self._steps:
            return None
        description = Description.model_validate_json(found.files[DESCRIPTION_FILE])
        config = description.config
        models = self._models_of(self._family_of(config), config)
        network, device = models.program.network, models.dataset.device
        padded = network.pad(parameters_of(description, found.files[MODEL_FILE]), network.mask(config.latent))
        settings = lane_settings(models.program, config)
        return config, Model(
            {name: value.to(device) for name, value in padded.items()},
            type(settings)(*(field.to(device) for field in settings)),
        )

    def _row(self, trial: int, seed: int) -> dict[str, Any]:
        return {"trial": trial, "seed": seed, "step": self._steps, "metric_version": METRIC_VERSION}
