import pytest

from study.charts.style import factor_label, metric_lines, parameter_description, parameter_label, value_label
from study.spec import Parameter, parse_spec


def test_parameters_have_the_names_of_the_field_and_others_those_of_the_spec():
    assert parameter_label("loss.private.beta") == "β private"
    assert "total correlation" in parameter_description("loss.private.beta")
    assert parameter_label("optimiser.warmup_steps") == "optimiser warmup steps"
    assert parameter_description("optimiser.warmup_steps") == " "


def test_factors_and_metrics_have_their_units():
    assert [factor_label(name) for name in ("frequency", "timbre")] == ["frequency (Hz)", "timbre"]
    spec = parse_spec({"name": "s", "data": {}, "space": {"a": {"choice": [1]}}}, "spec")
    assert metric_lines(spec, "fidelity/log_mel_rmse_db") == ["log-mel RMSE (dB)", "lower is better"]
    assert metric_lines(spec, "disentanglement/mig") == ["MIG"]


@pytest.mark.parametrize(
    ("parameter", "value", "label"),
    [
        (Parameter(choice=(4, 8)), 8.0, "8"),
        (Parameter(choice=(0.0, 0.1, 100.0)), 100.0, "100"),
        (Parameter(choice=(True, False)), False, "false"),
        (Parameter(choice=("none", "infonce")), "none", "none"),
        (Parameter(log_uniform=(0.1, 10)), 0.123456789, "0.123457"),
        (Parameter(int=(1, 9)), 3.0, "3"),
    ],
)
def test_values_are_written_as_in_the_spec(parameter, value, label):
    assert value_label(parameter, value) == label
