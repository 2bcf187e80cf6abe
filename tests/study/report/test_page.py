import re
import subprocess
import sys

import pytest

from study.analysis import StudyResults
from study.report.page import PICTURES, render, write_report
from tests.study.report.studies import material_of, separated, trial_of, write_study

OTHER = {
    "loss.private.gamma": 2.0,
    "latent.private": 4,
    "contrast.strategy": "infonce",
    "contrast.temperature": 0.2,
}
TRIALS = [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([5.0, 5.2], [0.6, 0.8], config=OTHER)]
EVIL = "<script>alert('x')</script>"


def page_of(store, folder):
    report = write_report(StudyResults(store), folder)
    return report, report.path.read_text()


@pytest.fixture
def store(tmp_path, tiny):
    """Two complete trials, with latents of the better one."""
    store = write_study(tmp_path / "runs", tiny, TRIALS)
    store.write_latents(1, 0, separated())
    return store


def test_a_whole_report_has_every_picture_and_needs_no_network(store, tmp_path, flat_maps):
    report, page = page_of(store, tmp_path / "new" / "report")
    assert report.missing == {}
    assert re.findall(r'<img src="([^"]*)"', page) == [f"{name}.png" for name in PICTURES]
    for name in PICTURES:
        assert (report.path.parent / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "http" not in page
    assert "<script" not in page
    assert "Not drawn" not in page


def test_the_page_says_what_it_was_drawn_from(store, tmp_path, flat_maps):
    launch = store.launches()[1]
    store.write_launch(1, launch | {"commit": "0123abc"})
    _, page = page_of(store, tmp_path / "report")
    assert "<h1>tiny</h1>" in page
    assert "<dd>2 complete, of 2</dd>" in page
    assert "2 of each trial, seeds 0 to 1" in page
    assert "{kind: syntone, frequencies: 40, amplitudes: 4}" in page
    assert "{shared: [timbre], scheme: factor}" in page
    assert "{steps: 30, batch_pairs: 16, reports: 2" in page
    assert "<td>0123abc</td>" in page
    assert f"torch {launch['versions']['torch']}" in page
    assert "the one that is best in separation" in page
    assert "private latents 4, contrastive strategy infonce, temperature 0.2" in page


def test_without_latents_the_rest_is_drawn_and_what_is_missing_is_said(store, tmp_path):
    store.objects.delete("tiny/latents/1-0.parquet")
    report, page = page_of(store, tmp_path / "report")
    reason = "the store has no readable latents of trial 1, seed 0"
    assert report.missing == {"mutual information": reason, "maps of the subspaces": reason}
    assert f"Not drawn: mutual information, because {reason}." in page
    assert len(re.findall("<img ", page)) == 4


def test_one_trial_is_enough_for_all_that_compares_nothing(tmp_path, tiny, flat_maps):
    tiny["replicates"] = 1
    store = write_study(tmp_path / "runs", tiny, [trial_of([4.0], [0.2])])
    store.write_latents(0, 0, separated())
    report, page = page_of(store, tmp_path / "report")
    assert list(report.missing) == ["objectives by parameter", "objectives by choice"]
    assert "1 of each trial, seed 0" in page


def test_failed_trials_are_named_with_their_reason(store, tmp_path, tiny, flat_maps):
    failed = [
        trial_of([], [], state="failed", error=f"not finite at step 7 {EVIL}\nTraceback"),
        trial_of([], [], "failed"),
    ]
    store = write_study(tmp_path / "other", tiny, [*TRIALS, *failed])
    report, page = page_of(store, tmp_path / "report")
    assert "2 complete, 2 failed, of 4" in page
    assert "2 failed trials are in no picture" in page
    assert "trial 2: not finite at step 7 &lt;script&gt;" in page
    assert "trial 3: no reason is known" in page
    assert "Traceback" not in page
    assert list(report.missing) == ["mutual information", "maps of the subspaces"]


@pytest.mark.parametrize("trials", [[], [trial_of([4.0], [0.2], state="running")], [trial_of([], [], state="failed")]])
def test_before_any_trial_is_mature_a_page_says_so(tmp_path, tiny, trials):
    report, page = page_of(write_study(tmp_path / "runs", tiny, trials), tmp_path / "report")
    missing = set(report.missing)
    assert missing >= {"objectives by parameter", "objectives by choice", "accuracy by subspace", "mutual information"}
    assert report.missing["maps of the subspaces"].startswith("no trial is complete yet")
    assert page.count("Not drawn") == len(missing)


def test_whatever_comes_from_the_store_is_escaped(store, tmp_path, flat_maps):
    launch = store.launches()[1]
    store.write_launch(1, launch | {"machine": EVIL, "commit": EVIL, "versions": {EVIL: EVIL}})
    material = material_of(store)
    space = {EVIL: material.spec.space["latent.private"]}
    material.spec = material.spec.model_copy(
        update={"name": EVIL, "data": {"kind": EVIL}, "space": space, "objectives": {EVIL: "max"}}
    )
    material.table = material.table.rename(columns={"config/latent.private": f"config/{EVIL}"})
    page = render(material, {}, dict.fromkeys(PICTURES, EVIL))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= len(PICTURES) + 5


def test_a_picture_that_is_missing_now_is_removed_from_the_folder(store, tmp_path, flat_maps):
    folder = tmp_path / "report"
    page_of(store, folder)
    (folder / "mine.png").write_bytes(b"mine")
    store.objects.delete("tiny/latents/1-0.parquet")
    page_of(store, folder)
    assert {path.name for path in folder.glob("*.png")} == {
        "mine.png",
        "trade-off.png",
        "curves.png",
        "categories.png",
        "accuracy.png",
    }


def test_damaged_latents_are_named_in_a_warning(store, tmp_path, cli):
    store.objects.write("tiny/latents/1-0.parquet", b"PAR1 not really")
    outcome = cli("report", "tiny", "-o", tmp_path / "report", "--store", store.objects.uri)
    assert outcome.status == 0
    assert "latents/1-0.parquet was left out" in outcome.err
    assert "not drawn: mutual information, because the store has no readable latents of trial 1, seed 0" in outcome.err


def test_the_command_writes_the_page_and_says_where(store, tmp_path, cli, flat_maps):
    outcome = cli("report", "tiny", "-o", tmp_path / "report", "--store", store.objects.uri)
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.err == f"report: {tmp_path / 'report' / 'index.html'}\n"
    assert (tmp_path / "report" / "index.html").is_file()


def test_a_study_that_is_not_there_is_answered_with_those_that_are(store, tmp_path, cli):
    outcome = cli("report", "other", "-o", tmp_path / "report", "--store", store.objects.uri)
    assert outcome.status == 2
    assert "no study 'other'" in outcome.err
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(("place", "why"), [("file", "is a file"), ("file/below", "cannot write")])
def test_a_place_that_is_no_folder_is_refused(store, tmp_path, cli, place, why):
    (tmp_path / "file").write_text("mine")
    outcome = cli("report", "tiny", "-o", tmp_path / place, "--store", store.objects.uri)
    assert outcome.status == 2
    assert why in outcome.err
    assert (tmp_path / "file").read_text() == "mine"


def test_neither_ray_nor_umap_is_loaded_before_it_is_needed():
    code = "import sys, study.report; sys.exit(bool({'ray', 'optuna', 'umap', 'numba'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
