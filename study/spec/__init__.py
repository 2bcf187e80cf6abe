"""The spec of a study: its schema, its search space, the YAML loader, and resolution into configurations of marl."""

from study.spec.loader import explain
from study.spec.names import Baseline, TrialId, is_study_name, study_name
from study.spec.schema import Spec, parse_spec
from study.spec.space import Parameter, Scalar, active_parameters, grid, parameter_order

__all__ = [
    "Baseline",
    "Parameter",
    "Scalar",
    "Spec",
    "TrialId",
    "active_parameters",
    "explain",
    "grid",
    "is_study_name",
    "parameter_order",
    "parse_spec",
    "study_name",
]
