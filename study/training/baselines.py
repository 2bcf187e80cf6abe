"""What the trials of a study are compared with: models outside of the search and of the front."""

import torch

from marl.config import Config
from marl.data import Dataset
from marl.evaluation import MATURE, OF_WEIGHTS, evaluate
from marl.objective import Ingredients
from marl.stack import Stack
from study.spec import Spec
from study.spec.model_config import StackPlan, audio_of, config_of
from study.store import StudyStore

__all__ = ["write_baselines_once"]


def write_baselines_once(store: StudyStore, spec: Spec, plan: StackPlan, dataset: Dataset) -> None:
    """Score the untrained network, unless the store has its scores: the reference point of hypervolumes.

    It is the spec's own network under the first seeds, at the latent sizes of the widest trial. What a model is trained
    for is no part of it, so neither are losses of the scores. `baselines.json` is then `{"untrained": {metric: mean,
    "<metric>/sd": standard deviation over seeds}, "replicates": seeds}`; one seed has no deviation. A spec whose own
    network does not fit its spectrograms, because patches are searched over, has no baseline.
    """
    if store.baselines() is not None:
        return
    own = config_of(spec, {})
    latent = own.latent.model_copy(update={"private": plan.private, "shared": plan.shared})
    config = Config(views=own.views.model_copy(update={"scheme": "factor"}), model=own.model, latent=latent)
    # As many lanes as there are seeds: idle ones would be scored too.
    seeds = range(min(spec.replicates, plan.lanes))
    try:
        stack = Stack(
            plan.architecture(audio_of(spec), config),
            len(seeds),
            dataset,
            config.views,
            spec.train.batch_pairs,
            Ingredients.of(config),
        )
    except ValueError:
        return
    for seed in seeds:
        stack.attach(config, seed)
    measures = [name for name in MATURE if name in OF_WEIGHTS]
    rows = evaluate(stack.models, spec.shared_factors, measures).metrics
    untrained: dict[str, float] = {}
    for name in rows[0]:
        values = torch.tensor([row[name] for row in rows], dtype=torch.float64)
        if not values.isfinite().all():
            continue
        untrained[name] = float(values.mean())
        if len(rows) > 1:
            untrained[f"{name}/sd"] = float(values.std())
    store.write_baselines({"untrained": untrained, "replicates": len(rows)})
