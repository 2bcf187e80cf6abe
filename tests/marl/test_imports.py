"""What `import marl` and the use of an exported model load and need. Each is checked in a separate process."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import pytest
import soundfile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from marl.config import Config
from tests.marl.cases import save_trained
from tests.study.commands import ROOT

NEEDED = ("torch", "torchaudio", "numpy", "safetensors", "pydantic", "soundfile")
# Heavy packages that a study needs, and a model does not.
NOT_LOADED = {
    "ray",
    "optuna",
    "streamlit",
    "umap",
    "sklearn",
    "pandas",
    "scipy",
    "numba",
    "altair",
    "study",
    "dashboard",
}
REFUSE = """
import json, sys
from importlib.abc import MetaPathFinder

refused = set(json.loads(sys.argv[1]))

class Refusal(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"refused: {name}", name=name)

sys.meta_path.insert(0, Refusal())
"""
USE = """
import marl, soundfile

model = marl.load(sys.argv[2])
private, shared = model.encode_file(sys.argv[3])
sound, rate = soundfile.read(sys.argv[3], dtype="float32")
assert model.swap(sound, rate, sound, rate).shape == sound.shape
print(json.dumps([list(private.shape), list(shared.shape)]))
"""


def run_python(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def distributions_of(packages):
    """Return the names of packages and of all that they require on this machine."""
    found, names = set(), list(packages)
    while names:
        name = canonicalize_name(names.pop())
        if name in found:
            continue
        found.add(name)
        try:
            requirements = map(Requirement, requires(name) or ())
        except PackageNotFoundError:
            continue
        names += [one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def modules_of_other_packages():
    """Return the top-level modules that belong neither to the packages that a model needs nor to marl."""
    needed = distributions_of(NEEDED)
    others = {
        module
        for module, distributions in packages_distributions().items()
        if not needed & {canonicalize_name(name) for name in distributions}
    }
    return (others | {"study", "dashboard"}) - {"marl"}


def test_loading_marl_loads_neither_the_search_nor_the_cluster_nor_statistics():
    modules = run_python("import json, sys, marl\nmarl.load\nprint(json.dumps(list(sys.modules)))")
    loaded = {name.partition(".")[0] for name in modules}
    assert "torch" in loaded
    assert loaded & NOT_LOADED == set()


@pytest.fixture(scope="module")
def model(small_dataset, tmp_path_factory):
    """Folder with a model and the sound of a clip."""
    folder = tmp_path_factory.mktemp("model")
    save_trained(Config.model_validate({"latent": {"private": 3, "shared": 2}}), 1, small_dataset, folder)
    soundfile.write(folder / "clip.flac", small_dataset.waveforms([0])[0].numpy(), 16_000)
    return folder


def test_a_model_is_used_with_six_packages_and_what_they_require(model):
    refused = modules_of_other_packages()
    assert refused >= NOT_LOADED
    shapes = run_python(REFUSE + USE, json.dumps(sorted(refused)), model, model / "clip.flac")
    assert shapes == [[1, 3], [1, 2]]


def test_a_refused_package_cannot_be_imported():
    code = REFUSE + "try:\n    import pandas\nexcept ModuleNotFoundError as error:\n    print(json.dumps(str(error)))"
    assert run_python(code, json.dumps(["pandas"])) == "refused: pandas"
