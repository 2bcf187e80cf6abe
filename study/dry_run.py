"""What a study would do, said before it does it."""

import time

import torch
import yaml

from marl.data import build
from marl.stack import Stack
from study.configuration import audio_of, config_of, data_of, lanes_of, plan_stacks
from study.launch import device_type
from study.objects import Objects
from study.search import Search
from study.spec import Spec

__all__ = ["describe"]

_WARM_STEPS = 3
_TIMED_S = 2.0


def describe(spec: Spec, objects: Objects) -> str:
    """The resolved spec, the number of trials and steps, and a time that is measured, not guessed.

    A stack of the study is made on this machine and trained for two seconds. Reports, probes and the start of Ray come
    on top: two fifths of the whole in the quickstart on two cores, less in a longer study.
    """
    device = torch.device(device_type())
    plan = plan_stacks(spec, lanes_of(spec, device.type))
    audio, trials = audio_of(spec), spec.search.trials or 0
    config = config_of(spec, Search(spec).ask(0))
    stack = Stack(
        plan.architecture(audio, config),
        plan.lanes,
        build(data_of(spec), audio, device),
        spec.views.shared,
        spec.train.batch_pairs,
        plan.combinations,
        plan.contrasts,
    )
    for seed in range(plan.lanes):
        stack.attach(config, seed)
    rate = _steps_per_second(stack)
    replicates = trials * spec.replicates
    rounds = -(-replicates // plan.lanes)
    seconds = rounds * spec.train.steps / rate
    resolved = yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True), sort_keys=False)
    return (
        f"{resolved}\n"
        f"# {trials} trials x {spec.replicates} replicates x {spec.train.steps} steps = "
        f"{replicates * spec.train.steps:,} trial-steps, into {objects.uri}/{spec.name}\n"
        f"# {plan.lanes} lanes on {device.type}: {rate * plan.lanes:.0f} trial-steps/s measured, "
        f"so about {seconds / 60:.1f} minutes of training"
    )


def _steps_per_second(stack: Stack) -> float:
    for _ in range(_WARM_STEPS):
        stack.step()
    stack.steps()  # waits for the device
    started, steps = time.monotonic(), 0
    while time.monotonic() - started < _TIMED_S:
        stack.step()
        steps += 1
    stack.steps()
    return steps / (time.monotonic() - started)
