"""What doctor says of a stack that was made."""

from study.doctor import StackResult, check_stack
from study.spec.resolved_spec import StackPlan
from study.training.dry_run_worker import PlanReport, StepReport
from tests.messages import assert_mentions

PLANNED = PlanReport(device="cpu", device_name="a processor", plan=StackPlan(lanes=8, private=4, shared=4, why="why"))
STEPPED = StepReport(stack="patch, 9 parameters", number=1, stacks=1, first_step_s=2.0, trial_steps_per_s=123.4)


def test_a_stack_that_made_steps_passes_with_its_speed():
    found = check_stack(StackResult(planned=PLANNED, stepped=STEPPED), has_gpu=False)
    assert found.verdict == "pass"
    assert_mentions(found.value, "123 trial-steps/s", "8 lanes", "a processor", "float32", "why", "patch, 9 parameters")


def test_a_gpu_that_torch_does_not_use_fails():
    found = check_stack(StackResult(planned=PLANNED, stepped=STEPPED), has_gpu=True)
    assert found.verdict == "fail"
    assert_mentions(found.advice, "torch", "GPU")


def test_a_stack_that_made_no_step_fails_with_its_reason():
    found = check_stack(StackResult(planned=PLANNED, error="out of memory"), has_gpu=False)
    assert (found.verdict, found.value, bool(found.advice)) == ("fail", "out of memory", True)
    assert check_stack(StackResult(planned=PLANNED), has_gpu=False).verdict == "fail"


def test_a_compiled_step_that_agrees_passes_and_one_that_was_rejected_warns():
    compiled = PLANNED.model_copy(update={"plan": PLANNED.plan.model_copy(update={"compiled": True})})
    agreeing = check_stack(
        StackResult(planned=compiled, stepped=STEPPED.model_copy(update={"step": "compiled"})), has_gpu=False
    )
    assert agreeing.verdict == "pass"
    assert_mentions(agreeing.value, "compiled step agrees")
    rejected = STEPPED.model_copy(update={"warning": "losses differ; training with the plain step"})
    found = check_stack(StackResult(planned=compiled, stepped=rejected), has_gpu=False)
    assert (found.verdict, bool(found.advice)) == ("warn", True)
    assert_mentions(found.value, rejected.warning)
