"""A trained model in use: audio in, private and shared features out, and sound out of features.

F is mel bands, T frames of a window, S samples of audio.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from marl.audio import LogMel, Resampler
from marl.models import Network, Parameters, Posterior

__all__ = ["FeatureExtractor"]

# A spectrogram takes several times the memory of its audio; recordings may last for hours.
_WINDOWS_AT_ONCE = 64
_INVERTED_AT_ONCE = 32


class FeatureExtractor:
    """Encodes audio of any length and sample rate, window by window.

    A window is one clip of the length that the model was trained on; the last one is filled up with silence.

    Attributes:
        log_mel: the spectrograms that the model takes.
        private: dimensions of the private features.
        shared: dimensions of the shared features.
        shared_factors: what the two views of a training pair had in common, such as the timbre: the shared features
            were trained to tell it.
    """

    def __init__(
        self, network: Network, parameters: Parameters, log_mel: LogMel, shared_factors: tuple[str, ...] = ()
    ) -> None:
        self.log_mel = log_mel
        self.shared_factors = shared_factors
        self.private = network.architecture.private
        self.shared = network.architecture.shared
        self._network = network
        self._parameters = parameters
        self._mask = torch.ones(network.latents, device=log_mel.device)

    def encode(self, waveform: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
        """Means of the private and of the shared latents.

        Args:
            waveform: mono audio, [samples] or [batch, samples], full scale at one.
            sample_rate: of the waveform, Hz.

        Returns:
            private [windows, P] and shared [windows, S]; with a batch, [batch, windows, P] and [batch, windows, S].

        Raises:
            ValueError: when the waveform is empty, has more than two dimensions or holds a value that is not finite.
        """
        return self._means(self._windows(waveform, sample_rate))

    def posterior(self, log_mel_FT: Tensor) -> Posterior:
        """Posteriors of standardised log-mels [..., F, T]."""
        batch = log_mel_FT.shape[:-2]
        with torch.no_grad():
            clips = self._network.to_input(log_mel_FT.reshape(-1, *log_mel_FT.shape[-2:]))
            posterior = self._network.encode(self._parameters, self._mask, clips)
        return Posterior(*(part.reshape(*batch, -1) for part in posterior))

    def decode(self, private: Tensor, shared: Tensor) -> Tensor:
        """Standardised log-mels [..., F, T] from latents [..., P] and [..., S]."""
        latents = torch.cat([private, shared], dim=-1).to(self.log_mel.device)
        with torch.no_grad():
            output = self._network.decode(self._parameters, latents.reshape(-1, latents.shape[-1]))
        spectrograms = self._network.from_output(output)
        return spectrograms.reshape(*latents.shape[:-1], *spectrograms.shape[-2:])

    def reconstruct(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """What is left of audio after encoding and decoding, as audio.

        Args:
            waveform: as for `encode`.
            sample_rate: as for `encode`.

        Returns:
            The same shape as `waveform`, but at the model's own sample rate, `log_mel.config.sample_rate`.
        """
        private, shared = self.encode(waveform, sample_rate)
        return self._sound(self.decode(private, shared), self._length(waveform, sample_rate))

    def swap(self, content: Tensor, content_rate: int, style: Tensor, style_rate: int) -> Tensor:
        """One sound with what the model shares, such as the timbre, of another.

        Each window of `content` keeps its own private features. Shared features are those of a stationary attribute,
        which all windows of a sound tell alike: their mean over the windows of `style` is taken for all windows, where
        a window that was filled up with silence counts by what it has of the sound. So no order in time comes over,
        and the two may differ in length.

        Args:
            content: mono audio [samples], full scale at one.
            content_rate: its sample rate, Hz.
            style: mono audio [samples], of any length.
            style_rate: its sample rate, Hz.

        Returns:
            [samples], as long as `content`, at the model's own sample rate, `log_mel.config.sample_rate`. The same
            audio gives the same sound on as many threads.

        Raises:
            ValueError: when one of them is not [samples], empty or not finite.
        """
        for name, waveform in (("content", content), ("style", style)):
            if waveform.ndim != 1:
                raise ValueError(f"{name} must be mono audio [samples]; got shape {tuple(waveform.shape)}")
        private, _ = self.encode(content, content_rate)
        _, shared = self.encode(style, style_rate)
        ends = torch.arange(len(shared), device=shared.device) * self.log_mel.config.clip_samples
        weight = (self._length(style, style_rate) - ends).clamp(1, self.log_mel.config.clip_samples)
        mean = (shared * weight[:, None]).sum(dim=0) / weight.sum()
        return self._sound(self.decode(private, mean.expand(len(private), -1)), self._length(content, content_rate))

    def _means(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Private and shared latents of windows [..., S]."""
        rows = windows.reshape(-1, windows.shape[-1])
        mean = torch.cat([self.posterior(self.log_mel(some)).mean for some in rows.split(_WINDOWS_AT_ONCE)])
        private, shared = mean.reshape(*windows.shape[:-1], -1).split([self.private, self.shared], dim=-1)
        return private, shared

    def _length(self, waveform: Tensor, sample_rate: int) -> int:
        """Samples that a waveform has at the model's sample rate."""
        return -(-waveform.shape[-1] * self.log_mel.config.sample_rate // sample_rate)

    def _sound(self, log_mel_FT: Tensor, samples: int) -> Tensor:
        """Audio [..., samples] of the log-mels [..., windows, F, T] of consecutive windows.

        Frames of one window follow those of the one before as its own do: all are one spectrogram, and are inverted as
        such, so that no border of windows is heard. So much of it at once as memory allows, with a window in common
        over which one part is faded into the next.
        """
        window = self.log_mel.config.clip_samples
        fade = torch.linspace(0.0, 1.0, window, device=self.log_mel.device)
        done: list[Tensor] = []
        for part in self._inverted(log_mel_FT):
            body, end = part.split([part.shape[-1] - window, window], dim=-1)
            if done:
                # Both began from phases of zero in the same frames, and have come to nearly the same sound.
                done[-1] = done[-1] * fade.flip(0) + body[..., :window] * fade
                body = body[..., window:]
            done += [body, end]
        return torch.cat(done, dim=-1)[..., :samples]

    def _inverted(self, log_mel_FT: Tensor) -> Iterator[Tensor]:
        """Audio of some windows at a time; each part begins with the window that the one before ended with."""
        count, step = log_mel_FT.shape[-3], _INVERTED_AT_ONCE - 1
        for first in range(0, max(1, count - 1), step):
            some = log_mel_FT[..., first : first + _INVERTED_AT_ONCE, :, :]
            yield self.log_mel.invert(some.movedim(-3, -2).flatten(-2))

    def _windows(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """[..., windows, samples of a clip] at the model's sample rate."""
        if waveform.ndim not in (1, 2) or waveform.numel() == 0:
            raise ValueError(
                f"a waveform is [samples] or [batch, samples] and not empty; got shape {tuple(waveform.shape)}"
            )
        if not waveform.isfinite().all():
            raise ValueError("a waveform must be finite; it holds NaN or infinity")
        if sample_rate <= 0:
            raise ValueError(f"sample_rate must be positive, got {sample_rate}")
        config = self.log_mel.config
        samples = Resampler(sample_rate, config.sample_rate)(waveform.to(self.log_mel.device))
        missing = -samples.shape[-1] % config.clip_samples
        windows: Tensor = torch.nn.functional.pad(samples, (0, missing)).unflatten(-1, (-1, config.clip_samples))
        return windows
