import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marl.metrics.factor_vae import (
    active_latents,
    draw_clips,
    factor_vae_score,
    least_varied_latents,
    majority_accuracy,
    varied_factors,
    vote_counts,
)
from marl.randomness import Purpose

KINDS = ("perfect", "entangled", "partial", "constant_latent")
CASES = tuple(f"{kind}_{size}" for size in ("4x20x10", "4x40x20") for kind in KINDS)
ALL = torch.cartesian_prod(torch.arange(4), torch.arange(20), torch.arange(10))


def score(*latents: torch.Tensor, classes: torch.Tensor = ALL, threshold: float = 0.05) -> list[float]:
    """Return the scores of models without padding."""
    stacked = torch.stack(latents)
    return factor_vae_score(stacked, torch.ones(len(stacked), stacked.shape[-1]), classes, threshold).tolist()


def noise(clips: int, latents: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(clips, latents, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("threshold", ["0", "0.05"])
@pytest.mark.parametrize("case", CASES)
def test_votes_and_accuracies_agree_with_disentanglement_lib(reference, case, threshold):
    loaded = reference("sampled_scores.npz", case)
    arrays = {name: torch.from_numpy(np.asarray(array)) for name, array in loaded.items()}
    expected = {
        name.removeprefix(f"factorvae_thr{threshold}_"): array
        for name, array in arrays.items()
        if name.startswith(f"factorvae_thr{threshold}_")
    }
    table, fixed, training = arrays["table"][None], expected["fixed_factor"].long(), int(expected["num_train"])
    latents, factors = table.shape[-1], arrays["factors"].shape[1]
    variance = table[:, expected["variance_sample"].long()].double().var(dim=1)
    np.testing.assert_allclose(variance[0], expected["global_variances"], rtol=1e-5)
    active = active_latents(variance, torch.ones(1, latents), float(threshold))
    assert torch.equal(active[0], expected["active"])

    votes = least_varied_latents(table, variance, active, expected["batches"].long())
    positions = active[0].nonzero().flatten()  # the library numbers active latents only
    assert torch.equal(votes[0], positions[expected["argmin"].long()])
    counts = vote_counts(votes[:, :training], fixed[:training], latents, factors)
    assert torch.equal(counts[0, positions].mT, expected["train_votes"][:, : len(positions)])
    others = vote_counts(votes[:, training:], fixed[training:], latents, factors)
    assert majority_accuracy(counts, counts).item() == pytest.approx(expected["train_accuracy"].item(), abs=1e-9)
    assert majority_accuracy(counts, others).item() == pytest.approx(expected["eval_accuracy"].item(), abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_scores_of_own_batches_agree_with_disentanglement_lib_within_their_spread(reference, case):
    arrays = reference("sampled_scores.npz", case)
    found = score(torch.from_numpy(arrays["table"]), classes=torch.from_numpy(arrays["factors"]).long())
    assert found[0] == pytest.approx(arrays["factorvae_thr0.05_eval_accuracy_5seeds"].mean(), abs=0.05)


def test_a_latent_per_factor_scores_one_and_noise_scores_chance():
    perfect, useless = ALL.float(), noise(len(ALL), 3)
    found = score(perfect, useless)
    assert found[0] == 1.0
    assert found[1] == pytest.approx(1 / 3, abs=0.06)
    assert score(noise(20_000, 3), classes=ALL.repeat(25, 1))[0] == pytest.approx(1 / 3, abs=0.02)


def test_two_factors_in_one_latent_lower_the_score():
    both = torch.stack([ALL[:, 0] + ALL[:, 1] / 20, ALL[:, 2]], dim=1)  # only timbre fixes the first
    assert 0.5 < score(both.float())[0] < 0.9


@settings(max_examples=20, deadline=None)
@given(clips=st.integers(3, 80), latents=st.integers(1, 5), seed=st.integers(0, 1000))
def test_votes_ignore_order_scale_and_offset(clips, latents, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(1, clips, latents, generator=generator, dtype=torch.float64)
    batches = torch.randint(clips, (50, 8), generator=generator)
    # Degenerate groups would tie: one clip alone has no variance in any latent.
    batches[:, :4] = torch.tensor([0, 0, 0, 1])
    order = torch.randperm(latents, generator=generator)
    moved = (values * (10 * torch.rand(latents, generator=generator) + 0.01) - 3)[..., order]

    def votes(table):
        return least_varied_latents(table, table.var(dim=1), torch.ones(1, latents, dtype=torch.bool), batches)

    assert torch.equal(order[votes(moved)], votes(values))


def test_a_large_offset_does_not_change_the_votes():
    latents = noise(1000, 5).double()[None]
    batches = torch.randint(1000, (200, 64), generator=torch.Generator().manual_seed(0))
    near, far = (
        least_varied_latents(values, values.var(dim=1), torch.ones(1, 5, dtype=torch.bool), batches)
        for values in (latents, latents + 1e9)
    )
    assert torch.equal(near, far)


def test_the_score_ignores_order_and_scale():
    latents = ALL[:, :2] + 3 * noise(len(ALL), 2)
    changed = latents[:, [1, 0]] * torch.tensor([100.0, 0.5]) + 7
    first, second = score(latents, changed)
    assert first == second
    assert 0.4 < first < 0.95


@settings(max_examples=5, deadline=None)
@given(clips=st.integers(1, 100), latents=st.integers(1, 4), seed=st.integers(0, 1000))
def test_scores_lie_between_zero_and_one(clips, latents, seed):
    classes = torch.randint(4, (clips, 3), generator=torch.Generator().manual_seed(seed))
    assert 0 <= score(noise(clips, latents, seed), classes=classes)[0] <= 1


def test_names_of_classes_do_not_matter():
    latents = ALL + 2 * noise(len(ALL), 3)
    (found,) = score(latents)
    assert score(latents, classes=ALL * 7 - 20) == [found]
    # Relabelled classes are drawn from the same distribution by other random numbers.
    name = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert score(latents, classes=name[ALL])[0] == pytest.approx(found, abs=0.03)


def test_batched_models_score_like_each_alone():
    models = [ALL + 2 * noise(len(ALL), 3), noise(len(ALL), 3), ALL.float(), torch.zeros(len(ALL), 3)]
    together = score(*models)
    assert together == [score(model)[0] for model in models]
    assert len(set(together)) == len(models)


def test_padded_latents_never_vote():
    latents, informative = ALL + 2 * noise(len(ALL), 3), ALL.float()
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
    for padding in (torch.zeros_like(informative), informative):
        padded = torch.cat([latents, padding], dim=1)[None]
        assert factor_vae_score(padded, mask, ALL, 0.0).tolist() == score(latents)


def test_nearly_constant_latents_do_not_vote():
    informative, useless = ALL + 0.1 * noise(len(ALL), 3), 0.04 * noise(len(ALL), 1)
    with_others = torch.cat([informative, torch.full((len(ALL), 1), 3.0), useless], dim=1)
    assert score(with_others) == score(informative) == [1.0]
    # Without a threshold the constant latent varies least in every batch.
    assert score(with_others, threshold=0.0)[0] == pytest.approx(1 / 3, abs=0.03)


def test_a_model_without_an_active_latent_scores_zero():
    assert score(*(torch.full((len(ALL), 2), value) for value in (0.0, 0.1, -1e20))) == [0.0, 0.0, 0.0]
    assert factor_vae_score(ALL[None].float(), torch.zeros(1, 3), ALL).tolist() == [0.0]


def test_among_constant_latents_of_a_batch_the_first_votes():
    alike = torch.stack([ALL[:, 1] / 7, ALL[:, 0] / 3, ALL[:, 0] * 5.3, ALL[:, 0] + 0.1], dim=1)[None]
    still = (ALL[:, 0] == 2).nonzero().view(4, -1)
    votes = least_varied_latents(alike, alike.double().var(dim=1), torch.ones(1, 4, dtype=torch.bool), still)
    assert votes.tolist() == [[1, 1, 1, 1]]


def test_a_factor_with_a_single_class_is_never_fixed():
    latents = ALL + 2 * noise(len(ALL), 3)
    with_constant = torch.cat([torch.full((len(ALL), 1), 5), ALL], dim=1)
    assert score(latents, classes=with_constant) == score(latents)
    assert score(latents, classes=torch.zeros_like(ALL)) == [0.0]
    assert score(latents, classes=ALL[:, :1]) == [1.0]


def test_few_clips_are_drawn_repeatedly():
    few = ALL[::27] % 3
    assert len(few) < 64
    assert score(few.float(), classes=few) == [1.0]


def test_a_single_clip_scores_zero():
    assert score(ALL[:1].float(), classes=ALL[:1]) == [0.0]


def test_huge_latents_of_a_diverged_model_do_not_change_neighbours():
    latents = ALL + 2 * noise(len(ALL), 3)
    assert score(latents * 2.0**100, latents) == score(latents, latents)


def test_clips_of_a_group_share_the_class_of_the_drawn_factor():
    classes = torch.randint(5, (300, 3), generator=torch.Generator().manual_seed(0)) * 3 - 4
    fixed, clips = draw_clips(classes, 500, 4, 6, Purpose.FACTOR_VAE_BATCH)
    assert clips.shape == (500, 4, 6)
    drawn = classes[clips, fixed[:, None, None]]
    assert (drawn == drawn[..., :1]).all()
    assert (drawn[:, :, 0] != drawn[:, :1, 0]).any()  # groups differ in class


def test_factors_classes_and_clips_are_drawn_uniformly():
    classes = torch.tensor([[0, 3]] * 2 + [[1, 3]] * 6 + [[1, 8]] * 2)
    fixed, clips = draw_clips(classes, 60_000, 1, 1, Purpose.FACTOR_VAE_BATCH)
    np.testing.assert_allclose(fixed.bincount() / 60_000, [1 / 2] * 2, atol=0.01)
    of_first, of_second = clips[fixed == 0].flatten(), clips[fixed == 1].flatten()
    np.testing.assert_allclose(of_first.bincount() / len(of_first), [1 / 4] * 2 + [1 / 16] * 8, atol=0.01)
    np.testing.assert_allclose(of_second.bincount() / len(of_second), [1 / 16] * 8 + [1 / 4] * 2, atol=0.01)


def test_varied_factors_are_those_with_more_than_one_class():
    classes = torch.tensor([[1, 2, 0], [1, 3, 0], [1, 2, 4]])
    assert varied_factors(classes).tolist() == [[2, 0], [3, 0], [2, 4]]
    assert varied_factors(classes[:0]).shape == (0, 0)
