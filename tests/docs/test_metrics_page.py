import itertools
import math
import re
from pathlib import Path

import pytest
import torch

from marl.audio import AudioConfig
from marl.config import Config
from marl.evaluation import FINAL, evaluate, metric_names
from marl.evaluation.post_training import POST_TRAINING, PostTrainingInputs
from marl.models import Architecture
from marl.objective import ActiveTerms
from marl.stack import Stack

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
FACTORS = ("timbre", "frequency")
TINY = AudioConfig(clip_s=0.125, fft_size=256, frames=16, mel_bands=16)


def described(text):
    """Return patterns of the columns that a text names, such as `<kind>/<factor>/{a,b}`."""
    patterns = set()
    for name in re.findall(r"`([^`\s]+/[^`\s]+)`", text):
        parts = [part.strip("{}").split(",") for part in re.findall(r"\{[^}]*\}|[^{}]+", name)]
        for spelled in itertools.product(*parts):
            pattern = "".join(spelled).replace("<term>", ".+")  # a term of the objective may have a subspace
            patterns.add(re.compile(re.sub(r"<[^>]*>", "[^/]+", pattern)))
    return patterns


def undescribed(names, text):
    patterns = described(text)
    return [name for name in names if not any(pattern.fullmatch(name) for pattern in patterns)]


def inputs():
    """Return the columns of the post-training evaluation of a model with two latents, one for each factor."""
    class_NC = torch.arange(24)[:, None] // torch.tensor([1, 2]) % 2
    waveform_NS = torch.sin(torch.arange(TINY.clip_samples) * torch.tensor([[0.2], [0.4]]))
    return PostTrainingInputs(
        fit_ND=class_NC.float().numpy(),
        fit_class_NC=class_NC.numpy(),
        held_out_ND=class_NC.float().numpy(),
        held_out_class_NC=class_NC.numpy(),
        waveform_NS=waveform_NS.numpy(),
        log_mel_NFT=torch.zeros(2, TINY.mel_bands, TINY.frames).numpy(),
        audio=TINY,
        mean_db=-40.0,
        std_db=15.0,
    )


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text(encoding="utf-8")


def test_every_selectable_metric_is_documented(page):
    assert undescribed(metric_names(FACTORS), page) == []


@pytest.mark.parametrize("name", POST_TRAINING)
def test_every_column_of_the_post_training_evaluation_is_documented(page, name):
    columns = POST_TRAINING[name](inputs())
    assert all(math.isfinite(value) for value in columns.values())
    assert undescribed(columns, page) == []


def test_every_column_of_a_report_is_documented(page, small_dataset):
    config = Config.model_validate(
        {"model": {"width": 16, "embedding": 16, "hidden": 32}, "latent": {"private": 4, "shared": 2}}
    )
    architecture = Architecture(64, 64, config.model, 4, 2)
    stack = Stack(architecture, 1, small_dataset, config.views, 16, ActiveTerms.of(config))
    stack.attach(config, seed=0)
    (columns,) = evaluate(stack.models, ["timbre"], FINAL).metrics
    assert set(metric_names(small_dataset.factor_names)) < columns.keys()
    assert undescribed(columns, page) == []


def test_an_undocumented_column_fails_the_check(page):
    unknown = ["disentanglement/unheard", "probe/timbre/neither", "nmi/timbre/both", "fidelity/stft_error/sd"]
    assert undescribed(unknown, page) == unknown


def test_every_image_is_used_exists_and_is_small(page):
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    files = sorted((PAGE.parent / "pictures").glob("*.png"))
    assert sorted(shown) == [f"pictures/{file.name}" for file in files]
    assert all(file.stat().st_size < 60_000 for file in files)
