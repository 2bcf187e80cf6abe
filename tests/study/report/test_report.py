import re
import shutil
import subprocess
import sys

import pytest

from study.analysis import StudyResults
from study.report import render, write_report
from study.report.figures import FIGURES
from study.storage import ObjectStore
from study.store import StudyStore
from tests.messages import assert_mentions
from tests.study.commands import TINY
from tests.study.report.studies import context_of, separated, trial_of, write_study

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


@pytest.fixture(autouse=True)
def unrendered(monkeypatch):
    """Write the width of a PNG instead of rendering it, which takes seconds; `whole` has real pictures."""

    def save(chart, path):
        chart.to_dict()
        path.write_bytes(bytes(16) + (1200).to_bytes(4, "big"))

    monkeypatch.setattr("study.report.save_chart", save)


@pytest.fixture
def store(tmp_path, tiny):
    """Two complete trials, with latents of the better one."""
    store = write_study(tmp_path / "runs", tiny, TRIALS)
    store.write_latents(1, 0, separated())
    return store


@pytest.fixture(scope="module")
def _whole(tmp_path_factory):
    """Store and report of two complete trials, with latents of the better one."""
    folder = tmp_path_factory.mktemp("whole")
    store = write_study(folder / "runs", TINY, TRIALS)
    store.write_latents(1, 0, separated())
    store.write_run(1, store.runs()[1] | {"commit": "0123abc"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("study.charts.trial._embed", lambda latents_ND: latents_ND[:, [0, 0]])  # as `flat_maps`
        return store, write_report(StudyResults(store), folder / "new" / "report")


@pytest.fixture
def whole(_whole, tmp_path):
    """A copy of the store, and the report in `tmp_path / "report"`."""
    store, report = _whole
    shutil.copytree(store.objects.uri, tmp_path / "runs")
    shutil.copytree(report.path.parent, tmp_path / "report")
    path = tmp_path / "report" / report.path.name
    return StudyStore(ObjectStore(str(tmp_path / "runs")), store.name), report._replace(path=path)


def test_a_whole_report_has_every_picture_and_needs_no_network(whole):
    _, report = whole
    page = report.path.read_text()
    assert report.missing == {}
    assert re.findall(r'<img src="([^"]*)"', page) == [f"{name}.png" for name in FIGURES]
    for name in FIGURES:
        assert (report.path.parent / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "http" not in page
    assert "<script" not in page
    assert "Not drawn" not in page


def test_the_page_describes_its_study(whole):
    store, report = whole
    run, page = store.runs()[1], report.path.read_text()
    assert "<h1>tiny</h1>" in page
    assert "<dd>2 complete, of 2</dd>" in page
    assert_mentions(page, 2, "trial", "seeds 0 to 1")
    assert "{kind: syntone, frequencies: 40, amplitudes: 4}" in page
    assert "{shared: [timbre], scheme: factor}" in page
    assert "{steps: 30, batch_pairs: 16, reports: 2" in page
    assert "<td>0123abc</td>" in page
    assert f"torch {run['versions']['torch']}" in page
    assert_mentions(page, "best", "separation")
    assert_mentions(page, "private latents 4", "contrastive strategy infonce", "temperature 0.2")


@pytest.mark.parametrize(("replicates", "seeds"), [(2, "seeds 3 to 4"), (1, "seed 3")])
def test_the_page_names_seeds_that_do_not_start_at_zero(tmp_path, tiny, replicates, seeds):
    tiny |= {"first_seed": 3, "replicates": replicates}
    _, page = page_of(write_study(tmp_path / "runs", tiny, []), tmp_path / "report")
    assert f"<dd>{replicates} of each trial, {seeds}</dd>" in page


def test_without_latents_the_page_names_the_missing_figures_and_draws_the_others(store, tmp_path):
    store.objects.delete("tiny/latents/1-0.parquet")
    report, page = page_of(store, tmp_path / "report")
    assert report.missing.keys() == {"mutual information", "UMAP"}
    for reason in report.missing.values():
        assert_mentions(reason, "latents", "trial 1", "seed 0")
    assert_mentions(page, "Not drawn", "mutual information", report.missing["mutual information"])
    assert len(re.findall("<img ", page)) == 4


def test_one_trial_suffices_for_figures_without_comparisons(tmp_path, tiny, flat_maps):
    tiny["replicates"] = 1
    store = write_study(tmp_path / "runs", tiny, [trial_of([4.0], [0.2])])
    store.write_latents(0, 0, separated())
    report, page = page_of(store, tmp_path / "report")
    assert list(report.missing) == ["numeric parameters", "categorical parameters"]
    assert_mentions(page, 1, "trial", "seed 0")


def test_failed_trials_are_named_with_their_reason(store, tmp_path, tiny, flat_maps):
    failed = [
        trial_of([], [], state="failed", error=f"not finite at step 7 {EVIL}\nTraceback"),
        trial_of([], [], "failed"),
    ]
    store = write_study(tmp_path / "other", tiny, [*TRIALS, *failed])
    report, page = page_of(store, tmp_path / "report")
    assert_mentions(page, "2 complete", "2 failed", 4)
    assert_mentions(page, "2 failed trials")
    assert_mentions(page, "trial 2", "not finite at step 7 &lt;script&gt;")
    assert_mentions(page, "trial 3", "reason")
    assert "Traceback" not in page
    assert list(report.missing) == ["mutual information", "UMAP"]


@pytest.mark.parametrize("trials", [[], [trial_of([4.0], [0.2], state="running")], [trial_of([], [], state="failed")]])
def test_a_page_without_complete_trials_states_it(tmp_path, tiny, trials):
    report, page = page_of(write_study(tmp_path / "runs", tiny, trials), tmp_path / "report")
    missing = set(report.missing)
    assert missing >= {"numeric parameters", "categorical parameters", "what readers find", "mutual information"}
    assert_mentions(report.missing["UMAP"], "no trial", "complete")
    assert page.count("Not drawn") == len(missing)


def test_text_from_the_store_is_escaped(store, tmp_path, flat_maps):
    run = store.runs()[1]
    store.write_run(1, run | {"machine": EVIL, "commit": EVIL, "versions": {EVIL: EVIL}})
    context = context_of(store)
    space = {EVIL: context.spec.space["latent.private"]}
    context.spec = context.spec.model_copy(
        update={"name": EVIL, "data": {"kind": EVIL}, "space": space, "objectives": {EVIL: "max"}}
    )
    context.table = context.table.rename(columns={"config/latent.private": f"config/{EVIL}"})
    page = render(context, {}, dict.fromkeys(FIGURES, EVIL))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= len(FIGURES) + 5


def test_a_picture_that_is_missing_now_is_removed_from_the_folder(whole):
    store, report = whole
    folder = report.path.parent
    (folder / "mine.png").write_bytes(b"mine")
    store.objects.delete("tiny/latents/1-0.parquet")
    page_of(store, folder)
    assert {path.name for path in folder.glob("*.png")} == {
        "mine.png",
        "trade-off.png",
        "numeric-parameters.png",
        "categorical-parameters.png",
        "readings.png",
    }


def test_damaged_latents_are_named_in_a_warning(store, tmp_path, cli):
    store.objects.write("tiny/latents/1-0.parquet", b"PAR1 not really")
    outcome = cli("report", "tiny", "-o", tmp_path / "report", "--store", store.objects.uri)
    assert outcome.status == 0
    assert_mentions(outcome.err, "latents/1-0.parquet")
    assert_mentions(outcome.err, "not drawn", "mutual information", "latents", "trial 1", "seed 0")


def test_the_command_writes_the_page_and_prints_its_path(store, tmp_path, cli, flat_maps):
    outcome = cli("report", "tiny", "-o", tmp_path / "report", "--store", store.objects.uri)
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.err == f"report: {tmp_path / 'report' / 'index.html'}\n"
    assert (tmp_path / "report" / "index.html").is_file()
    assert cli("report", "tiny", "-o", tmp_path / "report", "--store", store.objects.uri).status == 2
    assert cli("report", "tiny", "-o", tmp_path / "report", "--store", store.objects.uri, "--overwrite").status == 0


def test_a_missing_study_is_reported_with_the_existing_ones(store, tmp_path, cli):
    outcome = cli("report", "other", "-o", tmp_path / "report", "--store", store.objects.uri)
    assert outcome.status == 2
    assert_mentions(outcome.err, "'other'", "tiny")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(("place", "facts"), [("file", ["is a file"]), ("file/below", ["write"])])
def test_a_place_that_is_no_folder_is_refused(store, tmp_path, cli, place, facts):
    (tmp_path / "file").write_text("mine")
    outcome = cli("report", "tiny", "-o", tmp_path / place, "--store", store.objects.uri)
    assert outcome.status == 2
    assert_mentions(outcome.err, tmp_path / place, *facts)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_neither_ray_nor_umap_is_loaded_before_it_is_needed():
    code = "import sys, study.report; sys.exit(bool({'ray', 'optuna', 'umap', 'numba'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
