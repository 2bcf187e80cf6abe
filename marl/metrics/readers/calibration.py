"""Calibration of classifiers on clips that they were not fitted on, so that none does worse than the class prior."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from marl import randomness
from marl.metrics.readers.whitening import Whitening
from marl.randomness import Purpose

__all__ = ["CalibratedClassifiers", "Classifier", "class_prior"]

_CALIBRATION_SHARE, _MAX_CALIBRATION_CLIPS = 0.2, 2048
# Factors of logits. The first is chosen where all are alike.
_TEMPERATURES = (1.0, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.25, 1.6, 2.5, 5.0, 20.0)
_EXPECTATION_STEPS = 50


class Classifier(Protocol):
    """A classifier of every factor, for each representation of a stack."""

    def logits(self, whitened_RNE: Tensor) -> list[Tensor]:
        """Return logits of the classes of clips by factor, float32 [R, N, Y]."""


class CalibratedClassifiers:
    """Classifiers that are fitted on most clips, and mixed with the class prior by a fifth, at most 2,048 of them.

    Args:
        classifiers: See `marl.metrics.readers.Reader`.
        latents_RND: Representations of the same clips, finite.
        class_NC: Class of each clip by factor, negative for an unknown class.
        classes_C: Number of classes of each factor.
        posterior_deviation_RD: See `marl.metrics.readers.Reader.fit`.
        seed: Seed of the choice of the clips, and of the classifiers.
    """

    def __init__(
        self,
        classifiers: Callable[[Tensor, Sequence[Tensor], int], Sequence[Classifier]],
        latents_RND: Tensor,
        class_NC: Tensor,
        classes_C: Sequence[int],
        posterior_deviation_RD: Tensor | None,
        seed: int,
    ) -> None:
        self._whitening = Whitening.fit(latents_RND, posterior_deviation_RD)
        whitened_RNE = self._whitening(latents_RND)
        one_hots = [
            one_hot(class_N.clamp_min(0), classes).to(torch.float64) * (class_N >= 0)[:, None]
            for class_N, classes in zip(class_NC.unbind(dim=1), classes_C, strict=True)
        ]
        fit, held_out = _split(len(class_NC), seed, class_NC.device)
        self._classifiers = classifiers(whitened_RNE[:, fit], [part[fit] for part in one_hots], seed)
        self._mixtures = [
            _Mixture(class_prior(class_N, classes), logits, class_N[held_out])
            for class_N, classes, logits in zip(
                class_NC.unbind(dim=1), classes_C, self._logits(whitened_RNE[:, held_out]), strict=True
            )
        ]

    def log_probabilities(self, latents_RND: Tensor) -> list[Tensor]:
        """Return the log-probability of each class of clips by factor, float64 [R, N, Y]."""
        logits = self._logits(self._whitening(latents_RND))
        return [mixture.log_probabilities(part) for mixture, part in zip(self._mixtures, logits, strict=True)]

    def _logits(self, whitened_RNE: Tensor) -> list[tuple[Tensor, ...]]:
        """Return the logits of all classifiers by factor."""
        return list(zip(*(classifier.logits(whitened_RNE) for classifier in self._classifiers), strict=True))


def class_prior(class_N: Tensor, classes: int) -> Tensor:
    """Return the frequency of each class, as if there were half a clip more of each, float64 [Y]."""
    count_Y = class_N[class_N >= 0].bincount(minlength=classes).to(torch.float64) + 0.5
    return count_Y / count_Y.sum()


class _Mixture:
    """Mixture of the class prior and the probabilities of classifiers, for one factor and every representation.

    The logits of a classifier have a temperature (Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017).
    The weights of a mixture have the largest likelihood on held-out clips (Smyth and Wolpert, *Linearly Combining
    Density Estimators via Stacking*, 1999). One more clip, which only the prior explains, keeps the weight of the prior
    above zero.
    """

    def __init__(self, prior_Y: Tensor, logits: Sequence[Tensor], class_N: Tensor) -> None:
        self._prior_Y = prior_Y
        known_N, index_N = (class_N >= 0).to(torch.float64), class_N.clamp_min(0)
        index_RN1 = index_N[:, None].expand(len(logits[0]), -1, 1)
        self._temperatures, members = [], [prior_Y[index_N].expand(len(logits[0]), -1)]
        for logits_RNY in logits:
            log_TRN = torch.stack(
                [
                    (scaled_RNY.gather(-1, index_RN1).squeeze(-1) - scaled_RNY.logsumexp(dim=-1)).to(torch.float64)
                    for scaled_RNY in (logits_RNY * temperature for temperature in _TEMPERATURES)
                ]
            )
            best_R = (log_TRN * known_N).sum(dim=-1).argmax(dim=0)
            self._temperatures.append(logits_RNY.new_tensor(_TEMPERATURES)[best_R][:, None, None])
            members.append(log_TRN[best_R, torch.arange(len(best_R), device=best_R.device)].exp())
        probability_RNM = torch.stack(members, dim=-1)
        weight_RM = probability_RNM.new_full((len(best_R), len(members)), 1 / len(members))
        for _ in range(_EXPECTATION_STEPS):
            joint_RNM = weight_RM[:, None] * probability_RNM
            share_RM = (joint_RNM / joint_RNM.sum(dim=-1, keepdim=True) * known_N[:, None]).sum(dim=1)
            share_RM[:, 0] += 1
            weight_RM = share_RM / (known_N.sum() + 1)
        self._weights = [weight_R11[..., None] for weight_R11 in weight_RM[:, None].unbind(dim=-1)]

    def log_probabilities(self, logits: Sequence[Tensor]) -> Tensor:
        """Return the log-probability of each class of clips from the logits of the classifiers, float64 [R, N, Y]."""
        result = self._prior_Y * self._weights[0]
        for logits_RNY, temperature_R11, weight_R11 in zip(logits, self._temperatures, self._weights[1:], strict=True):
            result = result + (logits_RNY * temperature_R11).softmax(dim=-1) * weight_R11
        return result.log()


def _split(clips: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the indices of the clips to fit on, and of those to calibrate on."""
    zero, rows = torch.zeros((), dtype=torch.int64, device=device), torch.arange(clips, device=device)
    state = randomness.stream(zero + seed, zero, Purpose.READER_SPLIT)
    order_N = randomness.bits(state, rows, rows[:1]).squeeze(-1).argsort()
    held_out = min(int(clips * _CALIBRATION_SHARE), _MAX_CALIBRATION_CLIPS)
    return order_N[held_out:], order_N[:held_out]
