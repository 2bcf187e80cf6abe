import pytest
import torch

from marl.metrics.probes import probe_accuracy


@pytest.fixture(scope="module")
def clips():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (1200,), generator=generator)
    noise = torch.randn(1200, 3, generator=generator)
    one_hot = torch.nn.functional.one_hot(labels, 5).float()
    return labels, noise, one_hot


def accuracy(representations: list[torch.Tensor], *labels: torch.Tensor) -> list[list[float]]:
    """Return the accuracy by representation and factor."""
    stacked, classes = torch.stack(representations), torch.stack(labels, dim=1)
    counts = [int(label.max()) + 1 for label in labels]
    return probe_accuracy(stacked[:, :800], classes[:800], stacked[:, 800:], classes[800:], counts).tolist()


def test_perfect_representations_score_one_and_useless_ones_chance(clips):
    labels, noise, one_hot = clips
    useless = torch.cat([noise, noise[:, :2]], dim=1)
    (perfect,), (chance,) = accuracy([one_hot, useless], labels)
    assert perfect == 1.0
    assert chance == pytest.approx(0.2, abs=0.08)


def test_probes_predict_nonlinear_classes(clips):
    _, noise, _ = clips
    labels = (noise[:, 0] * noise[:, 1] > 0).long()
    assert accuracy([noise], labels)[0][0] > 0.93


def test_accuracy_ignores_scale_and_offset(clips):
    labels, noise, one_hot = clips
    plain = one_hot[:, :3] + 0.5 * noise
    moved = plain * torch.tensor([1e-3, 1.0, 1e3]) + torch.tensor([5.0, -3.0, 1e4])
    (first,), (second,) = accuracy([plain, moved], labels)
    assert first == pytest.approx(second, abs=0.02)


def test_constant_latents_change_nothing(clips):
    labels, noise, one_hot = clips
    representation = torch.cat([one_hot[:, :2], noise[:, :1]], dim=1)
    with_constant = torch.cat([representation, torch.full((1200, 2), 3.0)], dim=1)
    without = torch.cat([representation, torch.zeros(1200, 2)], dim=1)
    first, second = accuracy([with_constant, without], labels)
    assert first == second


def test_constant_latents_alone_score_chance(clips):
    labels, _, _ = clips
    assert accuracy([torch.zeros(1200, 2)], labels)[0][0] == pytest.approx(0.2, abs=0.08)


def test_probing_a_representation_does_not_depend_on_others(clips):
    labels, noise, one_hot = clips
    both = accuracy([one_hot[:, :3], noise], labels)
    assert both[0] == accuracy([one_hot[:, :3], one_hot[:, 2:]], labels)[0]


def test_probing_a_factor_does_not_depend_on_others(clips):
    labels, noise, one_hot = clips
    signs = (noise[:, 0] > 0).long()
    representation = one_hot[:, :3] + 0.4 * noise
    together = accuracy([representation], labels, signs)[0]
    alone = [accuracy([representation], labels)[0][0], accuracy([representation], signs)[0][0]]
    assert together == pytest.approx(alone, abs=0.01)


def test_accuracies_agree_with_the_perceptron_of_scikit_learn(clips):
    from sklearn.neural_network import MLPClassifier

    labels, noise, one_hot = clips
    representation = one_hot[:, :3] + 0.4 * noise
    ours = accuracy([representation], labels)[0][0]
    theirs = MLPClassifier((64,), max_iter=300, random_state=0).fit(representation[:800], labels[:800])
    assert ours == pytest.approx(theirs.score(representation[800:], labels[800:]), abs=0.04)


def test_means_of_a_collapsed_latent_are_not_scaled_up_to_their_deviation(clips):
    labels, noise, one_hot = clips
    collapsed = 1e-4 * one_hot
    representations = torch.stack([collapsed, torch.cat([collapsed[:, :2], noise], dim=1), one_hot])
    deviation = torch.tensor([[1.0] * 5, [1.0] * 2 + [0.1] * 3, [0.1] * 5])
    arguments = representations[:, :800], labels[:800, None], representations[:, 800:], labels[800:, None], [5]
    standardised, scaled = (probe_accuracy(*arguments, *rest).flatten() for rest in ((), (deviation,)))
    assert standardised[0] == 1.0
    assert standardised[1] > 0.5
    assert scaled[:2].tolist() == pytest.approx([0.2, 0.2], abs=0.08)
    assert scaled[2] == standardised[2]  # the means vary by more than their posteriors
