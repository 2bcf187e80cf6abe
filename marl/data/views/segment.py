"""Two views as two parts of one clip, as in COLA.

K is lanes, R = K·n rows (n for each lane), F mel bands, T frames, W frames of a window.
"""

import torch
from torch import Tensor

from marl import randomness
from marl.randomness import Purpose

__all__ = ["segment"]


def segment(log_mel_RFT: Tensor, seed_K: Tensor, step_K: Tensor) -> Tensor:
    """A randomly placed window of half of each clip's frames, repeated to the clip's length.

    Saeed, Grangier and Zeghidour, "Contrastive Learning of General-Purpose Audio Representations", ICASSP 2021, section
    2: two segments of one recording, each placed anywhere and independently of the other. There a segment is a tenth of
    a recording; here it is half, so that two of them have two thirds of a window in common on average, and it is
    repeated, so that a network's input keeps its size. Frames themselves overlap by what a Fourier window is longer
    than a hop.

    Args:
        log_mel_RFT: the clips, lane after lane.
        seed_K: int64 seeds of the lanes.
        step_K: int64 steps of the lanes.

    Returns:
        [R, F, T], each row a function of its own clip, its lane's seed and step, and its place in its lane.
    """
    device, frames = log_mel_RFT.device, log_mel_RFT.shape[-1]
    window = max(frames // 2, 1)
    start_KR1 = randomness.integers(
        randomness.stream(seed_K, step_K, Purpose.SEGMENT),
        randomness.indices(len(log_mel_RFT) // len(seed_K), device),
        torch.zeros(1, dtype=torch.int64, device=device),
        below=frames - window + 1,
    )
    frame_RT = start_KR1.flatten(0, 1) + torch.arange(frames, device=device) % window
    return log_mel_RFT.gather(2, frame_RT[:, None].expand(log_mel_RFT.shape))
