import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from marl.metrics import logistic
from marl.metrics.logistic import multinomial_logistic


def clusters(seed, clips=200, classes=4, features=3, noise=1.0):
    """Return points around a place for each class, and the classes."""
    generator = torch.Generator().manual_seed(seed)
    class_N = torch.randint(classes, (clips,), generator=generator)
    places = torch.randn(classes, features, generator=generator, dtype=torch.float64)
    return places[class_N] + noise * torch.randn(clips, features, generator=generator, dtype=torch.float64), class_N


def shares(features, class_N, classes):
    """Return class probabilities [clip, class] of one regression."""
    weight, intercept = multinomial_logistic(features[None], class_N, classes)
    return (weight @ features.mT + intercept).softmax(dim=1)[0].mT


def scikit_learns(features, class_N):
    return LogisticRegression(tol=1e-9, max_iter=10_000).fit(features.numpy(), class_N.numpy())


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(2, 6),
    features=st.integers(1, 5),
    noise=st.sampled_from([0.05, 1, 5]),
)
def test_probabilities_agree_with_scikit_learn(seed, classes, features, noise):
    feature_ND, class_N = clusters(seed, 200, classes, features, noise)
    found = shares(feature_ND, class_N, classes)
    np.testing.assert_allclose(found, scikit_learns(feature_ND, class_N).predict_proba(feature_ND.numpy()), atol=1e-3)


def test_weights_and_intercepts_agree_with_scikit_learn(monkeypatch):
    monkeypatch.setattr(logistic, "_TOLERANCE", 1e-9)
    feature_ND, class_N = clusters(0, features=3)
    (weight_JD,), (intercept_J1,) = multinomial_logistic(feature_ND[None], class_N, 4)
    expected = scikit_learns(feature_ND, class_N)
    np.testing.assert_allclose(weight_JD, expected.coef_, atol=1e-5)
    np.testing.assert_allclose(intercept_J1[:, 0], expected.intercept_ - expected.intercept_.mean(), atol=1e-5)


def test_for_two_classes_the_difference_of_weights_agrees_with_scikit_learn(monkeypatch):
    monkeypatch.setattr(logistic, "_TOLERANCE", 1e-9)
    feature_ND, class_N = clusters(0, classes=2)
    (weight_JD,), (intercept_J1,) = multinomial_logistic(feature_ND[None], class_N, 2)
    expected = scikit_learns(feature_ND, class_N)
    np.testing.assert_allclose(weight_JD[1] - weight_JD[0], expected.coef_[0], atol=1e-5)
    np.testing.assert_allclose(intercept_J1[1] - intercept_J1[0], expected.intercept_, atol=1e-5)


@pytest.mark.parametrize("make", ["fine order", "heavy tails", "told perfectly"])
def test_hard_problems_are_solved(make):
    generator = torch.Generator().manual_seed(0)
    if make == "fine order":
        class_N = torch.randint(30, (900,), generator=generator)
        place = class_N / 30
        feature_ND = torch.stack([place, place**2, torch.sin(10 * place)], dim=1)
        feature_ND = feature_ND + 0.003 * torch.randn(900, 3, generator=generator)
    elif make == "heavy tails":
        feature_ND = (1.5 * torch.randn(900, 6, generator=generator)).exp()
        class_N = (feature_ND[:, 0] + feature_ND[:, 1] / 2).log().mul(2).long().clamp(0, 7)
    else:
        feature_ND, class_N = clusters(0, 900, 5, 8, 1e-3)
    feature_ND = ((feature_ND - feature_ND.mean(dim=0)) / feature_ND.std(dim=0)).double()
    expected = scikit_learns(feature_ND, class_N).predict_proba(feature_ND.numpy())
    np.testing.assert_allclose(shares(feature_ND, class_N, expected.shape[1]), expected, atol=5e-3)


@pytest.mark.parametrize("numbers", [1, 1 << 24])
def test_batched_representations_equal_each_alone(monkeypatch, numbers):
    # They converge in different numbers of steps.
    class_N = clusters(0)[1]
    feature_RND = torch.stack([clusters(0, noise=noise)[0] for noise in (0.01, 1.0, 10.0)])
    alone = [multinomial_logistic(feature_RND[index : index + 1], class_N, 4) for index in range(3)]
    monkeypatch.setattr(logistic, "_NUMBERS", numbers)
    weight, intercept = multinomial_logistic(feature_RND, class_N, 4)
    assert torch.equal(weight, torch.cat([weight for weight, _ in alone]))
    assert torch.equal(intercept, torch.cat([intercept for _, intercept in alone]))


def test_a_constant_representation_keeps_zero_weights_in_a_batch():
    class_N = torch.arange(4).repeat(50)
    feature_RND = torch.zeros(2, 200, 4, dtype=torch.float64)
    feature_RND[1] = torch.nn.functional.one_hot(class_N, 4)
    weight, intercept = multinomial_logistic(feature_RND, class_N, 4)
    assert (weight[0] == 0).all()
    assert (intercept[0] == 0).all()
    assert (weight[1].diagonal() > 1).all()


def test_a_zero_feature_has_no_weight_and_changes_no_other():
    feature_ND, class_N = clusters(0)
    padded = torch.cat([feature_ND, torch.zeros(200, 2)], dim=1)
    (weight_JD,), (intercept_J1,) = multinomial_logistic(padded[None], class_N, 4)
    (without_JD,), (intercept_without_J1,) = multinomial_logistic(feature_ND[None], class_N, 4)
    assert (weight_JD[:, 3:] == 0).all()
    torch.testing.assert_close(weight_JD[:, :3], without_JD, atol=1e-9, rtol=0)
    torch.testing.assert_close(intercept_J1, intercept_without_J1, atol=1e-9, rtol=0)


def test_without_features_probabilities_are_class_frequencies():
    class_N = torch.tensor([0, 0, 0, 1, 2, 2])
    for feature_ND in (torch.zeros(6, 2), torch.zeros(6, 0)):
        torch.testing.assert_close(
            shares(feature_ND.double(), class_N, 3)[0],
            torch.tensor([3, 1, 2]) / 6.0,
            atol=1e-4,
            rtol=0,
            check_dtype=False,
        )


def test_a_class_without_clips_is_never_predicted_and_changes_no_other():
    feature_ND, class_N = clusters(0)
    found = shares(feature_ND, class_N + (class_N > 1).long(), 6)
    assert (found[:, [2, 5]] == 0).all()
    torch.testing.assert_close(found[:, [0, 1, 3, 4]], shares(feature_ND, class_N, 4))


def test_a_single_class_is_always_predicted():
    feature_ND, class_N = clusters(0)
    assert (shares(feature_ND, torch.ones_like(class_N), 3) == torch.tensor([0.0, 1.0, 0.0])).all()
