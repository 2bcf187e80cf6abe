"""A compiled step is used only if it does what the plain step does."""

import logging

import pytest
import torch

from marl.config import Config, ViewsConfig
from marl.data import Dataset
from marl.models import Architecture
from marl.objective import ActiveTerms
from marl.stack import Snapshot, Stack
from marl.stack.compile_step import check_state
from tests.marl.stack.test_stack import OTHERS, PROBAND, assert_same_bits, train

CONFIG = OTHERS[0]
VECTORISED = "the step compiled differs"
SCALAR = "the step compiled without vector instructions differs"


def new_stack(dataset: Dataset, compiled: bool = True, configs: tuple[Config, ...] = (CONFIG,)) -> Stack:
    architecture = Architecture(64, 64, CONFIG.model, private=5, shared=4)
    return Stack(architecture, 3, dataset, ViewsConfig(), 16, ActiveTerms.of_all(configs), compiled=compiled)


def trained(stack: Stack) -> Stack:
    stack.attach(CONFIG, seed=7)
    train(stack, 4)
    return stack


@pytest.fixture(scope="module")
def plain(small_dataset: Dataset) -> Snapshot:
    """Snapshot of a replicate that the plain step trained."""
    return trained(new_stack(small_dataset, compiled=False)).snapshot(0)


@pytest.fixture
def compiler(monkeypatch):
    """Install a compiler whose programs do what the plain step does, and then an error; returns a function.

    The function takes the error, which receives the arguments and the losses of the program and returns the losses,
    and whether it is absent from code without vector instructions.
    """

    def install(error, is_scalar_right=False):
        def compile_(program, options=None, **_):
            if is_scalar_right and options.get("cpp.simdlen") == 0:
                return program
            return lambda *arguments: error(arguments, program(*arguments))

        monkeypatch.setattr(torch, "compile", compile_)
        if error is not no_error:  # tracing takes a second each time
            monkeypatch.setattr("marl.stack.compile_step.make_fx", lambda step: lambda *inputs: step)

    return install


def no_error(_, loss_K):
    return loss_K


def wrong_loss(_, loss_K):
    return loss_K * torch.tensor([1.0, 1.0, 1.01])


def loss_that_is_no_number(_, loss_K):
    return loss_K * torch.tensor([1.0, torch.nan, 1.0])


def wrong_gradient_of_one_weight_in_one_lane(arguments, loss_K):
    _, first_moments, *_ = arguments
    first_moments["encoder.mean.weight"][1] *= 1.05
    return loss_K


def rounding(arguments, loss_K):
    parameters, first_moments, *_ = arguments
    for value in (*parameters.values(), *first_moments.values()):
        value *= 1 + 1e-7
    return loss_K * (1 + 1e-6)


@pytest.mark.parametrize("error", [no_error, rounding])
def test_a_compiled_step_that_agrees_within_rounding_is_kept(small_dataset, compiler, caplog, error):
    compiler(error)
    stack = trained(new_stack(small_dataset))
    assert (stack.checked_step.kind, stack.checked_step.warning) == ("compiled", "")
    assert not caplog.records


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (wrong_loss, "losses"),
        (loss_that_is_no_number, "losses"),
        (wrong_gradient_of_one_weight_in_one_lane, "first moments of encoder.mean.weight"),
    ],
)
def test_a_compiled_step_that_differs_is_rejected_and_logged(small_dataset, plain, compiler, caplog, error, what):
    compiler(error)
    stack = trained(new_stack(small_dataset))
    checked = stack.checked_step
    assert checked.kind == "plain"
    assert f"{VECTORISED} from the plain step: {what} " in checked.warning
    assert SCALAR in checked.warning
    assert checked.warning.endswith("training with the plain step")
    ((logger, level, message),) = caplog.record_tuples
    assert (logger, level, message) == ("marl.stack.compile_step", logging.WARNING, checked.warning)
    assert_same_bits(stack.snapshot(0), plain)


def test_an_error_of_vectorised_code_alone_leaves_the_step_compiled_without_vector_instructions(
    small_dataset, compiler, caplog
):
    compiler(wrong_loss, is_scalar_right=True)
    checked = trained(new_stack(small_dataset)).checked_step
    assert checked.kind == "compiled without vector instructions"
    assert VECTORISED in checked.warning
    assert SCALAR not in checked.warning
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_code_for_another_number_of_threads_is_not_taken_from_the_cache(small_dataset, monkeypatch):
    keys = []
    monkeypatch.setattr(torch, "compile", lambda program, options=None, **_: keys.append(dict(options)) or program)
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        trained(new_stack(small_dataset))
    assert [options["cpp.threads"] for options in keys] == [1, 2]  # options are part of TorchInductor's key


def test_the_check_does_not_change_the_training(small_dataset, plain, compiler):
    compiler(no_error)
    checked = trained(new_stack(small_dataset))
    assert_same_bits(checked.snapshot(0), plain)
    assert checked.steps() == [4, 0, 0]
    assert checked.diverged() == {}
    assert not any(value[1:].any() for value in checked.models.parameters.values())


def test_the_state_of_the_check_does_not_depend_on_the_lanes(small_dataset):
    empty, busy = new_stack(small_dataset), trained(new_stack(small_dataset, compiled=False))
    busy.attach(CONFIG, seed=3)
    states = [check_state(stack.objective_spec, stack._state) for stack in (empty, busy)]
    for part in ("parameters", "first_moments", "second_moments"):
        first, second = (getattr(state, part).flat for state in states)
        assert all(torch.equal(value, second[name]) for name, value in first.items())
    for part in ("hyperparameters", "progress"):
        first, second = (getattr(state, part) for state in states)
        assert all(map(torch.equal, first, second))


def test_every_term_acts_in_one_lane_of_the_state_that_is_checked(small_dataset):
    stack = new_stack(small_dataset, configs=(CONFIG, PROBAND))
    settings = check_state(stack.objective_spec, stack._state).hyperparameters
    for weights in (settings.reconstruction, settings.kl_3S, settings.multiscale_M, settings.contrast_M):
        assert (weights.sum(dim=0) == 1).all()
