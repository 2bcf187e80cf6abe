"""Fidelity of reconstructions: distances of log-mel spectrograms and of the waveforms that they invert to.

**Spectrograms.** The root mean square error, and the log-spectral distance of Gray & Markel (IEEE Trans. ASSP 24, 1976;
also Rabiner & Juang, Fundamentals of Speech Recognition, 1993), here on mel bands: the root mean square over the bands
of a frame, averaged over frames and clips. As the root is taken for each frame, a few bad frames count less than in the
error over all, which it never exceeds. In both, a reconstruction that is g dB too loud or quiet everywhere has an error
of |g| dB.

**Waveforms.** The multi-resolution STFT error of Yamamoto et al. (Parallel WaveGAN, ICASSP 2020), after Arık et al.
(IEEE SPL 2019), of each clip: on magnitude spectra S of the original and Ŝ of the reconstruction, the spectral
convergence ||S - Ŝ|| / ||S|| (Frobenius norms), which the loudest bins dominate, and the log magnitude error
mean |log S - log Ŝ|, in which all bins have the same weight. Both are averaged over three resolutions; the STFT error
is their sum. None depends on phase, but all depend on level: for a reconstruction that is g dB off everywhere, the
first is |1 - 10^(g/20)| and the second |g| ln(10) / 20. Silence has a convergence of 1, a sound 12 dB too loud of 3.

The log-mel lacks information, such as the frequency of a partial within its band, that no model can recover.
`inversion_floor` is the error of the originals' own log-mels, inverted in the same way, for comparison. On clean tones
it is high: power of one bin is spread over a band, and the log magnitude error counts the gaps between partials.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from marl.audio import LogMel

__all__ = [
    "RESOLUTIONS",
    "SpectralDistance",
    "StftErrors",
    "class_means",
    "inversion_floor",
    "root_mean_square",
    "spectral_distance",
    "stft_errors",
    "waveform_fidelity",
]

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""Fourier transform, hop and Hann window in samples, as in the paper, at every sample rate.

Its windows last 25, 50 and 10 ms at 24 kHz; at 16 kHz they last 37.5, 75 and 15 ms.
"""

# The smallest magnitude, the usual 1e-7 of power: 113 dB below a full-scale sine in the window of 600.
_MIN_MAGNITUDE = 1e-7**0.5
# Griffin-Lim amplifies rounding, which depends on the number of clips that are inverted together: it is always this.
_INVERTED_TOGETHER = 16


class SpectralDistance(NamedTuple):
    """Mean squared error, dB², and log-spectral distance, dB, of each clip by each model."""

    squared_error_KN: Tensor
    log_spectral_distance_KN: Tensor


def spectral_distance(reconstruction_KNFT: Tensor, original_NFT: Tensor) -> SpectralDistance:
    """Return the distances of each clip, float32; both are zero for a perfect reconstruction.

    Args:
        reconstruction_KNFT: Log-mels of the same clips by each model, dB.
        original_NFT: Log-mels of the clips, dB. If both are standardised, results are in standard deviations.
    """
    difference = reconstruction_KNFT.to(torch.float32) - original_NFT.to(torch.float32)
    frame_KNT = difference.square().mean(dim=-2)
    return SpectralDistance(frame_KNT.mean(dim=-1), frame_KNT.sqrt().mean(dim=-1))


def root_mean_square(squared_error_KN: Tensor) -> Tensor:
    """Return the root mean square error over clips, float64 [K], from the mean squared error of each clip."""
    return squared_error_KN.to(torch.float64).mean(dim=1).sqrt()


def class_means(values_KN: Tensor, class_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return means over the clips of each class, float64 [K, classes], and the number of clips of each class.

    The mean of a class without clips is a placeholder of zero. The average of the means, weighted by the numbers of
    clips, is the mean over all clips. The root mean square error of a class is the root of its mean squared error.
    """
    # A matrix product would spread an infinite error to all classes, and scatter_add has no fixed order on a GPU.
    member_YN = one_hot(class_N, classes).to(torch.bool).mT
    clips_Y = member_YN.sum(dim=1)
    total_KY = values_KN.to(torch.float64)[:, None].where(member_YN, 0.0).sum(dim=-1)
    return total_KY / clips_Y.clamp_min(1), clips_Y


class StftErrors(NamedTuple):
    """Errors of each clip, float64; zero for equal waveforms.

    Attributes:
        spectral_convergence_N: Spectral convergence, a ratio of at least zero.
        log_magnitude_error_N: Log magnitude error in nats of magnitude; times 20 / ln(10) = 8.686 it is in dB.
        stft_error_N: Sum of the two.
    """

    spectral_convergence_N: Tensor
    log_magnitude_error_N: Tensor
    stft_error_N: Tensor


def stft_errors(original_NS: Tensor, reconstruction_NS: Tensor) -> StftErrors:
    """Return the errors of waveforms, averaged over `RESOLUTIONS`.

    Full scale is one. For a silent original the spectral convergence is undefined. It is set to 0 if the reconstruction
    is silent too, and otherwise to 1, the value of a silent reconstruction of a sound.
    """
    convergences, log_errors = [], []
    for resolution in RESOLUTIONS:
        original, reconstruction = (_magnitudes(wave, *resolution) for wave in (original_NS, reconstruction_NS))
        difference_N = torch.linalg.matrix_norm(reconstruction - original)
        silent_N = original.amax(dim=(-2, -1)) <= _MIN_MAGNITUDE
        relative_N = difference_N / torch.linalg.matrix_norm(original)
        convergences.append(torch.where(silent_N, relative_N.sign(), relative_N))
        log_errors.append((reconstruction.log() - original.log()).abs().mean(dim=(-2, -1)))
    convergence_N, log_error_N = torch.stack(convergences).mean(dim=0), torch.stack(log_errors).mean(dim=0)
    return StftErrors(convergence_N, log_error_N, convergence_N + log_error_N)


@torch.no_grad()
def waveform_fidelity(audio: LogMel, original_NS: Tensor, reconstructed_log_mel_NFT: Tensor) -> StftErrors:
    """Return the errors of the waveforms that reconstructed log-mels invert to.

    The errors of a clip do not depend on the other clips. Across devices they differ: inversion turns differences in
    rounding into differences in phase, which change the error of a clip by about 0.01 and a mean over many by 0.001.
    Reconstructions are standardised by `audio`, and finite.
    """
    clips = len(original_NS)
    # The last clip fills up the last batch.
    indices = torch.arange(-(-clips // _INVERTED_TOGETHER) * _INVERTED_TOGETHER).clamp_max(clips - 1)
    parts = [
        stft_errors(original_NS[batch].to(audio.device), audio.invert(reconstructed_log_mel_NFT[batch]))
        for batch in indices.split(_INVERTED_TOGETHER)
    ]
    return StftErrors(*(torch.cat(part)[:clips] for part in zip(*parts, strict=True)))


def inversion_floor(audio: LogMel, original_NS: Tensor) -> StftErrors:
    """Return the errors of a perfect model, whose reconstructions are the clips' own log-mels.

    This is a reference, not a bound. Inversion puts power into wrong bins of a band, and less power there costs less,
    so log-mels that are a few dB too quiet, or blurred, can have smaller errors.
    """
    return waveform_fidelity(audio, original_NS, audio(original_NS))


def _magnitudes(wave_NS: Tensor, fft_size: int, hop: int, window: int) -> Tensor:
    """Return the magnitudes of the STFT, float64 [N, frequencies, T], clamped to at least `_MIN_MAGNITUDE`."""
    spectrum = torch.stft(
        wave_NS.to(torch.float64),
        fft_size,
        hop,
        window,
        torch.hann_window(window, dtype=torch.float64, device=wave_NS.device),
        # Clips are mirrored at their ends, as usual; clips that are too short for that are padded with silence.
        pad_mode="reflect" if wave_NS.shape[-1] > fft_size // 2 else "constant",
        return_complex=True,
    )
    return spectrum.abs().clamp_min(_MIN_MAGNITUDE)
