"""Self-supervised multi-view representation learning of music audio.

>>> import marl, soundfile, torch
>>> model = marl.load("exported/model")
>>> audio, sample_rate = soundfile.read("note.wav", dtype="float32")
>>> private, shared = model.encode(torch.from_numpy(audio), sample_rate)
"""

from marl.checkpoint import load
from marl.extractor import FeatureExtractor

__all__ = ["FeatureExtractor", "load"]
