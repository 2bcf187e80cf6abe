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
    one_hot = torch.nn.functional.one_hot(labels, 5).float()
    return labels, noise, one_hot


def accuracy(representations: list[torch.Tensor], *labels: torch.Tensor) -> list[list[float]]:
    """Return the accuracy by representation and factor."""
    stacked, classes = torch.stack(representations), torch.stack(labels, dim=1)
    counts = [int(label.max()) + 1 for label in labels]
    return linear_probe_accuracy(
        stacked[:, :FITTED], classes[:FITTED], stacked[:, FITTED:], classes[FITTED:], counts
    ).tolist()


def test_perfect_representations_score_one_and_useless_ones_chance(clips):
    labels, noise, one_hot = clips
    useless = torch.cat([noise, noise[:, :2]], dim=1)
    (perfect,), (chance,) = accuracy([one_hot, useless], labels)
    assert perfect == 1.0
    assert chance == pytest.approx(0.2, abs=0.08)


def test_linear_probes_do_not_predict_nonlinear_classes(clips):
    _, noise, _ = clips
    labels = (noise[:, 0] * noise[:, 1] > 0).long()
    assert accuracy([noise], labels)[0][0] == pytest.approx(0.5, abs=0.08)


def test_accuracies_agree_with_ridge_and_nearly_with_plain_regression_of_scikit_learn(clips):
    labels, noise, one_hot = clips
    signs = (noise[:, 0] > 0.3).long()
    representation = one_hot[:, :3] + 0.4 * noise
    ours = accuracy([representation], labels, signs)[0]
    fit = representation[:FITTED].double()
    mean, deviation = fit.mean(dim=0), fit.std(dim=0)
    standard = ((representation.double() - mean) / deviation).numpy()
    for found, truth in zip(ours, (labels, signs), strict=True):
        ridge = RidgeClassifier(alpha=RIDGE * FITTED).fit(standard[:FITTED], truth[:FITTED])
        assert found == pytest.approx(ridge.score(standard[FITTED:], truth[FITTED:]), abs=1e-6)
    plain = LinearRegression().fit(standard[:FITTED], one_hot[:FITTED])
    predicted = plain.predict(standard[FITTED:]).argmax(axis=1)
    assert ours[0] == pytest.approx((predicted == labels[FITTED:].numpy()).mean(), abs=0.01)


def test_accuracy_ignores_scale_and_offset(clips):
    labels, noise, one_hot = clips
    plain = one_hot[:, :3] + 0.5 * noise
    moved = plain * torch.tensor([1e-3, 1.0, 1e3]) + torch.tensor([5.0, -3.0, 1e4])
    (first,), (second,) = accuracy([plain, moved], labels)
    assert first == pytest.approx(second, abs=0.01)


@pytest.mark.parametrize("constant", [0.0, 3.0, -1.1e20])
def test_constant_latents_change_nothing(clips, constant):
    labels, noise, one_hot = clips
    representation = one_hot[:, :3] + 0.4 * noise
    padded = torch.cat([representation, torch.full((CLIPS, 2), constant)], dim=1)
    assert accuracy([padded], labels) == accuracy([representation], labels)


def test_duplicated_latents_change_nothing(clips):
    labels, noise, one_hot = clips
    representation = one_hot[:, :3] + 0.4 * noise
    twice = torch.cat([representation, representation], dim=1)
    assert accuracy([twice], labels)[0] == pytest.approx(accuracy([representation], labels)[0], abs=0.01)


def test_constant_latents_alone_predict_the_most_frequent_class(clips):
    labels, _, _ = clips
    share = (labels[FITTED:] == labels[:FITTED].mode().values).float().mean()
    assert accuracy([torch.zeros(CLIPS, 2)], labels)[0][0] == pytest.approx(share)


def test_a_factor_with_a_single_class_scores_one(clips):
    labels, noise, _ = clips
    assert accuracy([noise], torch.zeros_like(labels), labels)[0][0] == 1.0


def test_huge_latents_of_a_diverged_model_do_not_change_neighbours(clips):
    labels, noise, one_hot = clips
    huge, good = noise * 1e30, one_hot[:, :3] + 0.4 * noise
    assert accuracy([huge, good], labels) == accuracy([noise, good], labels)


def test_probing_a_representation_does_not_depend_on_others(clips):
    labels, noise, one_hot = clips
    signs = (noise[:, 0] > 0).long()
    representations = [one_hot[:, :3], noise, torch.zeros(CLIPS, 3), one_hot[:, 1:4] + 0.4 * noise]
    together = accuracy(representations, labels, signs)
    assert together == [accuracy([one], labels, signs)[0] for one in representations]


def test_probing_a_factor_does_not_depend_on_others(clips):
    labels, noise, one_hot = clips
    signs = (noise[:, 0] > 0).long()
    representation = one_hot[:, :3] + 0.4 * noise
    together = accuracy([representation], labels, signs)[0]
    assert together == [accuracy([representation], labels)[0][0], accuracy([representation], signs)[0][0]]


def test_means_of_a_collapsed_latent_are_not_scaled_up_to_their_deviation(clips):
    labels, noise, one_hot = clips
    collapsed = 1e-4 * one_hot
    representations = torch.stack([collapsed, torch.cat([collapsed[:, :2], noise], dim=1), one_hot])
    deviation = torch.tensor([[1.0] * 5, [1.0] * 2 + [0.1] * 3, [0.1] * 5])
    arguments = representations[:, :800], labels[:800, None], representations[:, 800:], labels[800:, None], [5]
    standardised, scaled = (linear_probe_accuracy(*arguments, *rest).flatten() for rest in ((), (deviation,)))
    assert standardised[0] == 1.0
    assert standardised[1] > 0.5
    assert scaled[:2].tolist() == pytest.approx([0.2, 0.2], abs=0.08)
    assert scaled[2] == standardised[2]  # the means vary by more than their posteriors
