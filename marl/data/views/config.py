"""What may happen to a view that is an altered version of its clip."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from marl.base_config import BaseConfig

__all__ = ["AugmentConfig", "Range"]


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"a range goes from its lower to its higher end, got {limits[0]} to {limits[1]}")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
_Positive = Annotated[float, Field(gt=0)]
_PositiveRange = Annotated[tuple[_Positive, _Positive], AfterValidator(_ordered)]
_Probability = Annotated[float, Field(ge=0, le=1)]


class AugmentConfig(BaseConfig):
    """The probability that a view has each kind of change, and ranges that amounts are drawn from uniformly.

    Spijkervet and Burgoyne, "Contrastive Learning of Musical Representations" (CLMR), ISMIR 2021, with the
    probabilities and ranges of their released code. Of their chain, delay and reverberation are left out, having no
    closed form without phases; an inversion of polarity changes no power; the random crop becomes a shift in time.

    Attributes:
        noise_snr_db: power of the clip over that of the white noise added to it. Published: uniform as an amplitude.
        gain_db: how much louder.
        filter_kinds: one of them is drawn. Band-pass is low-pass and high-pass in a row, band-stop its complement in
            power; neither is published.
        filter_order: slopes are 6 dB an octave for each.
        low_pass_hz: where a low-pass takes half of the power.
        high_pass_hz: where a high-pass does.
        pitch_semitones: how much higher.
        shift: up to which share of the clip it is moved in time, either way; what leaves at one end comes in at the
            other.
    """

    noise_probability: _Probability = 0.01
    noise_snr_db: Range = (0.0, 60.0)
    gain_probability: _Probability = 0.3
    gain_db: Range = (-20.0, -1.0)
    filter_probability: _Probability = 0.8
    filter_kinds: tuple[Literal["low_pass", "high_pass", "band_pass", "band_stop"], ...] = Field(
        ("low_pass", "high_pass"), min_length=1
    )
    filter_order: int = Field(1, ge=1)
    low_pass_hz: _PositiveRange = (2_200.0, 4_000.0)
    high_pass_hz: _PositiveRange = (200.0, 1_200.0)
    pitch_probability: _Probability = 0.6
    pitch_semitones: Range = (-7.0, 7.0)
    shift_probability: _Probability = 1.0
    shift: float = Field(0.5, ge=0, le=0.5)
