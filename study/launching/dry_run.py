"""What a study would do, said before it does it."""

import torch
import yaml

from study.configuration import config_of
from study.datasets.access import dataset_of, factors_of
from study.launching.footprint import footprint, footprint_line
from study.objects import Objects
from study.search.search import Search
from study.spec import Spec
from study.training.execution import device_type
from study.training.width import planned, steps_per_second

__all__ = ["describe"]

_TIMED_S = 2.0


def describe(spec: Spec, objects: Objects) -> str:
    """The resolved spec, the number of trials and steps, and a time that is measured, not guessed.

    A stack of the study is made on this machine and trained for two seconds; where the study will be compiled, that
    warms the compiler's cache. Reports, probes and the start of Ray come on top: two fifths of the whole in the
    quickstart on two cores, less in a longer study.
    """
    device = device_type()
    plan = planned(spec, device, objects)
    trials = spec.search.trials or 0
    config = config_of(spec, Search(spec).ask(0))
    stack = plan.stack(spec, config, dataset_of(spec, objects, torch.device(device)))
    for seed in range(plan.lanes):
        stack.attach(config, seed)
    rate = steps_per_second(stack, _TIMED_S)
    replicates = trials * spec.replicates
    expected = trials * spec.expected_steps()
    seconds = (expected + spec.replicates * spec.train.steps) / plan.lanes / rate  # with the plain VAE
    halved = f", about {expected:,} with halving" if spec.halving else ""
    size = footprint(spec, plan, trials + 1, factors_of(spec, objects))
    resolved = yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True), sort_keys=False)
    return (
        f"{resolved}\n"
        f"# {trials} trials x {spec.replicates} replicates x {spec.train.steps} steps = "
        f"{replicates * spec.train.steps:,} trial-steps{halved}, and a plain VAE to compare with, "
        f"into {objects.uri}/{spec.name}\n"
        f"# {plan.lanes} lanes on {device}, {plan.precision}, {plan.why}: "
        f"{rate * plan.lanes:.0f} trial-steps/s measured, so about {seconds / 60:.1f} minutes of training\n"
        f"# {footprint_line(size, f'{objects.uri}/{spec.name}')}"
    )
