import pytest
import torch
from sklearn.linear_model import LinearRegression, RidgeClassifier

from marl.metrics.linear_probes import RIDGE, linear_probe_accuracy

CLIPS, FITTED = 1200, 800


@pytest.fixture(scope="module")
def clips():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (CLIPS,), generator=generator)
    noise = torch.randn(CLIPS, 3, generator=generator)
    told = torch.nn.functional.one_hot(labels, 5).float()
    return labels, noise, told


def accuracy(representations: list[torch.Tensor], *labels: torch.Tensor) -> list[list[float]]:
    """Of each representation, each factor."""
    stacked, classes = torch.stack(representations), torch.stack(labels, dim=1)
    counts = [int(label.max()) + 1 for label in labels]
    return linear_probe_accuracy(
        stacked[:, :FITTED], classes[:FITTED], stacked[:, FITTED:], classes[FITTED:], counts
    ).tolist()


def test_a_perfect_representation_is_read_perfectly_and_a_useless_one_by_chance(clips):
    labels, noise, told = clips
    useless = torch.cat([noise, noise[:, :2]], dim=1)
    (perfect,), (chance,) = accuracy([told, useless], labels)
    assert perfect == 1.0
    assert chance == pytest.approx(0.2, abs=0.08)


def test_what_is_not_linear_is_not_read(clips):
    _, noise, _ = clips
    labels = (noise[:, 0] * noise[:, 1] > 0).long()
    assert accuracy([noise], labels)[0][0] == pytest.approx(0.5, abs=0.08)


def test_accuracies_agree_with_scikit_learns_ridge_and_almost_with_its_plain_regression(clips):
    labels, noise, told = clips
    signs = (noise[:, 0] > 0.3).long()
    representation = told[:, :3] + 0.4 * noise
    ours = accuracy([representation], labels, signs)[0]
    fit = representation[:FITTED].double()
    mean, deviation = fit.mean(dim=0), fit.std(dim=0)
    standard = ((representation.double() - mean) / deviation).numpy()
    for found, truth in zip(ours, (labels, signs), strict=True):
        ridge = RidgeClassifier(alpha=RIDGE * FITTED).fit(standard[:FITTED], truth[:FITTED])
        assert found == pytest.approx(ridge.score(standard[FITTED:], truth[FITTED:]), abs=1e-6)
    plain = LinearRegression().fit(standard[:FITTED], told[:FITTED])
    told_by_it = plain.predict(standard[FITTED:]).argmax(axis=1)
    assert ours[0] == pytest.approx((told_by_it == labels[FITTED:].numpy()).mean(), abs=0.01)


def test_scale_and_offset_of_latents_do_not_matter(clips):
    labels, noise, told = clips
    plain = told[:, :3] + 0.5 * noise
    moved = plain * torch.tensor([1e-3, 1.0, 1e3]) + torch.tensor([5.0, -3.0, 1e4])
    (first,), (second,) = accuracy([plain, moved], labels)
    assert first == pytest.approx(second, abs=0.01)


@pytest.mark.parametrize("constant", [0.0, 3.0, -1.1e20])
def test_a_constant_latent_adds_nothing(clips, constant):
    labels, noise, told = clips
    representation = told[:, :3] + 0.4 * noise
    padded = torch.cat([representation, torch.full((CLIPS, 2), constant)], dim=1)
    assert accuracy([padded], labels) == accuracy([representation], labels)


def test_a_latent_that_is_there_twice_adds_nothing(clips):
    labels, noise, told = clips
    representation = told[:, :3] + 0.4 * noise
    twice = torch.cat([representation, representation], dim=1)
    assert accuracy([twice], labels)[0] == pytest.approx(accuracy([representation], labels)[0], abs=0.01)


def test_nothing_but_constants_is_answered_with_the_most_frequent_class(clips):
    labels, _, _ = clips
    share = (labels[FITTED:] == labels[:FITTED].mode().values).float().mean()
    assert accuracy([torch.zeros(CLIPS, 2)], labels)[0][0] == pytest.approx(share)


def test_a_factor_of_a_single_class_is_always_told(clips):
    labels, noise, _ = clips
    assert accuracy([noise], torch.zeros_like(labels), labels)[0][0] == 1.0


def test_huge_latents_of_a_model_that_went_wrong_spoil_neither_it_nor_its_neighbour(clips):
    labels, noise, told = clips
    huge, good = noise * 1e30, told[:, :3] + 0.4 * noise
    assert accuracy([huge, good], labels) == accuracy([noise, good], labels)


def test_a_representation_is_probed_as_if_it_were_alone(clips):
    labels, noise, told = clips
    signs = (noise[:, 0] > 0).long()
    representations = [told[:, :3], noise, torch.zeros(CLIPS, 3), told[:, 1:4] + 0.4 * noise]
    together = accuracy(representations, labels, signs)
    assert together == [accuracy([one], labels, signs)[0] for one in representations]


def test_factors_are_probed_side_by_side_as_each_alone(clips):
    labels, noise, told = clips
    signs = (noise[:, 0] > 0).long()
    representation = told[:, :3] + 0.4 * noise
    together = accuracy([representation], labels, signs)[0]
    assert together == [accuracy([representation], labels)[0][0], accuracy([representation], signs)[0][0]]
