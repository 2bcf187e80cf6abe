from types import SimpleNamespace

import pytest
import torch

from findings.swaps import errors, pairs
from marl.audio import AudioConfig
from marl.data.syntone import SynTone


@pytest.fixture(scope="module")
def dataset():
    return SynTone(frequencies=20, amplitudes=4).build(AudioConfig(), torch.device("cpu"))


class Knowing:
    """Model whose latents are the factor values of the clip: two private, one shared."""

    private, shared = 2, 1

    def __init__(self, dataset):
        self.dataset = dataset
        self.order_C = [dataset.factor_names.index(name) for name in ("frequency", "amplitude", "timbre")]
        self.clip_of = {tuple(row): clip for clip, row in enumerate(dataset.value_NC[:, self.order_C].tolist())}

    def posterior(self, log_mel_nFT):
        distance_nN = torch.cdist(log_mel_nFT.flatten(1), self.dataset.log_mels.values_NFT.flatten(1))
        return SimpleNamespace(mean=self.dataset.value_NC[distance_nN.argmin(dim=1)][:, self.order_C].float())

    def decode(self, private, shared):
        rows = torch.cat([private, shared], dim=1).long().tolist()
        return self.dataset.log_mels[torch.tensor([self.clip_of[tuple(row)] for row in rows])]


class Deaf(Knowing):
    """Model that ignores shared latents when it decodes."""

    def decode(self, private, shared):
        return super().decode(private, torch.zeros_like(shared))


def test_the_target_of_a_swap_has_the_shared_factors_of_the_other_clip(dataset):
    a, b, wanted = (dataset.value_NC[clips] for clips in pairs(dataset, ("timbre",)).T)
    timbre = dataset.factor_names.index("timbre")
    others = [column for column in range(3) if column != timbre]
    assert len(a) > 200
    assert torch.equal(wanted[:, timbre], b[:, timbre])
    assert torch.equal(wanted[:, others], a[:, others])
    assert (a[:, timbre] != b[:, timbre]).all()


def test_an_oracle_swaps_without_error_and_a_model_without_shared_latents_does_not(dataset):
    drawn = pairs(dataset, ("timbre",))
    reconstruction, none, shared = errors(Knowing(dataset), dataset, drawn)
    assert reconstruction == shared == 0
    assert none > 3
    reconstruction, none, shared = errors(Deaf(dataset), dataset, drawn)
    assert shared == none > 0
    assert reconstruction > 0
