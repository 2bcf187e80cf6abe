import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_info

from marl.metrics.explicitness import explicitness
from tests.marl.metrics.cases import SINGLE_VALUED, TRAINABLE, from_zero, random_clips

DEFINED = tuple(case for case in TRAINABLE if case != "constant_latent_n500")


def of_part(arrays, part):
    """Return the explicitness of one model on the clips to fit on or on held-out clips."""
    latents, fitted = torch.from_numpy(arrays["mus"])[None], int(arrays["n_train"])
    classes, _ = from_zero(arrays["ys"])
    clips = slice(fitted) if part == "train" else slice(fitted, None)
    return explicitness(latents[:, :fitted], classes[:fitted], latents[:, clips], classes[clips])


def noisy_clips(seed, models=1):
    return random_clips(seed, 240, models, noise=2.0)


def explicit(latents, classes, fitted=120):
    """Return the explicitness of latents [model, clip, latent] by factor, and the mean."""
    return explicitness(latents[:, :fitted], classes[:fitted], latents[:, fitted:], classes[fitted:])


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("case", DEFINED)
def test_explicitness_agrees_with_disentanglement_lib(reference, case, part):
    arrays = reference("disentanglement.npz", case)
    per_factor, mean = of_part(arrays, part)
    np.testing.assert_allclose(per_factor[0], arrays[f"explicitness_{part}_per_factor"], atol=1e-3)
    np.testing.assert_allclose(per_factor[0], arrays[f"explicitness_{part}_per_factor_converged"], atol=1e-4)
    assert mean.item() == pytest.approx(float(arrays[f"explicitness_{part}"]), abs=1e-3)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("case", ["constant_latent_n500", *SINGLE_VALUED])
def test_constant_latents_and_factors_are_ignored_where_disentanglement_lib_raises(reference, case, part):
    # Collapsed latents are common and must not leave a model without a score.
    arrays, without = (reference("disentanglement.npz", name) for name in (case, f"{case}__degenerate_columns_removed"))
    assert np.isnan(arrays[f"explicitness_{part}"])
    per_factor, mean = of_part(arrays, part)
    varied = np.array([len(np.unique(column)) > 1 for column in arrays["ys"].T])
    np.testing.assert_allclose(per_factor[0][varied], without[f"explicitness_{part}_per_factor_converged"], atol=1e-4)
    assert (per_factor[0][~varied] == 0.5).all()
    assert mean.item() == pytest.approx(float(without[f"explicitness_{part}"]), abs=1e-3)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), ties=st.booleans())
def test_explicitness_agrees_with_the_roc_auc_of_scikit_learn(seed, ties):
    latents, classes = noisy_clips(seed)
    latents = latents.round() if ties else latents
    found, mean = explicit(latents, classes)
    fit, held_out = latents[0, :120].numpy(), latents[0, 120:].numpy()
    standard = [(part - fit.mean(axis=0)) / fit.std(axis=0) for part in (fit, held_out)]
    for factor in range(2):
        regression = LogisticRegression(tol=1e-8, max_iter=1000).fit(standard[0], classes[:120, factor])
        probability = regression.predict_proba(standard[1])
        each = [roc_auc_score(classes[120:, factor] == name, probability[:, name]) for name in regression.classes_]
        assert found[0, factor].item() == pytest.approx(np.mean(each), abs=1e-3)
    assert mean.item() == pytest.approx(found.mean().item())


def test_perfect_latents_score_one_and_useless_ones_a_half():
    _, classes = noisy_clips(0)
    one_hot = torch.nn.functional.one_hot(classes[:, 1], 5).double()
    one_hot = torch.cat([one_hot, classes[:, :1]], dim=1)
    perfect, mean = explicit(one_hot[None], classes)
    assert perfect.tolist() == [[1.0, 1.0]]
    assert mean.tolist() == [1.0]
    generator = torch.Generator().manual_seed(0)
    (useless,) = explicit(torch.randn(1, 240, 2, generator=generator), classes)[0]
    assert useless.tolist() == pytest.approx([0.5, 0.5], abs=0.1)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000))
def test_explicitness_ignores_order_sign_scale_offset_and_names_of_classes(seed):
    latents, classes = noisy_clips(seed)
    found, mean = explicit(latents, classes)
    assert ((found >= 0) & (found <= 1)).all()
    generator = torch.Generator().manual_seed(seed)
    moved = latents * torch.tensor([1e-4, -1.0, 1e3, 5.0]) + torch.tensor([0.0, 3.0, -1e4, 7.0])
    torch.testing.assert_close(explicit(moved, classes)[0], found, atol=1e-3, rtol=0)
    torch.testing.assert_close(explicit(latents.flip(2), classes)[0], found, atol=1e-3, rtol=0)
    torch.testing.assert_close(explicit(latents, classes.flip(1))[0], found.flip(1), atol=1e-9, rtol=0)
    names = torch.stack([classes[:, 0], torch.randperm(5, generator=generator)[classes[:, 1]]], dim=1)
    torch.testing.assert_close(explicit(latents, names)[0], found, atol=1e-3, rtol=0)
    assert explicit(latents, classes.flip(1))[1].item() == pytest.approx(mean.item())


def test_batched_models_equal_each_alone():
    latents, classes = noisy_clips(0, models=3)
    together, means = explicit(latents, classes)
    for model in range(3):
        alone, mean = explicit(latents[model : model + 1], classes)
        assert torch.equal(together[model], alone[0])
        assert torch.equal(means[model], mean[0])


@pytest.mark.parametrize("constant", [0.0, 3.0, -1.1e20])
def test_constant_latents_change_nothing(constant):
    latents, classes = noisy_clips(0)
    padded = torch.cat([latents, torch.full((1, 240, 3), constant)], dim=2)
    torch.testing.assert_close(explicit(padded, classes)[0], explicit(latents, classes)[0], atol=1e-6, rtol=0)


def test_differences_within_rounding_are_ignored():
    _, classes = noisy_clips(0)
    latents = classes[None].double()
    assert explicit(100 + latents, classes)[0].tolist() != [[0.5, 0.5]]
    assert explicit(100 + 1e-5 * latents, classes)[0].tolist() == [[0.5, 0.5]]


def test_constant_latents_and_no_latents_score_a_half():
    _, classes = noisy_clips(0)
    for latents in (torch.full((1, 240, 2), 0.1), torch.zeros(1, 240, 0)):
        found, mean = explicit(latents, classes)
        assert found.tolist() == [[0.5, 0.5]]
        assert mean.tolist() == [0.5]


def test_a_class_without_held_out_clips_is_ignored():
    latents, classes = noisy_clips(0)
    five = classes[:, 1:]
    there = torch.cat([torch.arange(120), 120 + (five[120:, 0] < 4).nonzero()[:, 0]])
    found, _ = explicit(latents[:, there], five[there])
    fit, held_out = latents[0, :120].numpy(), latents[0, there[120:]].numpy()
    standard = [(part - fit.mean(axis=0)) / fit.std(axis=0) for part in (fit, held_out)]
    regression = LogisticRegression(tol=1e-8, max_iter=1000).fit(standard[0], five[:120, 0])
    probability, truth = regression.predict_proba(standard[1]), five[there[120:], 0]
    assert found.item() == pytest.approx(
        np.mean([roc_auc_score(truth == name, probability[:, name]) for name in range(4)]), abs=1e-3
    )


def test_a_class_without_fitting_clips_scores_a_half():
    classes = torch.tensor([0, 1] * 60 + [0, 1, 2] * 40)[:, None]
    latents = torch.nn.functional.one_hot(classes[:, 0], 3).double()[None]
    # The other two classes are predicted perfectly.
    assert explicit(latents, classes)[0].item() == pytest.approx((1.0 + 1.0 + 0.5) / 3)
    assert explicit(torch.zeros_like(latents), classes)[0].item() == 0.5


def test_without_varied_factors_the_mean_is_a_half():
    latents, classes = noisy_clips(0)
    found, mean = explicit(latents, torch.zeros_like(classes))
    assert found.tolist() == [[0.5, 0.5]]
    assert mean.tolist() == [0.5]
    classes[:, 0] = 1
    found, mean = explicit(latents, classes)
    assert found[0, 0].item() == 0.5
    assert mean.item() == pytest.approx(found[0, 1].item())


def test_means_of_a_collapsed_latent_are_not_scaled_up_to_their_deviation():
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(3, (600, 1), generator=generator)
    informative, noise = classes.double() - 1, torch.randn(600, 2, generator=generator, dtype=torch.float64)
    latents = torch.stack([torch.cat([scale * informative, noise], dim=1) for scale in (1e-4, 1.0)])
    arguments = latents[:, :300], classes[:300], latents[:, 300:], classes[300:]
    _, standardised = explicitness(*arguments)
    _, scaled = explicitness(*arguments, torch.tensor([[1.0, 0.1, 0.1], [0.1, 0.1, 0.1]]))
    assert standardised.min() > 0.7
    assert scaled[0].item() == pytest.approx(0.5, abs=0.08)
    assert scaled[1] == standardised[1]


def test_parallel_regressions_multiply_in_one_thread_each(monkeypatch):
    """Otherwise their threads wait for one another, and a model takes 4 s instead of 0.1 s on two cores."""
    threads, fit = [], LogisticRegression.fit

    def observed(*arguments):
        threads.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return fit(*arguments)

    monkeypatch.setattr(LogisticRegression, "fit", observed)
    explicit(*noisy_clips(0))
    assert set(threads) == {1}
