import pytest

from study.errors import UserError
from study.spec import parse_spec, proxy_metric
from study.spec.resolve import resolve
from tests.messages import mentions


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("disentanglement/separation", "disentanglement/linear_separation"),
        ("information/timbre/shared", "linear_information/timbre/shared"),
        ("accuracy/timbre/both", "linear_accuracy/timbre/both"),
        ("leakage/timbre", "linear_leakage/timbre"),
        ("probe/timbre/shared", "linear_accuracy/timbre/shared"),
        ("fidelity/log_mel_rmse_db", "fidelity/log_mel_rmse_db"),
        ("linear_information/timbre/shared", "linear_information/timbre/shared"),
        ("disentanglement/linear_separation", "disentanglement/linear_separation"),
        ("disentanglement/mig", "disentanglement/mig"),
    ],
)
def test_metrics_of_final_reports_have_a_proxy_metric(objective, expected):
    assert proxy_metric(objective) == expected


@pytest.mark.parametrize("name", ["sap", "explicitness", "factor_vae", "beta_vae"])
def test_with_halving_an_objective_that_intermediate_reports_lack_is_refused(tiny, name):
    tiny["objectives"] = {"fidelity/log_mel_rmse_db": "min", f"disentanglement/{name}": "max"}
    resolve(parse_spec(tiny, "spec"))
    tiny["halving"] = {"reduction_factor": 2, "min_steps": 10}
    with pytest.raises(UserError, match=mentions("objectives", f"'disentanglement/{name}'")):
        resolve(parse_spec(tiny, "spec"))
