import pytest

from study.spec import parse_spec
from study.spec.resolve import resolve


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("fidelity/log_mel_rmse_db", "min"),
        ("test/fidelity/log_mel_rmse_db", "min"),
        ("loss/total", "min"),
        ("disentanglement/mig", "max"),
        ("probe/timbre/shared", "max"),
        ("probe/timbre/private", "min"),
        ("probe/frequency/shared", "min"),
        ("test/nmi/frequency/private", "max"),
        ("probe/timbre/both", "max"),
        ("information/timbre/shared", "max"),
        ("linear_information/timbre/private", "min"),
        ("accuracy/frequency/private", "max"),
        ("linear_r2/frequency/shared", "min"),
        ("leakage/timbre", "min"),
        ("test/leakage/timbre", "min"),
        ("linear_leakage/frequency", "min"),
        ("disentanglement/linear_separation", "max"),
    ],
)
def test_errors_and_leakage_are_minimised(tiny, metric, direction):
    assert resolve(parse_spec(tiny, "spec")).spec.direction(metric) == direction


def test_an_objective_has_the_direction_of_the_spec(tiny):
    tiny["objectives"] = {"disentanglement/mig": "min"}
    assert resolve(parse_spec(tiny, "spec")).spec.direction("disentanglement/mig") == "min"
