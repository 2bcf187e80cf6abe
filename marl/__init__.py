"""Self-supervised multi-view representation learning of music audio.

>>> import marl
>>> model = marl.load("exported/model")
>>> private, shared = model.encode_file("note.wav")
"""

from marl.checkpoint import load
from marl.extractor import FeatureExtractor

__all__ = ["FeatureExtractor", "load"]
