"""A trained model in use: audio in, private and shared features out."""

import torch
from torch import Tensor

from marl.audio import LogMel, Resampler
from marl.model import Network, Parameters, Posterior

__all__ = ["FeatureExtractor"]


class FeatureExtractor:
    """Encodes audio of any length and sample rate, window by window.

    A window is one clip of the length that the model was trained on; the last one is filled up with silence.

    Attributes:
        log_mel: the spectrograms that the model takes.
        private: dimensions of the private features.
        shared: dimensions of the shared features.
    """

    def __init__(self, network: Network, parameters: Parameters, log_mel: LogMel) -> None:
        self.log_mel = log_mel
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
        windows = self._windows(waveform, sample_rate)
        mean = self.posterior(self.log_mel(windows)).mean
        private, shared = mean.split([self.private, self.shared], dim=-1)
        return private, shared

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
        windows = self.log_mel.invert(self.decode(private, shared))
        rate = self.log_mel.config.sample_rate
        samples = -(-waveform.shape[-1] * rate // sample_rate)
        return windows.flatten(-2)[..., :samples]

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
