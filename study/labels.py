"""Names of the store as a reader of a figure knows them."""

from study.results.tables import objective_label
from study.spec import Parameter, Scalar, Spec

__all__ = ["factor_label", "factor_value", "metric_lines", "parameter_label", "parameter_meaning", "value_label"]

_KL = {
    "alpha": ("α", "weight of the index-code mutual information"),
    "beta": ("β", "weight of the total correlation"),
    "gamma": ("γ", "weight of the dimension-wise KL"),
}
_PARAMETERS = {
    **{
        f"loss.{subspace}.{name}": (f"{symbol} {subspace}", meaning)
        for subspace in ("private", "shared")
        for name, (symbol, meaning) in _KL.items()
    },
    "loss.reconstruction": ("reconstruction", "weight of the squared error"),
    "latent.private": ("private latents", "how many"),
    "latent.shared": ("shared latents", "how many"),
    "latent.combine": ("combination", "of the two views' shared latents"),
    "contrast.strategy": ("contrastive strategy", ""),
    "contrast.private": ("private contrast", "weight of the contrast"),
    "contrast.shared": ("shared contrast", "weight of the contrast"),
    "contrast.temperature": ("temperature", "of the contrast"),
    "optimiser.learning_rate": ("learning rate", ""),
}
_UNITS = {"frequency": "Hz", "amplitude": "1 is full scale"}


def parameter_label(name: str) -> str:
    """A short name of a parameter of the space."""
    return _PARAMETERS[name][0] if name in _PARAMETERS else name.replace(".", " ").replace("_", " ")


def parameter_meaning(name: str) -> str:
    """What the short name does not say; a blank where it says all, so that headings have the same height."""
    return (_PARAMETERS[name][1] if name in _PARAMETERS else "") or " "


def metric_lines(spec: Spec, name: str) -> list[str]:
    """A metric with its unit, and on a second line which way is better where it is an objective."""
    better = {"min": ["lower is better"], "max": ["higher is better"]}
    return [objective_label(name), *better.get(spec.objectives.get(name, ""), [])]


def factor_label(name: str) -> str:
    """A factor with its unit."""
    return f"{name} ({_UNITS[name]})" if name in _UNITS else name


def factor_value(name: str, value: Scalar) -> str:
    """A factor's value as it is read: with its unit, else with the factor's name unless it is a word."""
    if isinstance(value, str):
        return value
    unit = _UNITS.get(name, "")
    return f"{value:.4g} {unit}" if unit == "Hz" else f"{name} {value:.4g}"


def value_label(parameter: Parameter, value: Scalar) -> str:
    """A value as it is written in the spec; a table with gaps gives the choice 8 back as 8.0."""
    found = next((choice for choice in parameter.choice or () if choice == value), value)
    if isinstance(found, bool):
        return str(found).lower()
    return f"{found:g}" if isinstance(found, float) else str(found)
