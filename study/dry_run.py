"""What a study would do, said before it does it."""

import torch
import yaml

from marl.data import build
from study.configuration import audio_of, config_of, data_of
from study.execution import device_type
from study.footprint import footprint, footprint_line
from study.objects import Objects
from study.search import Search
from study.spec import Spec
from study.width import planned, steps_per_second

__all__ = ["describe"]

_TIMED_S = 2.0


def describe(spec: Spec, objects: Objects) -> str:
    """The resolved spec, the number of trials and steps, and a time that is measured, not guessed.

    A stack of the study is made on this machine and trained for two seconds; where the study will be compiled, that
    warms the compiler's cache. Reports, probes and the start of Ray come on top: two fifths of the whole in the
    quickstart on two cores, less in a longer study.
    """
    device = device_type()
    plan = planned(spec, device)
    trials = spec.search.trials or 0
    config = config_of(spec, Search(spec).ask(0))
    stack = plan.stack(spec, config, build(data_of(spec), audio_of(spec), torch.device(device)))
    for seed in range(plan.lanes):
        stack.attach(config, seed)
    rate = steps_per_second(stack, _TIMED_S)
    replicates = trials * spec.replicates
    expected = trials * spec.expected_steps()
    seconds = (expected + spec.replicates * spec.train.steps) / plan.lanes / rate  # with the plain VAE
    halved = f", about {expected:,} with halving" if spec.halving else ""
    resolved = yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True), sort_keys=False)
    return (
        f"{resolved}\n"
        f"# {trials} trials x {spec.replicates} replicates x {spec.train.steps} steps = "
        f"{replicates * spec.train.steps:,} trial-steps{halved}, and a plain VAE to compare with, "
        f"into {objects.uri}/{spec.name}\n"
        f"# {plan.lanes} lanes on {device}, {plan.precision}, {plan.why}: "
        f"{rate * plan.lanes:.0f} trial-steps/s measured, so about {seconds / 60:.1f} minutes of training\n"
        f"# {footprint_line(footprint(spec, plan, trials + 1), f'{objects.uri}/{spec.name}')}"
    )
