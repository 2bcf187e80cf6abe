"""The three parts of the KL term of a variational autoencoder, as in beta-TCVAE.

Chen, Li, Grosse and Duvenaud, "Isolating Sources of Disentanglement in Variational Autoencoders", NeurIPS 2018,
equation 2. The density of all codes, q(z), is estimated by the mean of the posteriors of the batch. Minibatch weighted
sampling (their equation S4) divides by the size of the data set as well. Gradients are the same, but that constant adds
its logarithm to the mutual information of a code without information. G is groups of latents (the subspaces).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["KLTerms", "decompose"]

_LOG_2_PI = math.log(2 * math.pi)
_NEGLIGIBLE = -40.0


class KLTerms(NamedTuple):
    """Terms of each group, [G], averaged over clips, in nats. Their sum is the mean of log q(z|x) - log p(z).

    All are 0 if every posterior is the prior. On average the mutual information is at most the true one, and never more
    than the logarithm of the batch size B. What it misses is in the two other terms, which are too large by that.
    """

    index_code_mi: Tensor
    total_correlation: Tensor
    dimension_wise_kl: Tensor


def decompose(z_VBD: Tensor, mean_VBD: Tensor, logvar_VBD: Tensor, group_DG: Tensor) -> KLTerms:
    """Return index-code mutual information, total correlation and dimension-wise KL of each group of latents.

    Args:
        z_VBD: One sample of the posterior of each clip. Each view is a separate batch.
        mean_VBD: Means of the posteriors.
        logvar_VBD: Log variances of the posteriors.
        group_DG: One where a latent belongs to a group, else zero. Padded latents belong to none and are in no sum.
    """
    # Entry i, j: log density of each latent of sample i under the posterior of clip j.
    log_q_VBBD = _log_normal(z_VBD[:, :, None], mean_VBD[:, None], logvar_VBD[:, None])
    log_qz_G = _mean_log_sum_exp(log_q_VBBD @ group_DG)
    terms_3D = torch.stack(
        [
            _mean_log_sum_exp(log_q_VBBD),
            _log_normal(z_VBD, mean_VBD, logvar_VBD).mean(dim=(0, 1)),
            (-0.5 * (_LOG_2_PI + z_VBD * z_VBD)).mean(dim=(0, 1)),
        ]
    )
    log_batch = math.log(z_VBD.shape[1])
    log_qz_G = log_qz_G - log_batch
    log_qz_product_G, log_qz_given_x_G, log_pz_G = terms_3D @ group_DG
    log_qz_product_G = log_qz_product_G - log_batch * group_DG.sum(dim=0)
    return KLTerms(
        index_code_mi=log_qz_given_x_G - log_qz_G,
        total_correlation=log_qz_G - log_qz_product_G,
        dimension_wise_kl=log_qz_product_G - log_pz_G,
    )


def _log_normal(z: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    # The factors are combined first: two operations fewer on the largest tensor of a step.
    scale = torch.exp(-0.5 * logvar) * math.sqrt(0.5)
    deviation = (z - mean) * scale
    return -(0.5 * (_LOG_2_PI + logvar)) - deviation * deviation


def _mean_log_sum_exp(values_VBBD: Tensor) -> Tensor:
    """Return the mean over V and the first B of the logsumexp over the second B.

    Summands below e^-40 of the largest are raised to it. The sum does not change, even in float64. Smaller ones would
    lead to denormal numbers here or in the gradient, which are 200 times slower.
    """
    peak = values_VBBD.detach().amax(dim=2, keepdim=True)
    log_sum = (values_VBBD - peak).clamp_min(_NEGLIGIBLE).exp().sum(dim=2).log() + peak.squeeze(2)
    return log_sum.mean(dim=(0, 1))
