"""The spec of a study: schema, YAML loader, and resolution into configurations."""

from study.spec.schema import (
    STUDY_NAME,
    Parameter,
    Scalar,
    Spec,
    active_parameters,
    explain,
    parameter_order,
    parse_spec,
)

__all__ = ["STUDY_NAME", "Parameter", "Scalar", "Spec", "active_parameters", "explain", "parameter_order", "parse_spec"]
