import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marl.metrics.beta_vae import beta_vae_score, fixed_factor_accuracy, mean_differences

KINDS = ("perfect", "entangled", "partial", "constant_latent")
CASES = tuple(f"{kind}_{size}" for size in ("4x20x10", "4x40x20") for kind in KINDS)
ALL = torch.cartesian_prod(torch.arange(4), torch.arange(20), torch.arange(10))


def score(*latents: torch.Tensor, classes: torch.Tensor = ALL) -> list[float]:
    """Return the scores of models without padding."""
    stacked = torch.stack(latents)
    return beta_vae_score(stacked, torch.ones(len(stacked), stacked.shape[-1]), classes).tolist()


def noise(clips: int, latents: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(clips, latents, generator=torch.Generator().manual_seed(seed))


# Amplitude has its own latent; timbre and frequency share one.
MIXED = torch.stack([ALL[:, 0] / 4 + ALL[:, 1] / 20, ALL[:, 2] / 10], dim=1) + 0.3 * noise(len(ALL), 2)


@pytest.mark.parametrize("case", CASES)
def test_points_and_accuracies_agree_with_disentanglement_lib(reference, case):
    arrays = reference("sampled_scores.npz", case)
    pairs = torch.from_numpy(arrays["betavae_pairs"]).long().transpose(1, 2)
    points = mean_differences(torch.from_numpy(arrays["table"])[None], pairs)
    np.testing.assert_allclose(points[0], arrays["betavae_points"], rtol=1e-5)

    training, fixed = int(arrays["betavae_num_train"]), torch.from_numpy(arrays["betavae_fixed_factor"]).long()
    fit = points[:, :training], fixed[:training]
    again = fixed_factor_accuracy(*fit, *fit)
    assert again.item() == pytest.approx(arrays["betavae_train_accuracy"], abs=0.01)
    others = fixed_factor_accuracy(*fit, points[:, training:], fixed[training:])
    assert others.item() == pytest.approx(arrays["betavae_eval_accuracy"], abs=0.02)


@pytest.mark.parametrize("case", CASES)
def test_scores_of_own_pairs_agree_with_disentanglement_lib_within_their_spread(reference, case):
    arrays = reference("sampled_scores.npz", case)
    found = score(torch.from_numpy(arrays["table"]), classes=torch.from_numpy(arrays["factors"]).long())
    assert found[0] == pytest.approx(arrays["betavae_eval_accuracy_5seeds"].mean(), abs=0.1)


def test_accuracy_uses_held_out_points():
    points = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64).repeat(2, 50, 1)
    fixed = torch.tensor([0, 1]).repeat(50)
    others = fixed.where(torch.arange(100) < 30, 1 - fixed)
    assert fixed_factor_accuracy(points, fixed, points, others).tolist() == [0.3, 0.3]


def test_a_latent_per_factor_scores_one_and_noise_scores_chance():
    clips = ALL.repeat(25, 1)
    perfect, useless = score(clips.float(), noise(len(clips), 3), classes=clips)
    assert perfect == 1.0
    assert useless == pytest.approx(1 / 3, abs=0.03)


def test_factors_without_information_are_confused():
    (found,) = score(ALL[:, :1].float())  # shared timbre or not
    assert found == pytest.approx(2 / 3, abs=0.03)


@settings(max_examples=20, deadline=None)
@given(models=st.integers(1, 4), clips=st.integers(1, 50), latents=st.integers(1, 20), seed=st.integers(0, 1000))
def test_points_are_mean_absolute_differences_of_each_latent_of_each_model(models, clips, latents, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(models, clips, latents, generator=generator)
    pairs = torch.randint(clips, (30, 7, 2), generator=generator)
    found = mean_differences(values, pairs)
    first, second = values.double()[:, pairs].unbind(dim=-2)
    torch.testing.assert_close(found, (first - second).abs().mean(dim=2), rtol=1e-6, atol=1e-6)
    assert torch.equal(found[..., [-1]], mean_differences(values[..., [-1]], pairs))
    assert torch.equal(found[-1:], mean_differences(values[-1:], pairs))


def test_scores_ignore_order_sign_and_offset():
    first, second = score(MIXED, 7 - MIXED[:, [1, 0]])
    assert first == pytest.approx(second, abs=0.002)
    assert 0.4 < first < 0.95


def test_names_of_classes_do_not_matter():
    (found,) = score(MIXED)
    assert score(MIXED, classes=ALL * 7 - 20) == [found]
    # Relabelled classes are drawn from the same distribution by other random numbers.
    name = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert score(MIXED, classes=name[ALL])[0] == pytest.approx(found, abs=0.03)


def test_batched_models_score_like_each_alone():
    models = [MIXED, noise(len(ALL), 2), ALL[:, :2].float(), torch.zeros(len(ALL), 2)]
    together = score(*models)
    assert together == [score(model)[0] for model in models]
    assert len(set(together)) == len(models)


def test_padded_latents_do_not_count():
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]])
    for padding in (torch.zeros_like(ALL), ALL):
        padded = torch.cat([MIXED, padding], dim=1)[None]
        assert beta_vae_score(padded, mask, ALL).tolist() == pytest.approx(score(MIXED), abs=0.002)


def test_constant_latents_do_not_count():
    with_constant = torch.cat([MIXED, torch.full((len(ALL), 1), -3.7)], dim=1)
    assert score(with_constant) == pytest.approx(score(MIXED), abs=0.002)


def test_constant_latents_alone_predict_one_factor():
    constant = torch.full((len(ALL), 2), 0.1)
    assert score(constant)[0] == pytest.approx(1 / 3, abs=0.03)
    assert score(constant, classes=ALL[:, :2])[0] == pytest.approx(1 / 2, abs=0.03)


def test_a_factor_with_a_single_class_is_never_shared():
    with_constant = torch.cat([torch.full((len(ALL), 1), 5), ALL], dim=1)
    assert score(MIXED, classes=with_constant) == score(MIXED)
    assert score(MIXED, classes=torch.zeros_like(ALL)) == [0.0]
    assert score(MIXED, classes=ALL[:, :1]) == [1.0]


def test_few_clips_are_drawn_repeatedly():
    few = ALL[::27] % 3
    assert len(few) < 64
    assert score(few.float(), classes=few) == [1.0]


def test_a_single_clip_scores_zero():
    assert score(ALL[:1].float(), classes=ALL[:1]) == [0.0]


def test_huge_latents_of_a_diverged_model_do_not_change_neighbours():
    huge, neighbour = score(MIXED * 1e30, MIXED)
    assert 0 <= huge <= 1
    assert neighbour == pytest.approx(score(MIXED)[0], abs=0.002)
