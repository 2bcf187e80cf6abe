"""How far the sound made from a reconstructed log-mel is from the original sound.

The multi-resolution STFT error of Yamamoto et al. (Parallel WaveGAN, ICASSP 2020), after Arık et al. (IEEE SPL 2019),
of each clip: on magnitude spectra S of the original and Ŝ of the reconstruction, the spectral convergence
||S - Ŝ|| / ||S|| (Frobenius norms), which the loudest bins decide, and the log magnitude error mean |log S - log Ŝ|, to
which bins count alike, however quiet. Both are averaged over three resolutions; the STFT error is their sum.

None of them hears phase, but all of them hear level: where a reconstruction is g dB off everywhere, the first is
|1 - 10^(g/20)| and the second |g| ln(10) / 20. Too quiet is cheaper than too loud: silence costs a convergence of 1, a
sound 12 dB too loud costs 3.

What the log-mel does not hold, such as where in a band a partial lies, no model brings back. `inversion_floor` is the
error of the originals' own log-mels, inverted in the same way: what to compare with. On clean tones it is high: power
that lay in one bin is spread over a band, and the log magnitude error counts what fills the silence between partials.

N is clips, S samples, F mel bands or Fourier bins, T frames.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from marl.audio import LogMel

__all__ = ["RESOLUTIONS", "StftErrors", "inversion_floor", "stft_errors", "waveform_fidelity"]

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""Fourier transform, hop and Hann window, samples: those of the paper, whatever the sample rate.

Its windows last 25, 50 and 10 ms at 24 kHz; at 16 kHz they last 37.5, 75 and 15 ms.
"""

# The least magnitude there is, the usual 1e-7 of power: 113 dB below a full-scale sine in the window of 600.
_QUIETEST = 1e-7**0.5
# Griffin-Lim makes much of the last bit, which depends on how many clips are inverted at once: always so many.
_TOGETHER = 16


class StftErrors(NamedTuple):
    """Of each clip, float64; zero for the same sound.

    Attributes:
        spectral_convergence_N: a ratio, at least zero.
        log_magnitude_error_N: nats of magnitude; times 20 / ln(10) = 8.686 it is in dB.
        stft_error_N: their sum.
    """

    spectral_convergence_N: Tensor
    log_magnitude_error_N: Tensor
    stft_error_N: Tensor


def stft_errors(original_NS: Tensor, reconstruction_NS: Tensor) -> StftErrors:
    """Errors of waveforms, averaged over `RESOLUTIONS`.

    The convergence has no scale where the original is silent, that is, nowhere above the least magnitude: there it is 0
    if the reconstruction is silent too, and otherwise 1, as much as silence for a sound costs.

    Args:
        original_NS: full scale at one.
        reconstruction_NS: of the same length.
    """
    convergences, log_errors = [], []
    for resolution in RESOLUTIONS:
        original, reconstruction = (_magnitudes(wave, *resolution) for wave in (original_NS, reconstruction_NS))
        difference_N = torch.linalg.matrix_norm(reconstruction - original)
        silent_N = original.amax(dim=(-2, -1)) <= _QUIETEST
        relative_N = difference_N / torch.linalg.matrix_norm(original)
        convergences.append(torch.where(silent_N, relative_N.sign(), relative_N))
        log_errors.append((reconstruction.log() - original.log()).abs().mean(dim=(-2, -1)))
    convergence_N, log_error_N = torch.stack(convergences).mean(dim=0), torch.stack(log_errors).mean(dim=0)
    return StftErrors(convergence_N, log_error_N, convergence_N + log_error_N)


@torch.no_grad()
def waveform_fidelity(audio: LogMel, original_NS: Tensor, reconstructed_log_mel_NFT: Tensor) -> StftErrors:
    """Errors of the sounds that reconstructed log-mels invert to.

    A clip's errors do not depend on the other clips. They are not exactly those of another device: the inversion
    turns another rounding into another phase, which moves the error of a clip by some 0.01, a mean over many by 0.001.

    Args:
        audio: how clips become log-mels and back.
        original_NS: the clips, full scale at one.
        reconstructed_log_mel_NFT: what became of each, standardised as `audio` does it and finite.
    """
    clips = len(original_NS)
    # The last clip fills up the last batch.
    indices = torch.arange(-(-clips // _TOGETHER) * _TOGETHER).clamp_max(clips - 1)
    parts = [
        stft_errors(original_NS[some].to(audio.device), audio.invert(reconstructed_log_mel_NFT[some]))
        for some in indices.split(_TOGETHER)
    ]
    return StftErrors(*(torch.cat(part)[:clips] for part in zip(*parts, strict=True)))


def inversion_floor(audio: LogMel, original_NS: Tensor) -> StftErrors:
    """Errors of the sounds that the clips' own log-mels invert to: of a model that reconstructs perfectly.

    It is a bar and no bound: power in the wrong bins of a band costs less if there is less of it, so that log-mels a
    few dB too quiet, or blurred, can come out below.

    Args:
        audio: how clips become log-mels and back.
        original_NS: the clips, full scale at one.
    """
    return waveform_fidelity(audio, original_NS, audio(original_NS))


def _magnitudes(wave_NS: Tensor, fft_size: int, hop: int, window: int) -> Tensor:
    """Magnitudes of the short-time Fourier transform [N, F, T], float64, none below the least there is."""
    spectrum = torch.stft(
        wave_NS.to(torch.float64),
        fft_size,
        hop,
        window,
        torch.hann_window(window, dtype=torch.float64, device=wave_NS.device),
        # A clip is mirrored at its ends, as usual, but one that is shorter than what is mirrored goes on in silence.
        pad_mode="reflect" if wave_NS.shape[-1] > fft_size // 2 else "constant",
        return_complex=True,
    )
    return spectrum.abs().clamp_min(_QUIETEST)
