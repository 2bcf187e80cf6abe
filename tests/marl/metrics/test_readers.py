"""Known answers of readers, on codes that are made up for the classes of one factor."""

import inspect
import math
from dataclasses import replace

import pytest
import torch

from marl.metrics import usable_information
from marl.metrics.readers import (
    READERS,
    balanced_accuracy,
    class_prior,
    explained_variance,
    information_share,
    information_standard_error,
)
from marl.metrics.readers.discriminant import QuadraticDiscriminants
from marl.metrics.readers.whitening import Whitening

FIT_CLIPS, EVAL_CLIPS = 6_000, 4_000


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


def information(codes, classes, counts=None, reader="strong", eval_clips=EVAL_CLIPS):
    """Return the information [representation][factor]; codes are padded with zeros to the widest."""
    width = max(code.shape[1] for code in codes)
    stacked = torch.stack(
        [torch.nn.functional.pad(code.to(torch.float32), (0, width - code.shape[1])) for code in codes]
    )
    classes = classes if classes.ndim == 2 else classes[:, None]
    counts = counts or [int(classes.max()) + 1] * classes.shape[1]
    fit = len(classes) - eval_clips
    return usable_information(stacked[:, :fit], classes[:fit], stacked[:, fit:], classes[fit:], counts, reader=reader)


def rotated(code, draw):
    """Return a code with standardised latents, rotated at random."""
    standard = (code - code.mean(dim=0)) / code.std(dim=0)
    return standard @ torch.linalg.qr(torch.randn(code.shape[1], code.shape[1], generator=draw, dtype=code.dtype)).Q


def beside_noise(code, latents, draw):
    """Return a code with further latents of noise, all of them rotated."""
    noise = torch.randn(len(code), latents, generator=draw, dtype=torch.float64)
    return rotated(torch.cat([code.to(torch.float64), noise], dim=1), draw)


def draw_classes(classes, draw, clips=FIT_CLIPS + EVAL_CLIPS):
    return torch.randint(classes, (clips,), generator=draw)


@pytest.mark.parametrize(
    "classes", [20, pytest.param(4, marks=pytest.mark.slow), pytest.param(40, marks=pytest.mark.slow)]
)
def test_a_perfect_code_has_all_information_beside_noise(classes, draw):
    class_N = draw_classes(classes, draw, 12_000 + EVAL_CLIPS)
    ordered, one_hot = class_N[:, None], torch.nn.functional.one_hot(class_N, classes)
    means = torch.randn(classes, 3, generator=draw)[class_N]
    codes = [ordered, one_hot, *(beside_noise(ordered, latents, draw) for latents in (3, 15, 31))]
    codes += [beside_noise(code, 31, draw) for code in (one_hot, means)]
    assert information(codes, class_N).amin() >= 0.97


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("clips", [1_000, FIT_CLIPS])
def test_a_useless_code_has_no_information(reader, clips, draw):
    class_NC = torch.stack([draw_classes(classes, draw, clips + EVAL_CLIPS) for classes in (4, 20, 40)], dim=1)
    codes = [torch.randn(len(class_NC), latents, generator=draw) for latents in (1, 16, 31)]
    codes.append(torch.zeros(len(class_NC), 1))
    assert information(codes, class_NC, [4, 20, 40], reader).abs().amax() <= 0.01


@pytest.mark.parametrize(("classes", "latents", "scale"), [(4, 2, 1.0), (20, 4, 1.0), (40, 8, 2.0)])
@pytest.mark.parametrize("reader", ["strong", "linear"])
def test_information_of_a_noisy_channel_is_its_capacity(classes, latents, scale, reader, draw):
    class_N = draw_classes(classes, draw)
    mean_YD = scale * torch.randn(classes, latents, generator=draw, dtype=torch.float64)
    code = mean_YD[class_N] + torch.randn(len(class_N), latents, generator=draw, dtype=torch.float64)
    log_NY = (-torch.cdist(code, mean_YD).square() / 2).log_softmax(dim=-1)[-EVAL_CLIPS:]
    capacity = 1 + float(log_NY.gather(1, class_N[-EVAL_CLIPS:, None]).mean()) / math.log(classes)
    codes = [beside_noise(code, noise, draw) for noise in (0, 15)]
    assert information(codes, class_N, reader=reader).flatten().tolist() == pytest.approx([capacity] * 2, rel=0.05)


def test_exchanged_subspaces_differ_by_minus_one(draw):
    class_NC = torch.stack([draw_classes(4, draw), draw_classes(20, draw)], dim=1)
    subspaces = [beside_noise(class_NC[:, factor : factor + 1], 3, draw) for factor in (0, 1)]
    (first, second), (other_first, other_second) = information(subspaces, class_NC, [4, 20]).tolist()
    assert ((other_first - first) + (second - other_second)) / 2 == pytest.approx(-1, abs=0.03)


@pytest.mark.parametrize("noise", [0, 3, 14])
def test_the_strong_reader_finds_nonlinear_codes(noise, draw):
    clips = 12_000 + EVAL_CLIPS
    angle, radius = torch.rand(2, clips, generator=draw, dtype=torch.float64)
    signs = torch.randn(clips, 2, generator=draw, dtype=torch.float64)
    digits = torch.randint(4, (clips, 2), generator=draw)
    ring_N = (10 * radius).long()
    circle = torch.stack([(2 * math.pi * angle).cos(), (2 * math.pi * angle).sin()], dim=1)
    codes = [circle, circle * (1 + ring_N[:, None]), signs, digits + 0.05 * signs]
    class_NC = torch.stack([(20 * angle).long(), ring_N, (signs.prod(dim=1) > 0).long(), digits.sum(dim=1) % 4], dim=1)
    found = information([beside_noise(code, noise, draw) for code in codes], class_NC, [20, 10, 2, 4]).diagonal()
    assert found.amin() >= 0.9


@pytest.mark.parametrize("reader", READERS)
def test_information_does_not_depend_on_rotation_and_scale(reader, draw):
    class_N = draw_classes(10, draw)
    code = torch.randn(10, 4, generator=draw, dtype=torch.float64)[class_N]
    code = code + 0.7 * torch.randn(len(code), 4, generator=draw, dtype=torch.float64)
    scaled = code * torch.tensor([1e-3, 1.0, 1e3, 1e-6]) + torch.tensor([0.0, 5.0, -3.0, 0.0])
    plain, *others = information([code, scaled, rotated(code, draw), -code], class_N, reader=reader)[:, 0].tolist()
    assert others == pytest.approx([plain] * 3, abs=0.01)


def test_seeds_of_the_strong_reader_hardly_matter(draw):
    class_N = draw_classes(10, draw)
    code = torch.tanh(torch.randn(10, 4, generator=draw)[class_N] + 0.7 * torch.randn(len(class_N), 4, generator=draw))
    prior_Y = class_prior(class_N[:FIT_CLIPS], 10)
    found = []
    for seed in range(3):
        fitted = replace(READERS["strong"], seed=seed).fit(code[None, :FIT_CLIPS], class_N[:FIT_CLIPS, None], [10])
        (log_probability,) = fitted.log_probabilities(code[None, FIT_CLIPS:])
        found.append(float(information_share(log_probability, class_N[FIT_CLIPS:], prior_Y)))
    assert torch.tensor(found).std() <= 0.005


@pytest.fixture(scope="module")
def small():
    """Return noisy codes of two factors, and their classes."""
    generator = torch.Generator().manual_seed(1)
    class_NC = torch.stack([draw_classes(3, generator, 900), draw_classes(5, generator, 900)], dim=1)
    means = [torch.randn(classes, 3, generator=generator)[class_NC[:, c]] for c, classes in enumerate((3, 5))]
    return [mean + 0.7 * torch.randn(900, 3, generator=generator) for mean in means], class_NC


def small_information(codes, class_NC, reader):
    return information(codes, class_NC, [3, 5], reader, eval_clips=300)


@pytest.mark.parametrize("reader", READERS)
class TestEveryReader:
    def test_the_same_call_returns_the_same_bits(self, small, reader):
        codes, class_NC = small
        assert small_information(codes, class_NC, reader).equal(small_information(codes, class_NC, reader))

    def test_a_representation_does_not_depend_on_others(self, small, reader):
        (first, second), class_NC = small
        found = [small_information([first, other], class_NC, reader)[0] for other in (second, 0 * second)]
        assert found[0].equal(found[1])

    def test_constant_latents_change_nothing(self, small, reader):
        (first, _), class_NC = small
        constant = torch.cat([first, torch.full((900, 1), 0.1), torch.zeros(900, 2)], dim=1)
        found = small_information([constant], class_NC, reader)[0].tolist()
        # In training, networks magnify differences of rounding.
        assert found == pytest.approx(small_information([first], class_NC, reader)[0].tolist(), abs=0.01)

    def test_repeated_latents_change_little(self, small, reader):
        (first, _), class_NC = small
        found = small_information([torch.cat([first, first], dim=1)], class_NC, reader)[0].tolist()
        assert found == pytest.approx(small_information([first], class_NC, reader)[0].tolist(), abs=0.02)

    def test_clips_of_an_unknown_class_are_left_out(self, small, reader):
        (first, _), class_NC = small
        unknown_NC, misleading = class_NC.clone(), first.clone()
        unknown_NC[:100, 0] = -1
        misleading[:100] = 0
        found = small_information([misleading], unknown_NC, reader)[0, 0]
        assert found == pytest.approx(float(small_information([first], class_NC, reader)[0, 0]), abs=0.03)
        assert found > 0.1

    def test_probabilities_sum_to_one(self, small, reader):
        codes, class_NC = small
        fitted = READERS[reader].fit(torch.stack(codes), class_NC, [3, 6])
        for log_probability, classes in zip(fitted.log_probabilities(torch.stack(codes)), (3, 6), strict=True):
            assert log_probability.shape == (2, 900, classes)
            assert log_probability.exp().sum(dim=-1).allclose(torch.ones(2, 900, dtype=torch.float64))

    def test_a_factor_with_one_class_has_no_information(self, small, reader):
        (first, _), class_NC = small
        assert information([first], torch.zeros_like(class_NC[:, 0]), [1], reader, 300).item() == 0
        only, certain = torch.zeros(9, dtype=torch.int64), torch.zeros(1, 9, 1, dtype=torch.float64)
        assert information_standard_error(certain, only, class_prior(only, 1)).item() == 0

    def test_few_clips_are_enough(self, small, reader):
        (first, _), class_NC = small
        found = information([first[:8]], class_NC[:8], [3, 5], reader, eval_clips=4)
        assert found.isfinite().all()


def test_linear_readers_miss_parity(draw):
    signs = torch.randn(FIT_CLIPS + EVAL_CLIPS, 2, generator=draw)
    class_N = (signs.prod(dim=1) > 0).long()
    assert information([signs], class_N, reader="linear").item() == pytest.approx(0, abs=0.01)
    assert information([signs], class_N, reader="lightweight").item() > 0.9


def test_means_of_a_collapsed_latent_are_not_scaled_up_to_their_deviation(draw):
    class_N = draw_classes(5, draw, 1_200)
    one_hot, noise = torch.nn.functional.one_hot(class_N, 5).float(), torch.randn(1_200, 3, generator=draw)
    collapsed = 1e-4 * one_hot
    means = torch.stack([collapsed, torch.cat([collapsed[:, :2], noise], dim=1), one_hot])
    deviation = torch.tensor([[1.0] * 5, [1.0] * 2 + [0.1] * 3, [0.1] * 5])

    def accuracies(*rest):
        fitted = READERS["lightweight"].fit(means[:, :800], class_N[:800, None], [5], *rest)
        return balanced_accuracy(fitted.log_probabilities(means[:, 800:])[0], class_N[800:]).tolist()

    standardised, scaled = accuracies(), accuracies(deviation)
    assert standardised[0] == 1.0
    assert standardised[1] > 0.5
    assert scaled[:2] == pytest.approx([0.2, 0.2], abs=0.08)
    assert scaled[2] == 1.0  # the means vary by more than their posteriors


def test_quadratic_codes_are_found_in_means_beside_collapsed_latents(draw):
    signs = torch.randn(3_000, 2, generator=draw)
    class_N = (signs.prod(dim=1) > 0).long()
    means = torch.cat([signs, 1e-3 * torch.randn(3_000, 10, generator=draw)], dim=1)[None]
    one_hots = [torch.nn.functional.one_hot(class_N[:2_000], 2).double()]
    whitened_RNE = Whitening.fit(means[:, :2_000], torch.tensor([[0.1] * 2 + [1.0] * 10]))(means)
    (logits_RNY,) = QuadraticDiscriminants(whitened_RNE[:, :2_000], one_hots).logits(whitened_RNE[:, 2_000:])
    assert (logits_RNY[0].argmax(dim=1) == class_N[2_000:]).double().mean() > 0.8


def log_probability_of(predicted_N, classes, confidence=0.9):
    """Return log-probabilities [1, N, Y] of a reader that gives its prediction this probability."""
    rest = torch.full((1, len(predicted_N), classes), (1 - confidence) / (classes - 1), dtype=torch.float64)
    return rest.scatter(2, predicted_N[None, :, None], confidence).log()


def test_accuracies_of_unequal_classes_are_balanced():
    class_N = torch.tensor([0] * 90 + [1] * 8 + [2] * 2 + [-1] * 50)
    constant, right = torch.zeros_like(class_N), class_N.clamp_min(0)
    assert balanced_accuracy(log_probability_of(constant, 4), class_N).item() == pytest.approx(1 / 3)
    assert balanced_accuracy(log_probability_of(right, 4), class_N).item() == pytest.approx(1)
    half = torch.where(torch.arange(150) < 45, 1, right)  # half of the most frequent class is predicted wrong
    assert balanced_accuracy(log_probability_of(half, 4), class_N).item() == pytest.approx((0.5 + 1 + 1) / 3)


def test_the_explained_variance_of_known_predictions(draw):
    class_N = draw_classes(10, draw)
    values_Y = 110 * 2 ** (torch.arange(10, dtype=torch.float64) / 3)
    value_N = values_Y[class_N].index_fill(0, torch.arange(50), torch.nan)
    right = log_probability_of(class_N, 10, 1 - 1e-9)
    uniform = torch.full((1, len(class_N), 10), 0.1, dtype=torch.float64).log()
    neighbour, distant = (log_probability_of(other, 10, 1 - 1e-9) for other in ((class_N ^ 1), (class_N + 5) % 10))
    expected = [explained_variance(part, value_N, values_Y).item() for part in (right, uniform, neighbour, distant)]
    assert expected[:2] == pytest.approx([1, 0], abs=0.01)
    assert expected[2] > 0.5
    assert expected[3] < -0.5
    assert explained_variance(right, torch.full_like(value_N, 3.0), values_Y).item() == 0  # nothing varies


def test_the_standard_error_of_information_is_that_of_the_bootstrap(draw):
    class_N = draw_classes(4, draw, 800)
    logits = torch.nn.functional.one_hot(class_N, 4) + torch.randn(1, 800, 4, generator=draw, dtype=torch.float64)
    prior_Y, log_RNY = torch.full((4,), 0.25, dtype=torch.float64), logits.log_softmax(dim=-1)
    drawn = [torch.randint(800, (800,), generator=draw) for _ in range(1_000)]
    shares = torch.stack([information_share(log_RNY[:, rows], class_N[rows], prior_Y) for rows in drawn])
    error = information_standard_error(log_RNY, class_N, prior_Y).item()
    assert error == pytest.approx(shares.std().item(), rel=0.1)
    unknown_N, worthless = torch.cat([class_N, torch.full((9,), -1)]), torch.full((1, 9, 4), -50.0)
    assert information_standard_error(torch.cat([log_RNY, worthless], dim=1), unknown_N, prior_Y).item() == error


def test_the_public_function_has_the_agreed_arguments(small):
    names = ["fit_RND", "fit_class_NC", "eval_RND", "eval_class_NC", "classes_C"]
    parameters = inspect.signature(usable_information).parameters
    assert list(parameters) == [*names, "reader"]
    assert parameters["reader"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["reader"].default == "strong"
    codes, class_NC = small
    found = information([*codes, codes[0]], class_NC, [3, 5], eval_clips=300)
    assert found.shape == (3, 2)


def test_an_unknown_reader_is_refused(small):
    codes, class_NC = small
    with pytest.raises(ValueError, match="reader must be one of strong, lightweight, linear; got 'psychic'"):
        small_information(codes, class_NC, "psychic")
