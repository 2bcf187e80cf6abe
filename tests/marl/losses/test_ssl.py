import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marl.losses.repulsion import repulsion
from marl.losses.ssl import Pairing
from marl.losses.ssl.barlow import barlow
from marl.losses.ssl.dcl import dcl
from marl.losses.ssl.infonce import infonce
from marl.losses.ssl.nt_xent import nt_xent
from marl.losses.ssl.supcon import supcon
from marl.losses.ssl.triplet import triplet
from marl.losses.ssl.vicreg import vicreg
from tests.marl.losses.checks import assert_stacked_models_equal_each_alone, value_and_gradients

CASES = (
    "small",
    "typical",
    "pair_batch",
    "wide_batch",
    "independent",
    "identical_views",
    "large_norms",
    "small_norms",
    "dim_exceeds_batch",
    "collapsed",
)
LIBRARY = {
    "infonce": "infonce_symmetric_tau{}",
    "nt_xent": "ntxent_lightly_tau{}",
    "supcon": "supcon_two_views_tau{}",
    "dcl": "dcl_tau{}",
    "barlow": "barlow_default",
    "vicreg": "vicreg_default",
}
WITH_NEGATIVES = ("infonce", "nt_xent", "supcon", "dcl", "triplet")
PAIRWISE = {loss.__name__: loss for loss in (barlow, dcl, infonce, nt_xent, supcon, triplet, vicreg)}
EVERY = {**PAIRWISE, "repulsion": lambda a, b, pairing: repulsion(a, b)}


def pairing_of(latents, group=None, temperature=0.2):
    """Pairs of a group share their factors and are not negatives; without groups all pairs differ."""
    pairs, dimensions = latents.shape
    group = torch.arange(pairs) if group is None else group
    same = group[:, None] == group
    return Pairing(
        torch.ones(dimensions, dtype=latents.dtype),
        same,
        same & ~torch.eye(pairs, dtype=torch.bool),
        torch.tensor(temperature, dtype=latents.dtype),
    )


def views(pairs, dimensions, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, pairs, dimensions, generator=generator, dtype=dtype).unbind()


def assert_agrees(arrays, name, loss):
    value, *gradients = value_and_gradients(loss, *(torch.from_numpy(arrays[view]) for view in "ab"))
    np.testing.assert_allclose(value.item(), arrays[name], rtol=1e-9, atol=1e-12)
    for gradient, view in zip(gradients, "ab", strict=True):
        expected = arrays[f"{name}_grad_{view}"]
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("case", CASES)
def test_strategies_and_their_gradients_agree_with_public_implementations(reference, case, name, temperature):
    arrays = reference("contrastive_losses.npz", case)
    group = torch.from_numpy(arrays["labels"]) if name == "supcon" else None
    pairing = pairing_of(torch.from_numpy(arrays["a"]), group, temperature)
    assert_agrees(arrays, LIBRARY[name].format(temperature), lambda a, b: PAIRWISE[name](a, b, pairing))


@pytest.mark.parametrize("case", CASES)
def test_triplet_and_its_gradients_agree_with_pytorch_metric_learning(reference, case):
    # In the library, every two clips of a class are positives, so all these pairs are added. Only the original pairs,
    # the first B, are negatives, so that each clip is a negative once.
    arrays = reference("contrastive_losses.npz", case)
    label = torch.from_numpy(arrays["labels"])
    pairs, clip_label = len(label), label.tile(2)
    first, second = torch.triu_indices(2 * pairs, 2 * pairs, 1)
    is_added = (clip_label[first] == clip_label[second]) & (second - first != pairs)
    first = torch.cat([torch.arange(pairs), first[is_added]])
    second = torch.cat([torch.arange(pairs) + pairs, second[is_added]])
    label = clip_label[first]
    is_added = torch.arange(len(first)) >= pairs
    excluded = ((label[:, None] == label) | is_added) & ~torch.eye(len(first), dtype=torch.bool)

    def loss(a, b):
        clips = torch.cat([a, b])
        pairing = pairing_of(clips[first])._replace(excluded_negatives_BB=excluded)
        return triplet(clips[first], clips[second], pairing)

    assert_agrees(arrays, "triplet_pml_margin0.05", loss)


def expected_loss(name, first, second, excluded, temperature):
    """Compute the loss by loops over anchors, excluding pairs with equal shared factors."""
    pairs = len(first)
    clips = torch.nn.functional.normalize(torch.cat([first, second]), dim=1)
    cosine = clips @ clips.T
    terms = []
    for i in range(2 * pairs):
        other = (i + pairs) % (2 * pairs)
        negatives = [j for j in range(2 * pairs) if j % pairs != i % pairs and not excluded[i % pairs, j % pairs]]
        if name == "infonce":
            negatives = [j for j in negatives if (j < pairs) != (i < pairs)]
        if name == "triplet":
            excess = 0.05 + torch.dist(clips[i], clips[other]) - torch.cdist(clips[i : i + 1], clips[negatives])
            terms += [value for value in excess[0] if value > 0]
        else:
            alternatives = negatives if name == "dcl" else [*negatives, other]
            terms.append(torch.logsumexp(cosine[i, alternatives] / temperature, 0) - cosine[i, other] / temperature)
    return torch.stack(terms).mean()


@pytest.mark.parametrize("name", WITH_NEGATIVES)
def test_excluded_pairs_are_not_negatives(name):
    first, second = views(6, 4)
    group = torch.tensor([0, 0, 1, 1, 2, 3])
    excluded = (group[:, None] == group) & ~torch.eye(6, dtype=torch.bool)
    pairing = pairing_of(first, temperature=0.3)._replace(excluded_negatives_BB=excluded)
    found = PAIRWISE[name](first, second, pairing)
    torch.testing.assert_close(found, expected_loss(name, first, second, excluded, 0.3))
    assert not torch.isclose(found, PAIRWISE[name](first, second, pairing_of(first, temperature=0.3)))


def test_supcon_keeps_positives_that_are_excluded_as_negatives():
    first, second = views(6, 4)
    pairing = pairing_of(first, torch.tensor([0, 0, 1, 1, 2, 3]))
    kept = pairing._replace(excluded_negatives_BB=torch.zeros(6, 6, dtype=torch.bool))
    assert torch.equal(PAIRWISE["supcon"](first, second, pairing), PAIRWISE["supcon"](first, second, kept))


@pytest.mark.parametrize("name", ["infonce", "nt_xent", "dcl", "triplet"])
def test_without_negatives_the_loss_is_zero(name):
    first, second = views(5, 3, dtype=torch.float32)
    pairing = pairing_of(first, torch.zeros(5))
    value, *gradients = value_and_gradients(lambda a, b: PAIRWISE[name](a, b, pairing), first, second)
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("name", EVERY)
@settings(deadline=None, max_examples=15)
@given(pairs=st.integers(2, 12), dimensions=st.integers(1, 6), padding=st.integers(1, 5), seed=st.integers(0, 99))
def test_padding_changes_neither_the_loss_nor_its_gradients(name, pairs, dimensions, padding, seed):
    first, second = views(pairs, dimensions, seed)
    pairing = pairing_of(first, torch.arange(pairs) // 2)
    # Padding on both sides: valid latents need not come first.
    pad = torch.nn.ConstantPad1d((padding // 2, padding - padding // 2), 0.0)
    padded_pairing = pairing._replace(mask_D=pad(pairing.mask_D))
    narrow = value_and_gradients(lambda a, b: EVERY[name](a, b, pairing), first, second)
    wide = value_and_gradients(lambda a, b: EVERY[name](a, b, padded_pairing), pad(first), pad(second))
    torch.testing.assert_close(wide[0], narrow[0], rtol=1e-12, atol=1e-12)
    for found, expected in zip(wide[1:], narrow[1:], strict=True):
        torch.testing.assert_close(found, pad(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_stacked_models_equal_each_model_alone(name):
    models = [views(8, 4, seed) for seed in range(3)]
    stacked = [torch.stack(parts) for parts in zip(*models, strict=True)]
    pairings = [
        pairing_of(first, torch.arange(8) % size, temperature)._replace(mask_D=mask)
        for (first, _), size, temperature, mask in zip(
            models, (8, 4, 3), (0.1, 0.2, 0.9), torch.ones(3, 4).double().tril(1), strict=True
        )
    ]
    batched = Pairing(*(torch.stack(fields) for fields in zip(*pairings, strict=True)))
    stacked = [part * batched.mask_D[:, None] for part in stacked]
    models = [(*(part[index] for part in stacked), pairing) for index, pairing in enumerate(pairings)]
    assert_stacked_models_equal_each_alone(EVERY[name], (*stacked, batched), models)


@pytest.mark.parametrize("pairs", [2, 16])
@pytest.mark.parametrize("name", EVERY)
def test_degenerate_latents_give_finite_values_in_float32(name, pairs):
    first, second = views(pairs, 4, dtype=torch.float32)
    zeros = torch.zeros(pairs, 4)
    degenerate = {
        "all zero": (zeros, zeros),
        "one view zero": (first, zeros),
        "all equal": (zeros + 0.3, zeros + 0.3),
        "every pair at one point": (zeros + first[0], zeros + first[0]),
        "identical views": (first, first),
        "opposite views": (first, -first),
        "vanishing": (1e-30 * first, 1e-30 * second),
        "far from zero": (first + 1e4, second + 1e4),
    }
    for group in (None, torch.zeros(pairs)):
        for mask in (torch.ones(4), torch.zeros(4)):
            pairing = pairing_of(first, group, temperature=0.05)._replace(mask_D=mask)
            for what, latents in degenerate.items():
                values = value_and_gradients(lambda a, b, pairing=pairing: EVERY[name](a, b, pairing), *latents)
                assert all(value.isfinite().all() for value in values), what


@pytest.mark.parametrize("name", ["infonce", "nt_xent", "dcl", "triplet", "vicreg", "barlow"])
def test_identical_views_have_a_smaller_loss_than_unrelated_views(name):
    first, second = views(32, 8)
    pairing = pairing_of(first)
    assert PAIRWISE[name](first, first, pairing) < 0.5 * PAIRWISE[name](first, second, pairing)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ([[0.0, 3.0], [-1.0, 0.0]], 0.0),  # orthogonal
        ([[2.0, 0.0], [0.0, 1.0]], 1.0),  # identical up to length
        ([[-1.0, 0.0], [0.0, -5.0]], 0.0),  # opposite
        ([[1.0, 1.0], [0.0, 0.0]], 0.25),  # 45 degrees, and a zero vector
    ],
)
def test_repulsion_has_known_values(second, expected):
    first, second = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor(second)
    value, *gradients = value_and_gradients(repulsion, first, second)
    assert value.item() == pytest.approx(expected)
    if expected == 0:
        assert not any(gradient.any() for gradient in gradients)


def test_descent_on_repulsion_separates_the_views():
    latents = torch.stack(views(16, 3)).abs().requires_grad_()
    optimiser = torch.optim.Adam([latents], lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        repulsion(*latents).backward()
        optimiser.step()
    assert repulsion(*latents) < 1e-3
