"""Post-training evaluation: metrics that take seconds for a model, computed for the front on any processor.

Their inputs are arrays, so that any process can compute them, without the model or the data.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from marl.audio import AudioConfig, LogMel
from marl.evaluation.context import EvaluationContext
from marl.metrics.dci import dci
from marl.metrics.fidelity import StftErrors, inversion_floor, waveform_fidelity
from marl.stack.batched_models import Models

__all__ = ["POST_TRAINING", "PostTrainingInputs", "post_training_inputs"]

_WAVEFORM_CLIPS = 32


class PostTrainingInputs(NamedTuple):
    """Arrays of one model that post-training metrics are computed from.

    Latents are posterior means, without padding. Some held-out clips have waveforms and reconstructed log-mels, which
    are standardised: `mean_db` is subtracted, and the difference divided by `std_db`.
    """

    fit_ND: np.ndarray
    fit_class_NC: np.ndarray
    held_out_ND: np.ndarray
    held_out_class_NC: np.ndarray
    waveform_NS: np.ndarray
    log_mel_NFT: np.ndarray
    audio: AudioConfig
    mean_db: float
    std_db: float


@torch.no_grad()
def post_training_inputs(models: Models) -> PostTrainingInputs:
    """Return the inputs of the first of several models, on validation clips."""
    context = EvaluationContext(models, (), "validation")
    dataset, has_D = models.dataset, models.mask_KD[0] > 0
    clips = context.held_out.clips[:_WAVEFORM_CLIPS]
    reconstruction_KNFT = models.decode(context.held_out.means_KND[:, : len(clips)])
    return PostTrainingInputs(
        fit_ND=context.fit.means_KND[0][:, has_D].cpu().numpy(),
        fit_class_NC=context.fit.classes_NC.cpu().numpy(),
        held_out_ND=context.held_out.means_KND[0][:, has_D].cpu().numpy(),
        held_out_class_NC=context.held_out.classes_NC.cpu().numpy(),
        waveform_NS=dataset.waveforms(clips.tolist()).numpy(),
        log_mel_NFT=reconstruction_KNFT[0].cpu().numpy(),
        audio=dataset.audio.config,
        mean_db=dataset.audio.mean_db,
        std_db=dataset.audio.std_db,
    )


def dci_scores(inputs: PostTrainingInputs) -> dict[str, float]:
    """Compute disentanglement, completeness and informativeness."""
    arrays = inputs.fit_ND, inputs.fit_class_NC, inputs.held_out_ND, inputs.held_out_class_NC
    scores = dci(*map(torch.from_numpy, arrays))
    return {
        "disentanglement/dci": scores.disentanglement,
        "disentanglement/dci_completeness": scores.completeness,
        "disentanglement/dci_informativeness": scores.informativeness,
    }


def sound(inputs: PostTrainingInputs) -> dict[str, float]:
    """Compute errors of the waveforms that reconstructions invert to, and the inversion floor for comparison."""
    audio = LogMel(inputs.audio, inputs.mean_db, inputs.std_db)
    original_NS = torch.from_numpy(inputs.waveform_NS)
    floor = _floor(inputs.waveform_NS.tobytes(), inputs.audio)
    errors = waveform_fidelity(audio, original_NS, torch.from_numpy(inputs.log_mel_NFT))
    return {
        "fidelity/stft_error": float(errors.stft_error_N.mean()),
        "fidelity/stft_error/clips_se": float(errors.stft_error_N.std() / len(original_NS) ** 0.5),
        "fidelity/stft_error/floor": float(floor.stft_error_N.mean()),
        "fidelity/spectral_convergence": float(errors.spectral_convergence_N.mean()),
        "fidelity/spectral_convergence/floor": float(floor.spectral_convergence_N.mean()),
    }


@lru_cache(maxsize=1)
def _floor(waveforms: bytes, config: AudioConfig) -> StftErrors:
    """Return the inversion floor, cached because it is the same for all models of a study and takes long."""
    original_NS = torch.frombuffer(bytearray(waveforms), dtype=torch.float32).view(-1, config.clip_samples)
    return inversion_floor(LogMel(config), original_NS)


POST_TRAINING: dict[str, Callable[[PostTrainingInputs], dict[str, float]]] = {"dci": dci_scores, "sound": sound}
"""Post-training metrics by their name in `post_training` of a spec."""
