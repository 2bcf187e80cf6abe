"""What a reader finds: usable information, accuracies, and the variance of numeric factors that it explains.

Log-probabilities `log_probability_RNY` are those of a fitted reader for clips of classes `class_N`, which are negative
where they are unknown; such clips do not count.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from marl.metrics.readers.calibration import class_prior
from marl.metrics.readers.reader import READERS

__all__ = [
    "balanced_accuracy",
    "explained_variance",
    "information_share",
    "information_standard_error",
    "usable_information",
]


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

    It is that of Xu et al., *A Theory of Usable Information under Computational Constraints*, ICLR 2020.
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


def information_standard_error(log_probability_RNY: Tensor, class_N: Tensor, prior_Y: Tensor) -> Tensor:
    """Return the standard error of `information_share` over clips, by the delta method, float64 [R].

    Zero if all clips have the same class.
    """
    known_N = class_N >= 0
    class_n = class_N[known_N]
    log_probability_Rn = log_probability_RNY[:, known_N].gather(
        -1, class_n[:, None].expand(len(log_probability_RNY), -1, 1)
    )[..., 0]
    log_prior_n = prior_Y.log()[class_n]
    ratio_R1 = log_probability_Rn.mean(dim=1, keepdim=True) / log_prior_n.mean()
    residual_Rn = log_probability_Rn - ratio_R1 * log_prior_n
    error_R = residual_Rn.std(dim=1) / (len(class_n) ** 0.5 * log_prior_n.mean().abs())
    return torch.where((class_n != class_n[:1]).any(), error_R, 0.0)


def balanced_accuracy(log_probability_RNY: Tensor, class_N: Tensor) -> Tensor:
    """Return the mean over classes of the fraction of their clips that are predicted right, float64 [R].

    Classes without clips do not count. A reader that knows nothing has one over the number of the others.
    """
    clips_NY = one_hot(class_N.clamp_min(0), log_probability_RNY.shape[-1]) * (class_N >= 0)[:, None]
    clips_NY = clips_NY.to(torch.float64)
    is_right_RN = (log_probability_RNY.argmax(dim=-1) == class_N).to(torch.float64)
    count_Y = clips_NY.sum(dim=0)
    return (is_right_RN @ clips_NY / count_Y.clamp_min(1)).sum(dim=-1) / (count_Y > 0).sum().clamp_min(1)


def explained_variance(log_probability_RNY: Tensor, value_N: Tensor, value_of_class_Y: Tensor) -> Tensor:
    """Return the coefficient of determination (R²) of the values that a reader expects, float64 [R].

    The expected value of a clip is the mean of the values of the classes, weighted with their probabilities: no other
    function of the representation has a smaller squared error, if the probabilities are right. So a prediction of a
    neighbouring class costs less than one of a distant class. Clips whose value is NaN do not count. Zero if all values
    are the same.
    """
    known_N = ~value_N.isnan()
    value_n = value_N[known_N].to(torch.float64)
    expected_Rn = log_probability_RNY[:, known_N].exp() @ value_of_class_Y.to(torch.float64)
    total = (value_n - value_n.mean()).square().sum()
    residual_R = (expected_Rn - value_n).square().sum(dim=1)
    return torch.where(total > 0, 1 - residual_R / total, 0.0)
