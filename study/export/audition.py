"""Models of a study, to be heard: clips, what a model makes of them, and what it makes of other latents.

F is mel bands, T frames, S samples; P private and S shared latents, where they stand for those.
"""

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

from marl.checkpoint import METADATA_FILE, MODEL_FILE, ModelMetadata, build_extractor
from marl.data import Clips
from marl.extractor import FeatureExtractor
from study.analysis import StudyResults, trial_name
from study.datasets.load import clips_of
from study.errors import UserError, command_for
from study.spec import Baseline, TrialId
from study.spec.resolved_spec import ResolvedSpec

__all__ = ["ROW", "Listener", "Sound", "latent_ranges", "log_mel_rmse_db", "wavs"]

ROW = ("original", "reconstruction", "private swapped", "shared swapped")
"""The sounds of `Listener.row`."""

_TRAIN_AGAIN = "or train this one again: run the study under another name with its configuration in `include`"
_ALONE = threading.Lock()


@contextmanager
def _alone() -> Iterator[None]:
    """On one thread, and one at a time.

    Griffin-Lim makes much of the last bit, which depends on how many threads there are; two make it no faster.
    """
    with _ALONE:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True, eq=False)
class Sound:
    """Something to hear, and to see.

    Attributes:
        waveform_S: float32, full scale at one; what comes out of an inversion may exceed it.
        sample_rate: Hz.
        decibels_FT: log-mel, dB relative to a full-scale sine, float32: what the waveform was made from, as the model
            decoded it, which may lie below the floor; of an original its own.
    """

    waveform_S: np.ndarray
    sample_rate: int
    decibels_FT: np.ndarray


def wavs(sounds: Sequence[Sound]) -> list[bytes]:
    """WAV files (PCM, 16 bit) of sounds that are to be compared.

    Where one of them would clip, all are made quieter by the same factor; otherwise they are as loud as they are.
    """
    loudest = max((float(np.abs(sound.waveform_S).max()) for sound in sounds), default=0.0)
    gain = 1.0 / max(1.0, loudest)
    files = []
    for sound in sounds:
        buffer = io.BytesIO()
        soundfile.write(buffer, sound.waveform_S * gain, sound.sample_rate, format="WAV", subtype="PCM_16")
        files.append(buffer.getvalue())
    return files


def log_mel_rmse_db(sound: Sound, other: Sound) -> float:
    """Root mean square difference of their log-mels, dB.

    Between an original and its reconstruction it is what `fidelity/log_mel_rmse_db` is of one clip. What inversion
    costs is not in it: that is heard in `Listener.inverted`, and measured by `fidelity/stft_error` and its floor.
    """
    return float(np.sqrt(np.mean((sound.decibels_FT.astype(np.float64) - other.decibels_FT) ** 2)))


def latent_ranges(latents: pd.DataFrame) -> pd.DataFrame:
    """Where the values of each latent lie.

    Args:
        latents: a sample, as `StudyStore.read_latents` gives it.

    Returns:
        Columns `p5`, `p50` and `p95`, percentiles; a row for each latent by its name, such as `private/0`, in the order
        of the model.
    """
    names = [name for name in latents if str(name).startswith(("private/", "shared/"))]
    quantiles = latents[names].quantile([0.05, 0.5, 0.95]).T
    return quantiles.set_axis(["p5", "p50", "p95"], axis=1).rename_axis("latent")


class Listener:
    """One model, and the validation clips to hear it on.

    The same clips and latents give the same sound to the last bit, alone or in a row, on this kind of processor.

    Args:
        extractor: the model, on the CPU.
        known: the clips of the study's data, of the length that the model takes.

    Attributes:
        clips: all validation clips in an order that is random and fixed, the first n are a fair sample: `clip`, their
            index, and `factor/<name>`, in the factors' own units.
    """

    def __init__(self, extractor: FeatureExtractor, known: Clips) -> None:
        self._extractor = extractor
        self._log_mel = extractor.log_mel
        self._known = known
        offered = known.splits["validation"]
        columns = {"clip": offered.numpy()}
        for factor, index_N in zip(known.factors, known.value_NC[offered].T.tolist(), strict=True):
            columns[f"factor/{factor.name}"] = np.array([factor.values[index] for index in index_N])
        self.clips = pd.DataFrame(columns)
        self._offered = frozenset(offered.tolist())

    @classmethod
    def of(cls, results: StudyResults, trial: TrialId, seed: int) -> "Listener":
        """A replicate of a complete trial, or of the plain VAE, as it was at the full budget.

        Raises:
            UserError: when the trial is not complete, its weights were pruned, or the checkpoint is missing or damaged.
        """
        _refuse_if_not_complete(results, trial, seed)
        _, extractor = _checkpoint(results, trial, seed)
        return cls(extractor, clips_of(ResolvedSpec(results.spec), results.store.objects))

    @_alone()
    def original(self, clip: int) -> Sound:
        """The clip itself."""
        waveform_S = self._waveform(clip)
        return self._sound(waveform_S, self._log_mel(waveform_S))

    @_alone()
    def inverted(self, clip: int) -> Sound:
        """The clip's own spectrogram made a sound again: what a model that reconstructs perfectly sounds like."""
        log_mel_FT = self._log_mel(self._waveform(clip))
        return self._sound(self._log_mel.invert(log_mel_FT), log_mel_FT)

    def reconstruction(self, clip: int) -> Sound:
        """What the clip's own latents decode to."""
        return self.swapped(clip)

    def swapped(self, clip: int, *, private_from: int | None = None, shared_from: int | None = None) -> Sound:
        """What the clip's latents decode to, with the private or the shared ones of another clip; none is its own."""
        private_P, _ = self.latents(clip if private_from is None else private_from)
        _, shared_S = self.latents(clip if shared_from is None else shared_from)
        return self.decoded(private_P, shared_S)

    def row(self, clip: int, other: int) -> dict[str, Sound]:
        """All that is heard of a model side by side: the sounds of `ROW`.

        Each is inverted by itself. Together they would take hardly less time and sound otherwise than alone: the phase
        that Griffin-Lim ends at depends on how many spectrograms there are.
        """
        sounds = (
            self.original(clip),
            self.reconstruction(clip),
            self.swapped(clip, private_from=other),
            self.swapped(clip, shared_from=other),
        )
        return dict(zip(ROW, sounds, strict=True))

    @_alone()
    def latents(self, clip: int) -> tuple[np.ndarray, np.ndarray]:
        """Means of the private [P] and the shared latents [S] of a clip, float32."""
        private, shared = self._extractor.encode(self._waveform(clip), self._log_mel.config.sample_rate)
        return private[0].numpy(), shared[0].numpy()

    @_alone()
    def decoded(self, private_P: np.ndarray, shared_S: np.ndarray) -> Sound:
        """What latents decode to.

        Raises:
            ValueError: when there are not as many as the model has, or one is not finite.
        """
        parts = []
        for name, values, size in (
            ("private", private_P, self._extractor.private),
            ("shared", shared_S, self._extractor.shared),
        ):
            part = np.asarray(values, dtype=np.float32)
            if part.shape != (size,) or not np.isfinite(part).all():
                raise ValueError(f"the model has {size} {name} latents, all finite; got {part.tolist()}")
            parts.append(torch.from_numpy(part.copy()))
        log_mel_FT = self._extractor.decode(*parts)
        return self._sound(self._log_mel.invert(log_mel_FT), log_mel_FT)

    def _sound(self, waveform_S: Tensor, log_mel_FT: Tensor) -> Sound:
        decibels_FT = self._log_mel.decibels(log_mel_FT)
        return Sound(waveform_S.numpy(), self._log_mel.config.sample_rate, decibels_FT.numpy())

    def _waveform(self, clip: int) -> Tensor:
        if clip not in self._offered:
            some = ", ".join(map(str, self.clips["clip"][:3]))
            raise UserError(
                f"a clip must be one of the {len(self._offered)} validation clips ({some}, ...); got {clip}"
            )
        return self._known.waveforms([clip])[0]


def _refuse_if_not_complete(results: StudyResults, trial: TrialId, seed: int) -> None:
    states = results.trials().set_index("trial")["state"].to_dict()
    if isinstance(trial, Baseline) and trial in set(results.baselines().get("baseline", ())):
        states[trial] = "complete"
    state = states.get(trial, "not there")
    if state != "complete":
        complete = [one for one, its in states.items() if its == "complete"]
        other = f"listen to a complete one, such as {complete[0]}" if complete else "no trial is complete yet"
        advice = {
            "running": "wait until it has trained to the full budget",
            "interrupted": f"go on with the study by `{command_for(results.store.uri, 'resume')}`",
            "pruned": f"halving stopped it; {other}",
        }.get(state, other)
        raise UserError(f"only complete trials can be heard; {trial_name(trial)} is {state}: {advice}")
    if seed not in results.spec.seeds:
        raise UserError(f"a seed must be one of the study's, {', '.join(map(str, results.spec.seeds))}; got {seed}")


def _checkpoint(results: StudyResults, trial: TrialId, seed: int) -> tuple[ModelMetadata, FeatureExtractor]:
    """A model at the full budget, and what is said of it."""
    store, problem = results.store, ""
    found = store.latest_checkpoint(trial, seed)
    if found is not None and found.step == results.spec.train.steps:
        try:
            metadata = ModelMetadata.model_validate_json(found.files[METADATA_FILE])
            return metadata, build_extractor(metadata, found.files[MODEL_FILE])
        except KeyError as error:
            problem = f" (there is no {error.args[0]})"
        except ValueError as error:
            problem = f" ({str(error).splitlines()[0]})"
    elif (when := store.discarded(trial)) is not None:
        raise UserError(
            f"the weights of trial {trial} were deleted by `marl-study clean` on {when[:10]}; its results and latents "
            f"are kept. Listen to a trial that kept its weights, such as one of the front, {_TRAIN_AGAIN}"
        )
    raise UserError(
        f"the checkpoint of trial {trial}, seed {seed} is missing or damaged in {store.uri}{problem}; listen to "
        f"another seed or trial, {_TRAIN_AGAIN}"
    )
