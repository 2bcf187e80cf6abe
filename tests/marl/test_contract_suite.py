"""The contract suite passes for built-in components and the worked examples, and names what a broken plug-in does."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins import EXAMPLES

pytestmark = pytest.mark.slow


def run_suite(folder: Path, *plugins: str, select: str = "") -> tuple[int, str]:
    """Run the suite as a user does, in a folder, and return exit status and output."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    command += ["--pyargs", "marl.testing", *(word for plugin in plugins for word in ("--plugin", plugin))]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [*command, *(["-k", select] if select else [])],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""},
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path):
    """Folder with copies of the example plug-ins, which a test may break."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "plugins", ignore=shutil.ignore_patterns("__pycache__")))


def test_the_examples_and_built_in_components_pass(folder):
    examples = ("ring_loss:ring_loss", "chirps:Chirps", "chirps:DenseNetwork", "chirps:gini")
    built_in = ("marl.losses.ssl.byol:BYOL", "marl.models.conv:ConvNetwork", "optuna.samplers:TPESampler")
    status, output = run_suite(folder, *examples, *built_in)
    assert status == 0, output
    assert " passed" in output


def test_the_code_of_the_guide_passes(tmp_path):
    page = (EXAMPLES.parents[1] / "docs" / "plugins.md").read_text()
    blocks = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL))
    assert blocks.keys() == {"my_losses.py", "my_data.py", "my_metrics.py", "my_samplers.py"}
    for name, source in blocks.items():
        (tmp_path / name).write_text(source)
    plugins = ("my_losses:alignment", "my_data:Beeps", "my_metrics:spread", "my_samplers:greedy")
    status, output = run_suite(tmp_path, *plugins)
    assert status == 0, output


@pytest.mark.parametrize(
    ("plugin", "find", "replace", "select", "facts"),
    [
        (
            "ring_loss:ring_loss",
            "(first_BD - second_BD).square().sum(dim=1)",
            "(first_BD - second_BD).square().mean(dim=1)",
            "padded",
            ("padded to 9", "padded dimensions must add nothing", "mask_D"),
        ),
        (
            "ring_loss:ring_loss",
            "return distance_B.mean()",
            "if distance_B.mean() > 1: return distance_B.mean()\n    return distance_B.mean()",
            "branch",
            ("cannot be computed for many models at once", "torch.where"),
        ),
        ("ring_loss:ring_loss", "+ _SMALLEST", "", "finite", ("gradient of ring_loss:ring_loss is not finite",)),
        (
            "ring_loss:ring_loss",
            "return distance_B.mean() + (norm_N - _RADIUS).square().mean()",
            "return (distance_B.mean() + (norm_N - _RADIUS).square().mean()).detach()",
            "trains",
            ("ring_loss:ring_loss has no gradient",),
        ),
        (
            "chirps:gini",
            "rank_KD = torch.arange(1, mask_KD.shape[1] + 1, device=mask_KD.device) - (mask_KD.shape[1] - latents_K1)",
            "rank_KD = torch.arange(1, mask_KD.shape[1] + 1, device=mask_KD.device)",
            "padded",
            ("padded latents must not count", "mask_KD"),
        ),
        (
            "chirps:Chirps",
            'splits = split_clips("clip", value_NC, factors, names, names)',
            (
                'splits = split_clips("clip", value_NC, factors, names, names)\n'
                '        splits["test"] = splits["validation"]'
            ),
            "splits",
            ("clips are in the splits validation and test",),
        ),
        ("chirps:DenseNetwork", "local_shape=(1, model.width)", "local_shape=(2, 8)", "shape", ("local_shape (2, 8)",)),
    ],
    ids=["padding", "branch", "gradient", "no gradient", "metric", "splits", "local features"],
)
def test_a_broken_plugin_fails_with_the_reason(folder, plugin, find, replace, select, facts):
    path = folder / f"{plugin.partition(':')[0]}.py"
    source = path.read_text()
    assert source.count(find) == 1
    path.write_text(source.replace(find, replace))
    status, output = run_suite(folder, plugin, select=select)
    assert status == 1, output
    for fact in facts:
        assert fact in " ".join(output.split()), output


def test_what_is_no_plugin_is_an_error_of_usage(folder):
    for name, fact in (("ring_loss:gone", "gone"), ("chirps:Factor", "none of"), ("ring_loss", "module:name")):
        status, output = run_suite(folder, name)
        assert status == 4, output
        assert fact in output, output
