"""Usable information (Xu et al., *A Theory of Usable Information under Computational Constraints*, ICLR 2020)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from marl.metrics.readers.calibration import class_prior
from marl.metrics.readers.lightweight import LightweightReader
from marl.metrics.readers.linear import LinearReader
from marl.metrics.readers.reader import Reader
from marl.metrics.readers.strong import StrongReader

__all__ = ["READERS", "information_share", "usable_information"]

READERS: dict[str, Reader] = {
    "strong": StrongReader(),
    "lightweight": LightweightReader(),
    "linear": LinearReader(),
}
"""Readers by name."""


def usable_information(
    fit_RND: Tensor,
    fit_class_NC: Tensor,
    eval_RND: Tensor,
    eval_class_NC: Tensor,
    classes_C: Sequence[int],
    *,
    reader: str = "strong",
) -> Tensor:
    """Return the information about each factor that a reader finds, as a fraction of the factor's entropy, [R, C].

    Zero is nothing, one everything. It is never negative beyond the noise of the clips, because a reader can always
    answer with the frequencies of the classes.

    Args:
        fit_RND: Representations of the clips to fit on, finite. Latents may be constant.
        fit_class_NC: Class of each of these clips by factor, from zero; negative for an unknown class.
        eval_RND: The same representations of other clips.
        eval_class_NC: Classes of the other clips.
        classes_C: Number of classes of each factor.
        reader: Key of `READERS`.

    Raises:
        ValueError: If there is no such reader.
    """
    if reader not in READERS:
        raise ValueError(f"reader must be one of {', '.join(READERS)}; got {reader!r}")
    classes = [int(count) for count in classes_C]
    fitted = READERS[reader].fit(fit_RND, fit_class_NC, classes)
    share_CR = [
        information_share(log_probability_RNY, class_N, class_prior(fit_class_N, count))
        for log_probability_RNY, class_N, fit_class_N, count in zip(
            fitted.log_probabilities(eval_RND), eval_class_NC.mT, fit_class_NC.mT, classes, strict=True
        )
    ]
    return torch.stack(share_CR, dim=1)


def information_share(log_probability_RNY: Tensor, class_N: Tensor, prior_Y: Tensor) -> Tensor:
    """Return one minus the ratio of the cross-entropies of predictions and of the class prior, float64 [R].

    The cross-entropy of the prior on the same clips is the entropy of the factor. It is the entropy of a reader that
    sees nothing, in the definition of Xu et al. If all clips have the same class, the result is zero.
    """
    known_N = class_N >= 0
    class_n = class_N[known_N]
    log_probability_Rn = log_probability_RNY[:, known_N].gather(
        -1, class_n[:, None].expand(len(log_probability_RNY), -1, 1)
    )
    share_R = 1 - log_probability_Rn.sum(dim=(1, 2)) / prior_Y.log()[class_n].sum()
    return torch.where((class_n != class_n[:1]).any(), share_R, 0.0)
