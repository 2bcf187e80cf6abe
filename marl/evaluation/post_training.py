"""What takes seconds a model and no accelerator: measured of the models that matter, each by itself on a processor.

Arrays go in and numbers come out, so that it can be done anywhere; N is clips, C factors, D latents, S samples.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from marl.audio import AudioConfig, LogMel
from marl.evaluation.context import EvaluationContext
from marl.metrics.dci import dci
from marl.metrics.waveform_fidelity import StftErrors, inversion_floor, waveform_fidelity
from marl.stack.batched_models import Models

__all__ = ["POST_TRAINING", "PostTrainingInputs", "post_training_inputs"]

_HEARD_CLIPS = 32


class PostTrainingInputs(NamedTuple):
    """What is needed of one model.

    Attributes:
        fit_ND: means of the clips that are fitted on, of latents that the model has.
        fit_class_NC: the factors' classes of these clips.
        held_out_ND: means of clips that were held out.
        held_out_class_NC: their classes.
        waveform_NS: some of the held-out clips.
        log_mel_NFT: their reconstructions, standardised.
        audio: the shape of the spectrograms.
        mean_db: what was subtracted to standardise.
        std_db: what was divided by.
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
    """The inputs of the first of some models, on validation clips."""
    context = EvaluationContext(models, (), "validation")
    dataset, has_D = models.dataset, models.mask_KD[0] > 0
    heard = context.held_out.clips[:_HEARD_CLIPS]
    reconstruction_KNFT = models.decode(context.held_out.means_KND[:, : len(heard)])
    return PostTrainingInputs(
        fit_ND=context.fit.means_KND[0][:, has_D].cpu().numpy(),
        fit_class_NC=context.fit.classes_NC.cpu().numpy(),
        held_out_ND=context.held_out.means_KND[0][:, has_D].cpu().numpy(),
        held_out_class_NC=context.held_out.classes_NC.cpu().numpy(),
        waveform_NS=dataset.waveforms(heard.tolist()).numpy(),
        log_mel_NFT=reconstruction_KNFT[0].cpu().numpy(),
        audio=dataset.audio.config,
        mean_db=dataset.audio.mean_db,
        std_db=dataset.audio.std_db,
    )


def trees(inputs: PostTrainingInputs) -> dict[str, float]:
    """DCI: which latents boosted trees need to tell each factor."""
    fitted = inputs.fit_ND, inputs.fit_class_NC, inputs.held_out_ND, inputs.held_out_class_NC
    found = dci(*map(torch.from_numpy, fitted))
    return {
        "disentanglement/dci": found.disentanglement,
        "disentanglement/dci_completeness": found.completeness,
        "disentanglement/dci_informativeness": found.informativeness,
    }


def sound(inputs: PostTrainingInputs) -> dict[str, float]:
    """How far sounds made from reconstructions are from the originals, and how far the originals' own log-mels get."""
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
    """The same for all models of a study, and as slow as the rest."""
    original_NS = torch.frombuffer(bytearray(waveforms), dtype=torch.float32).view(-1, config.clip_samples)
    return inversion_floor(LogMel(config), original_NS)


POST_TRAINING: dict[str, Callable[[PostTrainingInputs], dict[str, float]]] = {"dci": trees, "sound": sound}
