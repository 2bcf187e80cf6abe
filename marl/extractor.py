"""Feature extraction with a trained model, and synthesis of audio from features.

P is private dimensions, Q shared dimensions, F mel bands, T frames of a window, S samples.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marl.audio import LogMel, Resampler
from marl.data.audio_dataset import UnusableClipError
from marl.data.audio_file import MAX_RATE_HZ, MAX_VALUE, MIN_RATE_HZ, windows
from marl.models import Network, Parameters, Posterior

__all__ = ["FeatureExtractor"]

# A spectrogram takes several times the memory of its audio, and recordings can last for hours.
_MAX_ENCODED_WINDOWS = 64
_MAX_INVERTED_WINDOWS = 32
# More channels than any recording has, and fewer samples than any.
_MAX_CHANNELS = 64
# Zero and full scale of integer audio, as in WAV files. Other integer types have no customary full scale.
_INTEGER_RANGES = {"uint8": (128, 1 << 7), "int16": (0, 1 << 15), "int32": (0, 1 << 31)}
_DTYPES = ("float32", "float64", "float16", "bfloat16", *_INTEGER_RANGES)


class FeatureExtractor:
    """Encodes audio of any length and sample rate, window by window.

    A window has the length of the clips that the model was trained on. The last window is padded with silence.

    Attributes:
        log_mel: Computes the log-mels that the model encodes.
        private: Number of private dimensions.
        shared: Number of shared dimensions.
        shared_factors: Factors, such as the timbre, that the shared features were trained to represent.
    """

    def __init__(
        self, network: Network, parameters: Parameters, log_mel: LogMel, shared_factors: tuple[str, ...] = ()
    ) -> None:
        self.log_mel, self.shared_factors = log_mel, shared_factors
        self.private, self.shared = network.architecture.private, network.architecture.shared
        self._network, self._parameters = network, parameters
        self._mask = torch.ones(network.latents, device=log_mel.device)

    def encode(
        self, waveform: Tensor | NDArray[Any], sample_rate: float, channels_first: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the posterior means of the private and shared latents of each window.

        Args:
            waveform: Audio. Mono without `channels_first`: [samples] or [batch, samples]. Floating-point audio has a
                full scale of one; uint8, int16 and int32 are scaled by the range of their type.
            sample_rate: Sample rate of the waveform, a whole number of Hz.
            channels_first: Order of a recording with channels, which are averaged: true for [channels, samples], false
                for [samples, channels], which `soundfile.read` returns. A waveform [samples] is always mono.

        Returns:
            Private features [windows, P] and shared features [windows, Q]; for a batch, [batch, windows, P] and
            [batch, windows, Q].

        Raises:
            TypeError: If the waveform is not a tensor or array of these types, or the sample rate is not a number.
            ValueError: If the waveform is empty or not finite, its shape is none of these, or no audio has the rate.
        """
        return self._means(self._windows(_mono(_audio(waveform), channels_first), _whole_rate(sample_rate)))

    def encode_file(self, path: str | Path) -> tuple[Tensor, Tensor]:
        """Return the posterior means of the private and shared latents of each window of an audio file.

        Channels are averaged. The file is decoded block by block, so that a recording of any length can be encoded.

        Returns:
            Private features [windows, P] and shared features [windows, Q].

        Raises:
            ValueError: If the file is missing or empty, libsndfile cannot decode it, or it has values that are not
                finite.
        """
        config, device = self.log_mel.config, self.log_mel.device
        blocks = windows(path, config.sample_rate, config.clip_samples, _MAX_ENCODED_WINDOWS)
        try:
            parts = [self._means(torch.from_numpy(windows_NS).to(device)) for windows_NS in blocks]
        except UnusableClipError as error:
            raise ValueError(f"{path}: {error}") from None
        private, shared = (torch.cat(features) for features in zip(*parts, strict=True))
        return private, shared

    def posterior(self, log_mel_FT: Tensor) -> Posterior:
        """Return the posteriors of standardised log-mels [..., F, T]."""
        batch = log_mel_FT.shape[:-2]
        with torch.no_grad():
            clips = self._network.to_input(log_mel_FT.reshape(-1, *log_mel_FT.shape[-2:]))
            posterior = self._network.encode(self._parameters, self._mask, clips)
        return Posterior(*(part.reshape(*batch, -1) for part in posterior))

    def decode(self, private: Tensor, shared: Tensor) -> Tensor:
        """Return the standardised log-mels [..., F, T] of latents [..., P] and [..., Q]."""
        latents = torch.cat([private, shared], dim=-1).to(self.log_mel.device)
        with torch.no_grad():
            output = self._network.decode(self._parameters, latents.reshape(-1, latents.shape[-1]))
        log_mels = self._network.from_output(output)
        return log_mels.reshape(*latents.shape[:-1], *log_mels.shape[-2:])

    def synthesise(self, private: Tensor, shared: Tensor) -> Tensor:
        """Return the audio of the latents of consecutive windows, such as edited ones: decoded and inverted.

        Args:
            private: Private latents [..., windows, P], as `encode` returns them.
            shared: Shared latents [..., windows, Q].

        Returns:
            Audio [..., samples] of all windows, at the sample rate of the model, `log_mel.config.sample_rate`. Peaks
            may exceed full scale. Its bits depend on the number of threads.
        """
        return self._invert(self.decode(private, shared))

    def reconstruct(
        self, waveform: Tensor | NDArray[Any], sample_rate: float, channels_first: bool | None = None
    ) -> Tensor:
        """Return the reconstruction of audio: encoded, decoded, and inverted to a waveform.

        `encode` describes the arguments. The result is mono audio [samples] or [batch, samples] of the same duration,
        at the sample rate of the model, `log_mel.config.sample_rate`.
        """
        mono = _mono(_audio(waveform), channels_first)
        private, shared = self.encode(mono, sample_rate)
        return self.synthesise(private, shared)[..., : self._length(mono, sample_rate)]

    def swap(
        self,
        content: Tensor | NDArray[Any],
        content_rate: float,
        style: Tensor | NDArray[Any],
        style_rate: float,
        channels_first: bool | None = None,
    ) -> Tensor:
        """Return one recording with the shared features, such as the timbre, of another.

        Each window of `content` keeps its private features. All windows get the same shared features: their mean over
        the windows of `style`, weighted by the duration of a window without padding. The order of `style` in time has
        no effect, and the two recordings can differ in length.

        Args:
            content: Audio [samples], of a type that `encode` takes, or with channels.
            content_rate: Sample rate of `content`, Hz.
            style: Audio [samples], or with channels.
            style_rate: Sample rate of `style`, Hz.
            channels_first: Order of recordings with channels, as in `encode`.

        Returns:
            Audio [samples] of the duration of `content`, at the sample rate of the model, `log_mel.config.sample_rate`.
            Its bits depend on the number of threads.

        Raises:
            TypeError: As `encode`.
            ValueError: If a waveform is a batch, is empty or is not finite, or no audio has the rate.
        """
        content, style = (
            _mono(_audio(waveform, name), channels_first) for name, waveform in (("content", content), ("style", style))
        )
        for name, waveform in (("content", content), ("style", style)):
            if waveform.ndim != 1:
                raise ValueError(
                    f"{name} must be one recording; got shape {tuple(waveform.shape)}; if it has channels, pass "
                    "channels_first=False for [samples, channels] or channels_first=True for [channels, samples]"
                )
        private, _ = self.encode(content, content_rate)
        _, shared = self.encode(style, style_rate)
        starts = torch.arange(len(shared), device=shared.device) * self.log_mel.config.clip_samples
        weight = (self._length(style, style_rate) - starts).clamp(1, self.log_mel.config.clip_samples)
        mean = (shared * weight[:, None]).sum(dim=0) / weight.sum()
        swapped = self.synthesise(private, mean.expand(len(private), -1))
        return swapped[: self._length(content, content_rate)]

    def _means(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior means of the private and shared latents of windows [..., S]."""
        rows = windows.reshape(-1, windows.shape[-1])
        mean = torch.cat([self.posterior(self.log_mel(part)).mean for part in rows.split(_MAX_ENCODED_WINDOWS)])
        private, shared = mean.reshape(*windows.shape[:-1], -1).split([self.private, self.shared], dim=-1)
        return private, shared

    def _length(self, waveform: Tensor, sample_rate: float) -> int:
        """Return the number of samples of a waveform at the sample rate of the model."""
        return -(-waveform.shape[-1] * self.log_mel.config.sample_rate // int(sample_rate))

    def _invert(self, log_mel_FT: Tensor) -> Tensor:
        """Return the audio [..., samples] of the log-mels [..., windows, F, T] of consecutive windows.

        The log-mels are concatenated in time before they are inverted, so that windows have no audible borders. To
        bound memory they are inverted in parts, which overlap by one window and are cross-faded there.
        """
        window = self.log_mel.config.clip_samples
        fade = torch.linspace(0.0, 1.0, window, device=self.log_mel.device)
        pieces: list[Tensor] = []
        for first in range(0, max(1, log_mel_FT.shape[-3] - 1), _MAX_INVERTED_WINDOWS - 1):
            part_FT = log_mel_FT[..., first : first + _MAX_INVERTED_WINDOWS, :, :].movedim(-3, -2).flatten(-2)
            part = self.log_mel.invert(part_FT)
            body, end = part.split([part.shape[-1] - window, window], dim=-1)
            if pieces:
                # Both parts start from zero phase in the same frames, so they nearly agree here.
                pieces[-1] = pieces[-1] * fade.flip(0) + body[..., :window] * fade
                body = body[..., window:]
            pieces += [body, end]
        return torch.cat(pieces, dim=-1)

    def _windows(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """Return windows [..., windows, S] of a mono waveform, resampled to the rate of the model."""
        low, high = waveform.aminmax()  # both are NaN if one value is
        if not (low >= -MAX_VALUE and high <= MAX_VALUE):
            raise ValueError(
                f"waveform must be finite, at most {MAX_VALUE:g} times full scale; got {low:g} to {high:g}"
            )
        config = self.log_mel.config
        samples = Resampler(sample_rate, config.sample_rate)(waveform.to(self.log_mel.device))
        missing = -samples.shape[-1] % config.clip_samples
        windows: Tensor = torch.nn.functional.pad(samples, (0, missing)).unflatten(-1, (-1, config.clip_samples))
        return windows


def _audio(waveform: object, name: str = "waveform") -> Tensor:
    """Return a waveform as float32, full scale at one."""
    if not isinstance(waveform, Tensor | np.ndarray):
        raise TypeError(f"{name} must be a tensor or a NumPy array; got {type(waveform).__name__}")
    dtype = waveform.dtype.name if isinstance(waveform, np.ndarray) else str(waveform.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise TypeError(f"{name} must have one of the types {', '.join(_DTYPES)}; got {dtype}")
    if isinstance(waveform, np.ndarray):  # torch takes neither negative strides nor the byte order of other machines
        waveform = torch.from_numpy(np.require(waveform, waveform.dtype.newbyteorder("="), ["C", "W"]))
    samples = waveform.to(torch.float32)
    if dtype not in _INTEGER_RANGES:
        return samples
    zero, full_scale = _INTEGER_RANGES[dtype]
    return (samples - zero) / full_scale


def _whole_rate(sample_rate: object) -> int:
    if not isinstance(sample_rate, int | float | np.integer | np.floating):
        raise TypeError(f"sample_rate must be a number; got {type(sample_rate).__name__}")
    if not MIN_RATE_HZ <= sample_rate <= MAX_RATE_HZ or sample_rate != int(sample_rate):
        raise ValueError(
            f"sample_rate must be a whole number from {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,} Hz; got {sample_rate}"
        )
    return int(sample_rate)


def _mono(waveform: Tensor, channels_first: bool | None) -> Tensor:
    """Return a waveform [samples] or [batch, samples], averaging channels if there are any."""
    shape = tuple(waveform.shape)
    if waveform.ndim not in (1, 2) or waveform.numel() == 0:
        raise ValueError(f"waveform must have one or two dimensions and be not empty; got shape {shape}")
    if waveform.ndim == 2 and channels_first is None and shape[1] <= _MAX_CHANNELS < shape[0]:
        raise ValueError(
            f"waveform must be [samples] or [batch, samples]; got shape {shape}, which looks like [samples, "
            "channels]; pass channels_first=False, or read the file by encode_file"
        )
    if waveform.ndim == 1 or channels_first is None:
        return waveform
    channels = shape[0] if channels_first else shape[1]
    if channels > _MAX_CHANNELS:
        order = "[channels, samples]" if channels_first else "[samples, channels]"
        raise ValueError(
            f"waveform must be {order} with at most {_MAX_CHANNELS} channels if channels_first is {channels_first}; "
            f"got shape {shape}; pass channels_first={not channels_first} if the order is the other one"
        )
    return waveform.mean(dim=0 if channels_first else 1)
