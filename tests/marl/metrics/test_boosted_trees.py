import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.tree import DecisionTreeRegressor

from marl.metrics import boosted_trees
from marl.metrics.boosted_trees import DEPTH, add_tree, boosted_tree_importances, sort_latents
from marl.metrics.dci import completeness, disentanglement
from tests.marl.metrics.cases import TRAINABLE, halves

SLOW = ("entangled_n5000", "partial_n5000")
FITTED = tuple(pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in TRAINABLE)


def of_scikit_learn(fit, fit_class, held_out, held_out_class):
    trees = GradientBoostingClassifier(random_state=0).fit(fit, fit_class)
    return trees.feature_importances_, trees.score(held_out, held_out_class)


def noisy_clips(clips=600, classes=3, latents=4, seed=0):
    """Return latents of which some predict the class partly."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=clips)
    signal = np.linspace(1, 0, latents) * labels[:, None]
    return (signal + random.normal(size=(clips, latents))).astype(np.float32), labels


@pytest.mark.parametrize("case", FITTED)
def test_importances_scores_and_accuracy_agree_with_disentanglement_lib(reference, case):
    arrays = reference("disentanglement.npz", case)
    latents, classes, fitted = arrays["mus"], arrays["ys"], int(arrays["n_train"])
    columns, accuracies = zip(
        *(
            boosted_tree_importances(latents[:fitted], column[:fitted], latents[fitted:], column[fitted:])
            for column in classes.T
        ),
        strict=True,
    )
    importance = torch.from_numpy(np.stack(columns, axis=1))
    found = {
        "dci_importance": (importance.numpy(), 0.02),
        "dci_disentanglement": (disentanglement(importance[None]).item(), 0.015),
        "dci_completeness": (completeness(importance[None]).item(), 0.015),
        "dci_informativeness_test": (np.mean(accuracies), 0.02),
    }
    # Without ties all seeds of scikit-learn agree.
    is_drawn = np.ptp(arrays["dci_importance"], axis=0).max() > 1e-12
    for name, (value, tolerance) in found.items():
        spread = np.ptp(arrays[name], axis=0).max()
        allowed = max(tolerance, 2 * spread) if is_drawn else 1e-9
        np.testing.assert_allclose(arrays[name] - value, 0, atol=allowed, err_msg=name)


@pytest.mark.parametrize("seed", range(6))
def test_trees_agree_with_scikit_learn_in_splits_gains_and_thresholds(seed):
    random = np.random.default_rng(seed)
    latents = random.normal(size=(700, 5)) * 10.0 ** random.integers(-7, 3, size=5)
    latents[:, 2] = latents[:, 2].round(1)  # many equal values
    latents[:, 3] = np.where(latents[:, 3] > 0, latents[:, 3], 0.0)
    residual = (0.2 * random.normal(size=700) + 0.1 * (latents[:, 4] > 0) + random.choice([-0.5, 0.5])).clip(-0.9, 0.9)
    fit, held_out = latents[:400], np.ascontiguousarray(latents[400:].T, dtype=np.float32)
    importance, output, held_out_output = np.zeros(5), np.zeros(400), np.zeros(300)
    precedence = np.arange(5)
    add_tree(sort_latents(fit), residual[:400], 1.0, precedence, output, held_out, held_out_output, importance)

    # scikit-learn draws among splits of equal gain.
    trees = [DecisionTreeRegressor(max_depth=3, random_state=draw).fit(fit, residual[:400]) for draw in range(20)]
    gains = [400 * tree.tree_.compute_feature_importances(normalize=False) for tree in trees]
    (tree, gain) = min(zip(trees, gains, strict=True), key=lambda pair: np.abs(pair[1] - importance).max())
    np.testing.assert_allclose(importance, gain, atol=1e-10)
    leaf, held_out_leaf = tree.apply(fit), tree.apply(latents[400:])
    for node in np.unique(leaf):
        inside = residual[:400][leaf == node]
        step = inside.sum() / (np.abs(inside) * (1 - np.abs(inside))).sum()
        np.testing.assert_allclose(output[leaf == node], step, atol=1e-10)
        np.testing.assert_allclose(held_out_output[held_out_leaf == node], step, atol=1e-10)


def test_stages_depth_and_rate_equal_the_defaults_of_scikit_learn():
    trees = GradientBoostingClassifier()
    ours = (boosted_trees._STAGES, DEPTH, boosted_trees._RATE)
    assert ours == (trees.n_estimators, trees.max_depth, trees.learning_rate)


@pytest.mark.parametrize("classes", [2, 5])
def test_importances_and_accuracy_agree_with_scikit_learn(classes):
    data = halves(*noisy_clips(1200, classes))
    importance, accuracy = boosted_tree_importances(*data)
    expected_importance, expected_accuracy = of_scikit_learn(*data)
    np.testing.assert_allclose(importance, expected_importance, atol=0.01)
    assert accuracy == pytest.approx(expected_accuracy, abs=0.02)


def test_repeated_values_and_arbitrary_labels_agree_with_scikit_learn():
    latents, labels = noisy_clips(1200, 4)
    data = halves(latents.round(), np.array([7, -3, 100, 0])[labels])
    importance, accuracy = boosted_tree_importances(*data)
    expected_importance, expected_accuracy = of_scikit_learn(*data)
    np.testing.assert_allclose(importance, expected_importance, atol=0.01)
    assert accuracy == pytest.approx(expected_accuracy, abs=0.02)


def test_a_perfect_latent_has_all_the_importance_and_noise_scores_chance():
    labels = np.random.default_rng(0).integers(5, size=800)
    noise = np.random.default_rng(1).normal(size=(800, 4))
    importance, accuracy = boosted_tree_importances(*halves(np.column_stack([noise[:, :2], labels]), labels))
    assert importance == pytest.approx([0, 0, 1], abs=1e-6)
    assert accuracy == 1.0
    importance, accuracy = boosted_tree_importances(*halves(noise, labels))
    assert importance == pytest.approx(np.full(4, 0.25), abs=0.06)
    assert accuracy == pytest.approx(0.2, abs=0.06)


def test_redundant_latents_divide_the_importance():
    labels = np.random.default_rng(0).integers(6, size=400)
    latent = labels + 0.1 * np.random.default_rng(1).normal(size=400)
    importance, _ = boosted_tree_importances(*halves(np.column_stack([latent, latent, 3 - 2 * latent]), labels))
    assert (importance > 0.1).all()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(2, 5), clips=st.integers(2, 80))
def test_importances_sum_to_one_and_accuracy_is_a_fraction(seed, classes, clips):
    latents, labels = noisy_clips(2 * clips, classes, seed=seed)
    importance, accuracy = boosted_tree_importances(*halves(latents, labels))
    assert (importance >= 0).all()
    assert importance.sum() == pytest.approx(float(importance.any()))
    assert 0 <= accuracy <= 1


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_monotonic_maps_change_no_tree(seed):
    latents, labels = noisy_clips(seed=seed)
    latents = latents.round(1)  # held-out values equal fitted values or are far from them
    mapped = np.column_stack([np.exp(latents[:, 0]), latents[:, 1] ** 3, 100 * latents[:, 2] + 7, latents[:, 3]])
    found, expected = (
        boosted_tree_importances(*halves(mapped, labels)),
        boosted_tree_importances(*halves(latents, labels)),
    )
    assert found[0].tolist() == expected[0].tolist()
    assert found[1] == pytest.approx(expected[1], abs=0.02)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_permuted_latents_permute_importances_and_names_of_classes_do_not_matter(seed):
    # Other tie breaks change predictions: of 300 clips up to 8, of 1,500 a far smaller share.
    latents, labels = noisy_clips(clips=3000, seed=seed)
    expected, expected_accuracy = boosted_tree_importances(*halves(latents, labels))
    order = [2, 0, 3, 1]
    found, accuracy = boosted_tree_importances(*halves(latents[:, order], labels))
    np.testing.assert_allclose(found, expected[order], atol=0.02)  # except ties
    assert accuracy == pytest.approx(expected_accuracy, abs=0.02)
    found, accuracy = boosted_tree_importances(*halves(latents, 5 * labels - 2))
    assert (found.tolist(), accuracy) == (expected.tolist(), expected_accuracy)
    found, accuracy = boosted_tree_importances(*halves(latents, np.array([1, 2, 0])[labels]))
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert accuracy == pytest.approx(expected_accuracy, abs=0.02)


def test_trees_are_deterministic():
    data = halves(*noisy_clips())
    first, second = boosted_tree_importances(*data), boosted_tree_importances(*data)
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1] == second[1]


def test_constant_latents_have_no_importance_and_change_no_other():
    latents, labels = noisy_clips()
    padded = np.column_stack([latents, np.full(len(latents), 3.3), latents[:, 0] * 1e-9])
    found, accuracy = boosted_tree_importances(*halves(padded, labels))
    expected, expected_accuracy = boosted_tree_importances(*halves(latents, labels))
    np.testing.assert_allclose(found, [*expected, 0, 0], atol=0.02)
    assert found[4:].tolist() == [0, 0]
    assert accuracy == pytest.approx(expected_accuracy, abs=0.02)


@pytest.mark.parametrize("latents", [0, 1, 3])
def test_constant_latents_alone_predict_the_most_frequent_class(latents):
    labels = np.array([4, 2, 2, 2, 9, 4] * 10)
    importance, accuracy = boosted_tree_importances(*halves(np.ones((60, latents)), labels))
    assert importance.tolist() == [0] * latents
    assert accuracy == pytest.approx(0.5)


def test_a_single_fitting_class_has_no_importance_where_scikit_learn_raises():
    latents, _ = noisy_clips()
    labels = np.full(len(latents), 5)
    with pytest.raises(ValueError, match="1 class"):
        of_scikit_learn(*halves(latents, labels))
    labels[-30:] = 6
    importance, accuracy = boosted_tree_importances(*halves(latents, labels))
    assert importance.tolist() == [0] * 4
    assert accuracy == pytest.approx(0.9)


def test_a_class_without_fitting_clips_is_never_predicted():
    latents, labels = noisy_clips()
    fit, fit_class, held_out, held_out_class = halves(latents, labels)
    _, accuracy = boosted_tree_importances(fit, fit_class, held_out, held_out_class)
    _, less = boosted_tree_importances(
        fit, fit_class, np.concatenate([held_out] * 2), np.append(held_out_class, [9] * 300)
    )
    assert less == pytest.approx(accuracy / 2)


def test_one_clip_per_class_is_enough():
    importance, accuracy = boosted_tree_importances(np.eye(3), np.arange(3), np.eye(3), np.arange(3))
    assert importance.sum() == pytest.approx(1)
    assert accuracy == 1.0
    assert boosted_tree_importances(np.ones((1, 2)), np.zeros(1, int), np.ones((1, 2)), np.zeros(1, int))[1] == 1.0


def test_huge_latents_give_finite_importances():
    latents, labels = noisy_clips()
    importance, _ = boosted_tree_importances(*halves(latents * np.float32(1e30), labels))
    assert np.isfinite(importance).all()
