"""Configurations of marl that a spec stands for: of its data, of a trial, and of what trials are compared with."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from marl.audio import AudioConfig
from marl.config import Config
from marl.data import KINDS, DataConfig
from marl.model import LatentConfig
from study.errors import UserError
from study.spec import Scalar, Spec, explain

__all__ = ["MODEL_SECTIONS", "audio_of", "checked", "config_of", "data_of", "one_of", "plain_vae", "widest"]

MODEL_SECTIONS = tuple(Config.model_fields)
"""Sections of a spec that are a model's configuration."""

_Model = TypeVar("_Model", bound=BaseModel)

_SIZES = ("latent.private", "latent.shared")


def data_of(spec: Spec) -> DataConfig:
    """The configuration of a spec's data.

    Raises:
        UserError: with the field, the rule and the value.
    """
    kind = spec.data.get("kind", "syntone")
    if kind not in KINDS:
        raise UserError(f"data.kind: must be one of {', '.join(KINDS)}; got {kind!r}")
    return checked(KINDS[kind], "data", spec.data)


def audio_of(spec: Spec) -> AudioConfig:
    """The configuration of a resolved spec's spectrograms."""
    return checked(AudioConfig, "audio", spec.audio)


def config_of(spec: Spec, values: Mapping[str, Scalar]) -> Config:
    """The configuration of a trial: the spec's own, with the values of its parameters."""
    sections: dict[str, Any] = Config.model_validate(
        {section: getattr(spec, section) for section in MODEL_SECTIONS}
    ).model_dump()
    for path, value in values.items():
        *parents, field = path.split(".")
        section = sections
        for parent in parents:
            section = section[parent]
        section[field] = value
    return Config.model_validate(sections)


def one_of(spec: Spec) -> Config:
    """A configuration whose network is one of the study's; the spec's own need not be, where it is searched over."""
    first = {name: values.extremes()[0] for name, values in spec.space.items() if name.startswith("model.")}
    return config_of(spec, first)


def plain_vae(spec: Spec) -> Config:
    """A plain variational autoencoder, which trials are compared with, in a network of the study's.

    All KL weights are one, and each view is decoded on its own, so that nothing tells its private latents from its
    shared ones. It is as wide as the widest trial.
    """
    own = one_of(spec)
    latent = widest(spec).model_copy(update={"combine": "own"})
    return Config(views=own.views, model=own.model, latent=latent, optimiser=own.optimiser)


def widest(spec: Spec) -> LatentConfig:
    """Latents that hold those of any trial."""
    sizes = {name: max(parameter.extremes()) for name, parameter in spec.space.items() if name in _SIZES}
    return config_of(spec, sizes).latent


def checked(model: type[_Model], prefix: str, content: Mapping[str, Any]) -> _Model:
    """A section of a spec as marl's configuration of it.

    Raises:
        UserError: with the field, the rule and the value.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, model, prefix)) from None
