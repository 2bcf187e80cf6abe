"""A small set of tones, prepared in a store."""

import numpy as np

from marl.audio import AudioConfig
from marl.data.audio_dataset import Entry, prepare_clips
from marl.data.folder import Folder
from study.datasets.prepared_set import PreparedSet
from study.storage import ObjectStore

AUDIO = AudioConfig()
CONFIG = Folder(path="somewhere", factors=("pitch", "voice"), split="clip")
TIME_S = np.arange(AUDIO.clip_samples) / AUDIO.sample_rate


class Tones:
    """Tones of some pitches; of every tenth it is not known whose voice it is."""

    factor_names = CONFIG.factors

    def __init__(self, count: int) -> None:
        self.count = count

    def entries(self):
        return [
            Entry(f"tone {n}", (100.0 + n % 30, None if n % 10 == 9 else f"voice {n % 3}"), f"take {n % 20}", (n,))
            for n in range(self.count)
        ]

    def waveform(self, entry, sample_rate, samples):
        (number,) = entry.locator
        # The last two sound alike.
        hz = 100.0 + 10 * min(number, self.count - 2)
        return (0.5 * np.sin(2 * np.pi * hz * TIME_S)).astype(np.float32)


def prepared(folder, count=60, chunk=16) -> PreparedSet:
    source = Tones(count)
    entries = source.entries()
    found = PreparedSet(ObjectStore(str(folder)), "0" * 32)
    chunks = [entries[first : first + chunk] for first in range(0, count, chunk)]
    for number, some in enumerate(chunks):
        found.write_chunk(number, prepare_clips(source, some, AUDIO), source.factor_names, AUDIO)
    found.complete(len(chunks), CONFIG, AUDIO, source.factor_names)
    return found
