"""Audio of a study's models: clips, their reconstructions, and sounds decoded from other latents.

F is mel bands, T frames, S samples, P private latents, Q shared latents.
"""

import base64
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import soundfile
import torch
from torch import Tensor

from marl.audio import AudioConfig
from marl.data import Clips
from marl.extractor import FeatureExtractor
from study.analysis import StudyResults
from study.datasets import clips_of
from study.errors import UserError
from study.export.replicates import load_extractor
from study.spec import TrialId
from study.spec.resolved_spec import ResolvedSpec

COMPARISON = ("original", "reconstruction", "private swapped", "shared swapped")
"""Names of the sounds of `Audition.compare`."""

_LOCK = threading.Lock()


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Run a block on one thread, and one block at a time.

    The result of Griffin-Lim depends on rounding, and so on the number of threads; two threads are not faster.
    """
    with _LOCK:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True, eq=False)
class Sound:
    """A waveform and its spectrogram.

    Attributes:
        waveform_S: Waveform, float32, full scale at one. An inverted spectrogram may exceed full scale.
        decibels_FT: Log-mel, dB relative to a full-scale sine, float32. For decoded sounds it is the output of the
            model, from which the waveform was computed, and may lie below the floor.
    """

    waveform_S: np.ndarray
    sample_rate: int
    decibels_FT: np.ndarray

    def _repr_html_(self) -> str:
        """Return a player for a notebook. A waveform beyond full scale is attenuated."""
        (content,) = wav_files([self])
        return f'<audio controls src="data:audio/wav;base64,{base64.b64encode(content).decode()}"></audio>'


def loudness_gain_db(sound: Sound, reference: Sound) -> float:
    """Return the gain that gives a sound the RMS of another one, dB; 0 if one of them is silent."""
    levels = [float(np.sqrt(np.mean(each.waveform_S.astype(np.float64) ** 2))) for each in (sound, reference)]
    return 20 * float(np.log10(levels[1] / levels[0])) if min(levels) > 0 else 0.0


def wav_files(sounds: Sequence[Sound], is_matched: bool = False) -> list[bytes]:
    """Return sounds as WAV files (PCM, 16 bit). If one of them would clip, all are attenuated by the same factor.

    Matched sounds have the RMS of the first one.
    """
    gains = [10 ** (loudness_gain_db(sound, sounds[0]) / 20) if is_matched else 1.0 for sound in sounds]
    waveforms = [sound.waveform_S * gain for sound, gain in zip(sounds, gains, strict=True)]
    gain = 1.0 / max([1.0, *(float(np.abs(waveform_S).max()) for waveform_S in waveforms)])
    files = []
    for sound, waveform_S in zip(sounds, waveforms, strict=True):
        buffer = io.BytesIO()
        soundfile.write(buffer, waveform_S * gain, sound.sample_rate, format="WAV", subtype="PCM_16")
        files.append(buffer.getvalue())
    return files


def log_mel_rmse_db(first: Sound, second: Sound) -> float:
    """Return the root mean square difference of two log-mels, dB.

    For a clip and its reconstruction it is the clip's contribution to `fidelity/log_mel_rmse_db`. It does not include
    the error of inverting the spectrogram, which `Audition.inverted` makes audible and `fidelity/stft_error` measures.
    """
    return float(np.sqrt(np.mean((first.decibels_FT.astype(np.float64) - second.decibels_FT) ** 2)))


def latent_ranges(latents: pd.DataFrame) -> pd.DataFrame:
    """Return the percentiles `p5`, `p50` and `p95` of each latent of a sample from `StudyStore.read_latents`.

    The index is the name of the latent, such as `private/0`, in the order of the model.
    """
    names = [name for name in latents if str(name).startswith(("private/", "shared/"))]
    quantiles = latents[names].quantile([0.05, 0.5, 0.95]).T
    return quantiles.set_axis(["p5", "p50", "p95"], axis=1).rename_axis("latent")


class Audition:
    """Encodes validation clips with one model and decodes latents to sounds, on the CPU.

    The same clips and latents give the same sound to the last bit on one kind of processor.

    Attributes:
        clips: Validation clips in a fixed random order, so that the first ones are a random sample: `clip`, their
            index, and `factor/<name>`, in the units of the factors.
    """

    def __init__(self, extractor: FeatureExtractor, clips: Clips) -> None:
        self._extractor, self._log_mel, self._source = extractor, extractor.log_mel, clips
        validation = clips.splits["validation"]
        columns = {"clip": validation.numpy()}
        for factor, index_N in zip(clips.factors, clips.value_NC[validation].T.tolist(), strict=True):
            columns[f"factor/{factor.name}"] = np.array([factor.values[index] for index in index_N])
        self.clips = pd.DataFrame(columns)
        self._validation = frozenset(validation.tolist())

    @property
    def audio(self) -> AudioConfig:
        """Configuration of the clips and their log-mels."""
        return self._log_mel.config

    @classmethod
    def of(cls, results: StudyResults, trial: TrialId, seed: int) -> "Audition":
        """Load a replicate of a complete trial, or of the plain VAE, at the full budget.

        Raises:
            UserError: If the trial is not complete, or its weights were deleted.
            RunError: If its checkpoint is missing or damaged.
        """
        extractor = load_extractor(results, trial, seed)
        return cls(extractor, clips_of(ResolvedSpec(results.spec), results.store.objects))

    @_single_threaded()
    def original(self, clip: int) -> Sound:
        """Return the sound of a clip."""
        waveform_S = self._waveform(clip)
        return self._sound(waveform_S, self._log_mel(waveform_S))

    @_single_threaded()
    def inverted(self, clip: int) -> Sound:
        """Return the inverted spectrogram of a clip: the sound of a model that reconstructs perfectly."""
        log_mel_FT = self._log_mel(self._waveform(clip))
        return self._sound(self._log_mel.invert(log_mel_FT), log_mel_FT)

    def reconstruction(self, clip: int) -> Sound:
        """Return the reconstruction of a clip."""
        return self.swapped(clip)

    def swapped(self, clip: int, *, private_from: int | None = None, shared_from: int | None = None) -> Sound:
        """Return the decoded latents of a clip, with the private or shared latents of another clip."""
        private_P, _ = self.latents(clip if private_from is None else private_from)
        _, shared_Q = self.latents(clip if shared_from is None else shared_from)
        return self.decoded(private_P, shared_Q)

    def compare(self, clip: int, other: int) -> dict[str, Sound]:
        """Return the sounds of `COMPARISON` for a clip, swapping latents with another clip.

        Each spectrogram is inverted separately, because the phase that Griffin-Lim finds depends on the number of
        spectrograms in a batch. A batch would be hardly faster.
        """
        swapped = (self.swapped(clip, private_from=other), self.swapped(clip, shared_from=other))
        return dict(zip(COMPARISON, (self.original(clip), self.reconstruction(clip), *swapped), strict=True))

    @_single_threaded()
    def latents(self, clip: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the means of the private [P] and the shared latents [Q] of a clip, float32."""
        private, shared = self._extractor.encode(self._waveform(clip), self._log_mel.config.sample_rate)
        return private[0].numpy(), shared[0].numpy()

    @_single_threaded()
    def decoded(self, private_P: np.ndarray, shared_Q: np.ndarray) -> Sound:
        """Return the sound that latents decode to."""
        latents = []
        for name, values in (("private", private_P), ("shared", shared_Q)):
            size, array = getattr(self._extractor, name), np.array(values, np.float32)
            if array.shape != (size,) or not np.isfinite(array).all():
                raise ValueError(f"the model takes {size} {name} latents, all finite; got {array.tolist()}")
            latents.append(torch.from_numpy(array))
        log_mel_FT = self._extractor.decode(*latents)
        return self._sound(self._log_mel.invert(log_mel_FT), log_mel_FT)

    def _sound(self, waveform_S: Tensor, log_mel_FT: Tensor) -> Sound:
        decibels_FT = self._log_mel.decibels(log_mel_FT)
        return Sound(waveform_S.numpy(), self._log_mel.config.sample_rate, decibels_FT.numpy())

    def _waveform(self, clip: int) -> Tensor:
        if clip not in self._validation:
            known = f"{len(self._validation)} validation clips ({', '.join(map(str, self.clips['clip'][:3]))}, ...)"
            raise UserError(f"clip must be one of the {known}; got {clip}")
        return self._source.waveforms([clip])[0]
