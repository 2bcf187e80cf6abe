"""The spec of a study: its schema, its search space, the YAML loader, and resolution into configurations of marl."""

from study.spec.schema import STUDY_NAME, Baseline, Spec, TrialId, explain, parse_spec, proxy_metric
from study.spec.space import Parameter, Scalar, active_parameters, grid, parameter_order

__all__ = [
    "Baseline",
    "Parameter",
    "STUDY_NAME",
    "Scalar",
    "Spec",
    "TrialId",
    "active_parameters",
    "explain",
    "grid",
    "parameter_order",
    "parse_spec",
    "proxy_metric",
]
