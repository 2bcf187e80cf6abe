"""What takes seconds a model and no accelerator: measured of the models that matter, each by itself on a processor.

Arrays go in and numbers come out, so that it can be done anywhere; N is clips, C factors, D latents, S samples.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from marl.audio import AudioConfig, LogMel
from marl.evaluation.context import Subject
from marl.metrics.dci import dci
from marl.metrics.waveform_fidelity import StftErrors, inversion_floor, waveform_fidelity
from marl.stack.batched_models import Models

__all__ = ["EXAMINATIONS", "Material", "material_of"]

_HEARD_CLIPS = 32


class Material(NamedTuple):
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
def material_of(models: Models) -> Material:
    """The material of the first of some models, on validation clips."""
    subject = Subject(models, (), "validation")
    dataset, has_D = models.dataset, models.mask_KD[0] > 0
    heard = subject.held_out.clips[:_HEARD_CLIPS]
    reconstruction_KNFT = models.decode(subject.held_out.means_KND[:, : len(heard)])
    return Material(
        fit_ND=subject.fit.means_KND[0][:, has_D].cpu().numpy(),
        fit_class_NC=subject.fit.classes_NC.cpu().numpy(),
        held_out_ND=subject.held_out.means_KND[0][:, has_D].cpu().numpy(),
        held_out_class_NC=subject.held_out.classes_NC.cpu().numpy(),
        waveform_NS=dataset.waveforms(heard.tolist()).numpy(),
        log_mel_NFT=reconstruction_KNFT[0].cpu().numpy(),
        audio=dataset.audio.config,
        mean_db=dataset.audio.mean_db,
        std_db=dataset.audio.std_db,
    )


def trees(material: Material) -> dict[str, float]:
    """DCI: which latents boosted trees need to tell each factor."""
    fitted = material.fit_ND, material.fit_class_NC, material.held_out_ND, material.held_out_class_NC
    found = dci(*map(torch.from_numpy, fitted))
    return {
        "disentanglement/dci": found.disentanglement,
        "disentanglement/dci_completeness": found.completeness,
        "disentanglement/dci_informativeness": found.informativeness,
    }


def sound(material: Material) -> dict[str, float]:
    """How far sounds made from reconstructions are from the originals, and how far the originals' own log-mels get."""
    audio = LogMel(material.audio, material.mean_db, material.std_db)
    original_NS = torch.from_numpy(material.waveform_NS)
    floor = _floor(material.waveform_NS.tobytes(), material.audio)
    errors = waveform_fidelity(audio, original_NS, torch.from_numpy(material.log_mel_NFT))
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


EXAMINATIONS: dict[str, Callable[[Material], dict[str, float]]] = {"dci": trees, "sound": sound}
