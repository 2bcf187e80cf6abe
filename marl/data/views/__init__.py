"""How the two views of a pair are made from the clips that were drawn for it.

`factor` leaves them as they are: two clips that share factors. For `augment` and `segment` the caller gives one clip to
both views of a pair, and each view becomes a version or a part of it. K is lanes, R = K·n rows (n for each lane), F mel
bands, T frames.
"""

from typing import Literal, get_args

from torch import Tensor

from marl.audio import LogMel
from marl.data.views.augment import augment
from marl.data.views.config import AugmentConfig
from marl.data.views.segment import segment

__all__ = ["VIEW_SCHEMES", "AugmentConfig", "ViewScheme", "augment", "make_views", "segment"]

ViewScheme = Literal["factor", "augment", "segment"]
VIEW_SCHEMES: tuple[str, ...] = get_args(ViewScheme)

_PUBLISHED = AugmentConfig()


def make_views(
    scheme: ViewScheme,
    log_mel_RFT: Tensor,
    seed_K: Tensor,
    step_K: Tensor,
    log_mel: LogMel,
    config: AugmentConfig = _PUBLISHED,
) -> Tensor:
    """The views, in the shape and type of the clips they are made from.

    It is part of every training step: fixed shapes, no branch on data, only operations on single elements, gathers and
    a sum of integers, so that a row has the same bits beside any others.

    Args:
        scheme: one of `VIEW_SCHEMES`.
        log_mel_RFT: standardised log-mels of the clips, lane after lane, of a lane first all first views.
        seed_K: int64 seeds of the lanes.
        step_K: int64 steps of the lanes.
        log_mel: what they were standardised by, on the same device.
        config: of `augment`.

    Raises:
        ValueError: when the scheme is none of `VIEW_SCHEMES`.
    """
    match scheme:
        case "factor":
            return log_mel_RFT
        case "augment":
            return augment(log_mel_RFT, seed_K, step_K, log_mel, config)
        case "segment":
            return segment(log_mel_RFT, seed_K, step_K)
    raise ValueError(f"a scheme of views must be one of {', '.join(VIEW_SCHEMES)}; got {scheme!r}")
