import hashlib
import html
import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import soundfile
import torch
import yaml

import marl
import study.export.bundle as bundle_module
from study.errors import RunError, UserError
from study.export.bundle import export_trials
from study.export.embed import load_model
from study.export.verify import foreign_files, verify
from tests.messages import assert_mentions, mentions

pytestmark = pytest.mark.slow

SEPARATION = "disentanglement/separation"


@pytest.fixture(scope="module")
def exported(_finished, tmp_path_factory) -> Path:
    """A bundle of the best trial."""
    from study.analysis import StudyResults
    from study.storage import ObjectStore
    from study.store import StudyStore

    results = StudyResults(StudyStore(ObjectStore(str(_finished)), "tiny"))
    (bundle,) = export_trials(results, [results.best_trial(SEPARATION)], SEPARATION, tmp_path_factory.mktemp("out"))
    return bundle


@pytest.fixture
def bundle(exported, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(exported, tmp_path / exported.name))


def compute_checksums_anew(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name in manifest["sha256"]:
        manifest["sha256"][name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_the_best_trial_is_best_in_the_mean_over_replicates(finished):
    table = finished.results().set_index("trial")
    assert finished.best_trial(SEPARATION) == table[SEPARATION].idxmax()
    assert finished.best_trial("fidelity/log_mel_rmse_db") == table["fidelity/log_mel_rmse_db"].idxmin()


@pytest.mark.parametrize("column", ["separation", "config/latent.private", "state"])
def test_unknown_metrics_are_rejected_with_the_known_ones(finished, column):
    with pytest.raises(UserError, match=mentions(column, "metric", "disentanglement/separation")):
        finished.best_trial(column)


def test_the_best_replicate_of_a_trial_is_exported(finished, exported):
    trial = finished.best_trial(SEPARATION)
    reports = finished.reports()
    last = reports[(reports["trial"] == trial) & (reports["step"] == 30)].set_index("seed")
    seed = last[SEPARATION].idxmax()
    assert exported.name == f"tiny-trial-{trial}-seed-{seed}"
    scores = json.loads((exported / "scores.json").read_text())
    assert scores["in the study, this replicate"][SEPARATION] == last.loc[seed, SEPARATION]


def test_exported_models_load_and_encode_in_three_lines(bundle):
    model = marl.load(bundle)
    audio, sample_rate = soundfile.read(bundle / "clips" / "000.flac", dtype="float32")
    private, shared = model.encode(torch.from_numpy(audio), sample_rate)
    assert private.shape == (1, model.private)
    assert shared.shape == (1, model.shared)


def test_an_exported_bundle_verifies_with_its_stated_scores(bundle):
    scores = verify(bundle)
    assert "fidelity/log_mel_rmse_db" in scores
    for stated, found in scores.values():
        assert stated == pytest.approx(found, abs=1e-4)


def test_clips_of_a_bundle_were_held_out(bundle, small_dataset):
    held_out = small_dataset.waveforms(small_dataset.splits["validation"][:2].tolist())
    for index in range(2):
        audio, _ = soundfile.read(bundle / "clips" / f"{index:03d}.flac", dtype="float32")
        torch.testing.assert_close(torch.from_numpy(audio), held_out[index], atol=1e-6, rtol=0)


def test_the_card_describes_the_model_and_its_use(bundle):
    card = (bundle / "README.md").read_text()
    assert 'model = marl.load(".")' in card
    assert "| disentanglement/separation |" in card
    assert "| latent.private |" in card


def test_the_card_has_data_intervals_and_citations(bundle, finished):
    card = (bundle / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "unknown"
    assert_mentions(card, "640 clips", "1 s", "16,000 Hz", "512 for training", "64 for validation", "64 for test")
    assert "| timbre | shared | 4 | 4 |" in card
    assert "| frequency | private | 40 | 20 |" in card
    trial = int(json.loads((bundle / "manifest.json").read_text())["trial"])
    row = finished.results().set_index("trial").loc[trial]
    low, high = row[SEPARATION] - row[f"{SEPARATION}/ci"], row[SEPARATION] + row[f"{SEPARATION}/ci"]
    assert f"| {row[SEPARATION]:.4f} | {low:.4f} to {high:.4f} |" in card
    assert all(paper in card for paper in ("2411.02711", "2507.22995", "2207.04471", "Brima"))


@pytest.mark.parametrize("licence", ["CC-BY-4.0", 'Bob\'s own: free & "open"'])
def test_the_card_has_the_given_licence(finished, tmp_path, licence):
    (bundle,) = export_trials(finished, [0], SEPARATION, tmp_path, licence)
    _, header, text = (bundle / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header)["license"] == licence
    assert f"Licence: {licence}." in html.unescape(text)


def test_a_folder_that_appears_while_a_model_is_scored_is_kept(finished, tmp_path, monkeypatch):
    score = bundle_module.score

    def score_while_the_user_writes(draft):
        for seed in range(2):
            folder = draft.parent / f"tiny-trial-0-seed-{seed}"
            folder.mkdir()
            (folder / "notes.txt").write_text("mine")
        return score(draft)

    monkeypatch.setattr(bundle_module, "score", score_while_the_user_writes)
    with pytest.raises(UserError, match=mentions("notes.txt", "overwrite=True")):
        export_trials(finished, [0], SEPARATION, tmp_path / "out")
    assert {path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()} == {"mine"}


def test_progress_counts_bundles(finished, tmp_path):
    counts = []
    export_trials(finished, [0, 2], SEPARATION, tmp_path, on_progress=lambda *count: counts.append(count))
    assert counts == [(0, 2), (1, 2), (2, 2)]


def test_exporting_again_keeps_an_intact_bundle_and_restores_deleted_files(finished, tmp_path):
    (bundle,) = export_trials(finished, [0], SEPARATION, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*")}
    export_trials(finished, [0], SEPARATION, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*")} == before
    (bundle / "notes.txt").write_text("mine")
    export_trials(finished, [0], SEPARATION, tmp_path)
    assert (bundle / "notes.txt").read_text() == "mine"
    (bundle / "notes.txt").unlink()
    (bundle / "model.safetensors").unlink()
    export_trials(finished, [0], SEPARATION, tmp_path)
    verify(bundle)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "runs") == [bundle.name]


def test_exporting_again_keeps_a_folder_that_the_user_changed_unless_forced(finished, tmp_path, cli):
    (bundle,) = export_trials(finished, [0], SEPARATION, tmp_path / "out")
    (bundle / "README.md").write_text("my own card")
    (bundle / "notes").mkdir()
    (bundle / "notes" / "mine.txt").write_text("mine")
    assert foreign_files(bundle) == ["README.md", "notes/mine.txt"]
    command = ["export", "tiny", "--trial", 0, "--to", tmp_path / "out", "--store", finished.store.objects.uri]
    outcome = cli(*command)
    assert outcome.status == 2
    assert_mentions(outcome.err, bundle, "README.md", "notes/mine.txt", "--overwrite")
    assert (bundle / "README.md").read_text() == "my own card"
    assert (bundle / "notes" / "mine.txt").read_text() == "mine"
    assert cli(*command, "--overwrite").status == 0
    assert foreign_files(bundle) == []
    verify(bundle)


@pytest.fixture
def export_zero(finished, tmp_path, cli):
    """Exports trial 0 again over a bundle without a licence; with the bundle."""
    (bundle,) = export_trials(finished, [0], SEPARATION, tmp_path / "out")
    words = ["export", "tiny", "--trial", 0, "--to", tmp_path / "out", "--store", finished.store.objects.uri]
    return bundle, lambda *more: cli(*words, *more)


def contents(bundle):
    return {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}


def test_exporting_an_identical_model_again_succeeds_and_is_reported(export_zero):
    bundle, export = export_zero
    outcome = export()
    assert (outcome.status, outcome.out) == (0, f"{bundle}\n")
    assert_mentions(outcome.err, bundle, "already", "same model")


def test_a_bundle_with_another_licence_is_replaced_only_if_asked_for(export_zero):
    bundle, export = export_zero
    before = contents(bundle)
    outcome = export("--licence", "CC-BY-4.0")
    assert outcome.status == 2
    assert_mentions(outcome.err, bundle, "licence", "CC-BY-4.0", "--overwrite")
    assert contents(bundle) == before
    assert export("--licence", "CC-BY-4.0", "--overwrite").status == 0
    assert json.loads((bundle / "manifest.json").read_text())["licence"] == "CC-BY-4.0"
    assert "Licence: CC-BY-4.0." in (bundle / "README.md").read_text()
    assert export().status == 2


def test_a_bundle_of_another_study_or_with_other_weights_is_replaced_only_if_asked_for(export_zero):
    bundle, export = export_zero
    weights = safetensors.torch.load_file(bundle / "model.safetensors")
    safetensors.torch.save_file({name: value + 1 for name, value in weights.items()}, bundle / "model.safetensors")
    compute_checksums_anew(bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "study": "other"}))
    before = contents(bundle)
    outcome = export()
    assert outcome.status == 2
    assert_mentions(outcome.err, bundle, "study other", "model.safetensors", "--overwrite")
    assert contents(bundle) == before
    assert export("--overwrite").status == 0
    verify(bundle)


def test_nothing_is_exported_if_one_of_several_bundles_cannot_be_replaced(finished, tmp_path):
    export_trials(finished, [1], SEPARATION, tmp_path / "out", "CC-BY-4.0")
    with pytest.raises(UserError, match=mentions("trial-1", "licence")):
        export_trials(finished, [0, 1], SEPARATION, tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_all_files_of_a_folder_without_a_manifest_are_foreign(tmp_path):
    assert foreign_files(tmp_path / "none") == []
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "link").symlink_to("thesis.txt")
    assert foreign_files(tmp_path) == ["link", "thesis.txt"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "scores.json", "clips/003.flac", "README.md"])
def test_a_flipped_byte_is_detected_and_its_file_is_named(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(bytes(content))
    with pytest.raises(RunError, match=mentions(name)):
        verify(bundle)


@pytest.mark.parametrize("use", [verify, load_model])
def test_a_wrong_folder_is_answered_with_the_exported_models(bundle, use):
    with pytest.raises(UserError, match=mentions("no folder", "gone", bundle)):
        use(bundle.parent / "gone")
    with pytest.raises(UserError, match=mentions("not an exported model", bundle)):
        use(bundle.parent)


def test_a_missing_file_is_named(bundle):
    (bundle / "clips" / "005.flac").unlink()
    with pytest.raises(RunError, match=mentions("clips/005.flac", "missing")):
        verify(bundle)


@pytest.mark.parametrize("name", ["encoder.hidden.weight", "decoder.hidden.weight"])
def test_scores_reveal_changed_weights_behind_recomputed_checksums(bundle, name):
    weights = safetensors.torch.load_file(bundle / "model.safetensors")
    weights[name] = weights[name] + 0.05 * torch.randn_like(weights[name])
    safetensors.torch.save_file(weights, bundle / "model.safetensors")
    compute_checksums_anew(bundle)
    with pytest.raises(RunError, match=mentions("weights", "score")):
        verify(bundle)


def test_weights_of_another_architecture_behind_recomputed_checksums_are_rejected(bundle):
    safetensors.torch.save_file({"other": torch.zeros(3)}, bundle / "model.safetensors")
    compute_checksums_anew(bundle)
    with pytest.raises(RunError, match=mentions("weights", "fit", "model")):
        verify(bundle)


def test_manifests_with_paths_outside_the_bundle_are_rejected(bundle):
    secret = bundle.parent / "secret.txt"
    secret.write_text("outside")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["sha256"]["../secret.txt"] = hashlib.sha256(b"outside").hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=mentions("manifest.json", "outside")):
        verify(bundle)


@pytest.mark.parametrize("content", ["", "[]", '{"sha256": 3}'])
def test_folders_that_are_not_bundles_are_rejected(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=mentions(tmp_path, "exported model")):
        verify(tmp_path)


def test_only_complete_trials_can_be_exported(finished, tmp_path):
    with pytest.raises(UserError, match=mentions("trial 17")):
        export_trials(finished, [17], SEPARATION, tmp_path)


def test_a_damaged_checkpoint_in_the_store_is_named(finished, tmp_path):
    for seed in (0, 1):
        finished.store.objects.write(f"tiny/checkpoints/0/{seed}/30/model.safetensors", b"damaged")
    with (
        pytest.warns(UserWarning, match=mentions("checkpoints/0/", "model.safetensors")),
        pytest.raises(RunError, match=mentions("trial 0", "seed", "damaged")),
    ):
        export_trials(finished, [0], SEPARATION, tmp_path)
