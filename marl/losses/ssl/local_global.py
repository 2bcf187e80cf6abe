"""Deep InfoMax and contrastive predictive coding: a clip is identified by its parts.

L is the time steps of a clip's local features, E the features of each step.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from marl.losses.ssl.strategy import EXCLUDED, Strategy, StrategyInputs, identity
from marl.models.heads import HeadKind

__all__ = ["LOCAL_GLOBAL", "PREDICTIVE", "local_global"]

_QUERY = HeadKind("local_global", lambda sizes: sizes.local_features)
_PREDICTION = HeadKind("predictive", lambda sizes: sizes.local_steps // 2 * sizes.local_features)


def local_global(query_NE: Tensor, local_NLE: Tensor, excluded_negatives_NN: Tensor, temperature: Tensor) -> Tensor:
    """Return the cross-entropy of identifying the clip of each local feature, in nats, averaged over local features.

    The logits of a local feature are its cosine similarities to the queries of all clips, divided by the temperature.
    Queries are [N, E], or [N, L, E] with a query for each step. True entries of `excluded_negatives_NN` exclude pairs
    of clips from the softmax; its diagonal is ignored.

    Hjelm et al., "Learning Deep Representations by Mutual Information Estimation and Maximization", ICLR 2019, section
    3.2 with the InfoNCE estimator of equation 5. With predictions of later features from earlier ones as queries, it is
    contrastive predictive coding (van den Oord, Li and Vinyals, 2018, equation 4).
    """
    if query_NE.ndim == 2:
        query_NE = query_NE[:, None].expand_as(local_NLE)
    queries_LNE = normalize(query_NE, dim=-1).transpose(0, 1)
    keys_LEN = normalize(local_NLE, dim=-1).permute(1, 2, 0)
    similarity_LNN = queries_LNE @ keys_LEN / temperature
    positive_LN = similarity_LNN.diagonal(dim1=1, dim2=2)
    excluded_NN = excluded_negatives_NN & ~identity(excluded_negatives_NN)
    logits_LNN = torch.where(excluded_NN, EXCLUDED, similarity_LNN)
    # The softmax runs over queries: each local feature identifies its clip.
    return (torch.logsumexp(logits_LNN, dim=1) - positive_LN).mean()


def _local_global_loss(inputs: StrategyInputs) -> Tensor:
    query_NE = inputs.apply_head(_QUERY)
    return local_global(query_NE, inputs.local_features_NLE, inputs.excluded_negatives_NN, inputs.temperature)


def _predictive_loss(inputs: StrategyInputs) -> Tensor:
    """Predict the local features of the later half of a clip from the latents of its earlier half."""
    _, steps, features = inputs.local_features_NLE.shape
    later = steps // 2
    predicted_NLE = inputs.early_half_outputs(_PREDICTION).unflatten(1, (later, features))
    later_NLE = inputs.local_features_NLE[:, -later:]
    return local_global(predicted_NLE, later_NLE, inputs.excluded_negatives_NN, inputs.temperature)


LOCAL_GLOBAL = Strategy("local_global", _local_global_loss, heads=(_QUERY,), min_local_steps=1)
PREDICTIVE = Strategy("predictive", _predictive_loss, heads=(_PREDICTION,), extra_forward_pass=True, min_local_steps=2)
