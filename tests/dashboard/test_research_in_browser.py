"""Flows of a researcher in a real browser: select, listen, limit, export; and a study that is running."""

import io
import re
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Error, expect

from study.export.audition import COMPARISON, Audition, wav_files
from study.store.lease import Lease
from study.store.notes import Notes
from study.store.writer import StudyWriter
from tests.dashboard.browser import WAIT_S, click_point, decoded_audio, marks, open_view
from tests.study.commands import TINY, run_command
from tests.study.faulty_s3 import faulty_s3
from tests.study.report.studies import separated, trial_of, write_study
from tests.study.s3_server import s3_server


@pytest.mark.slow
def test_a_trial_is_selected_auditioned_and_exported(page, served, finished, tmp_path):
    url = served(finished.store.objects.uri)
    open_view(page, f"{url}/trade-off?study=tiny")
    trial = int(finished.front()["trial"].iloc[0])
    click_point(page.get_by_test_id("stVegaLiteChart").first, trial=trial)
    expect(page.get_by_role("heading", name="Selected trials (1)")).to_be_visible()

    page.get_by_role("link", name="Trial", exact=True).click()
    expect(page).to_have_url(re.compile(rf"/trial\?study=tiny&trials={trial}$"))
    page.get_by_text("Listen", exact=True).click()
    page.get_by_text("Match loudness").click()
    players = page.locator("audio")
    expect(players.nth(len(COMPARISON) - 1)).to_be_attached()
    heard = [decoded_audio(players.nth(place)) for place in range(len(COMPARISON))]
    audition = Audition.of(finished, trial, 0)
    titles = page.locator(".sounds-head strong")
    clip = int(re.search(r"\(clip (\d+)\)", titles.first.inner_text())[1])
    other = int(re.search(r"\(clip (\d+)\)", titles.last.inner_text())[1])
    assert heard[0].sample_rate_hz == 16_000
    np.testing.assert_allclose(heard[0].samples_CN[0], audition.original(clip).waveform_S, atol=1e-3)
    written = wav_files(list(audition.compare(clip, other).values()))
    for file, sound in zip(written, heard, strict=True):
        np.testing.assert_allclose(sound.samples_CN[0], soundfile.read(io.BytesIO(file))[0], atol=1e-4)
    # The swap differs from the reconstruction, and no sound is silent.
    assert np.abs(heard[1].samples_CN - heard[2].samples_CN).max() > 1e-3
    assert all(np.abs(one.samples_CN).max() > 1e-3 for one in heard)

    page.get_by_role("link", name="Export").last.click()
    page.get_by_role("button", name="Prepare the download").click()
    button = page.get_by_role("button", name=re.compile("Download 1 model"))
    with page.expect_download() as caught:
        button.click()
    with zipfile.ZipFile(caught.value.path()) as archive:
        archive.extractall(tmp_path / "models")
    (bundle,) = (tmp_path / "models").iterdir()
    assert bundle.name.startswith(f"tiny-trial-{trial}-seed-")
    verified = run_command("verify", bundle)
    assert verified.status == 0, verified.err


@pytest.fixture
def known(tmp_path):
    trials = [trial_of([4.0, 4.2], [0.7, 0.8]), trial_of([3.0, 3.2], [0.3, 0.5]), trial_of([4.9, 5.0], [0.2, 0.25])]
    return write_study(tmp_path / "runs", TINY, trials)


@pytest.mark.nightly
def test_limits_filter_trials_and_the_address_restores_the_view(page, served, known):
    url = served(known.objects.uri)
    open_view(page, f"{url}/trade-off?study=tiny&limited=fidelity/log_mel_rmse_db&colour=contrast.strategy")
    slider = page.get_by_role("slider", name="log-mel RMSE (dB) at most")
    slider.focus()
    slider.press("Home")
    expect(page.get_by_text("1 of 3 trials have values of both metrics")).to_be_visible()
    address = page.url
    assert "limit" in address

    again = page.context.new_page()
    open_view(again, address)
    expect(again.get_by_text("1 of 3 trials have values of both metrics")).to_be_visible()
    drawn = {mark.datum["trial"] for mark in marks(again.get_by_test_id("stVegaLiteChart").first)}
    assert {trial for trial in drawn if trial is not None} == {1}
    expect(again.get_by_role("combobox", name="Colour")).to_be_visible()


@pytest.mark.nightly
def test_a_running_study_is_redrawn_and_the_selection_stays(page, served, known):
    writer = StudyWriter(known, trials=5)  # this process counts as the run, which is live
    writer.add("trials", {"trial": 3, "state": "running", "error": None, "step": 0, "sampler": "{}"})
    writer.flush()
    open_view(page, f"{served(known.objects.uri)}/trade-off?study=tiny&trials=1")
    expect(page.get_by_text("3 complete, 1 running, of 5")).to_be_visible()
    page.get_by_test_id("stMain").evaluate("main => { main.scrollTop = 300; window.stays = 1; }")
    for seed in (0, 1):
        metrics = {"fidelity/log_mel_rmse_db": 2.0, "disentanglement/separation": 0.9}
        writer.add("reports", {"trial": 3, "seed": seed, "step": 30, "metric_version": 1} | metrics)
    writer.add("trials", {"trial": 3, "state": "complete", "error": None, "step": 30, "sampler": "{}"})
    writer.flush()
    expect(page.get_by_text("4 complete, of 5")).to_be_visible()
    chart = page.get_by_test_id("stVegaLiteChart").first
    assert {mark.datum["trial"] for mark in marks(chart)} >= {0, 1, 2, 3}
    expect(page.get_by_role("heading", name="Selected trials (1)")).to_be_visible()
    assert page.evaluate("window.stays") == 1  # the page was not reloaded
    assert page.get_by_test_id("stMain").evaluate("main => main.scrollTop") > 200
    writer.finish()


@pytest.mark.nightly
def test_an_outage_is_reported_and_the_page_recovers(page, served, known, tmp_path):
    # This process counts as the run, so the page polls often. It writes no further rows.
    Lease(known, {"trials": 5})
    open_view(page, f"{served(known.objects.uri)}/trade-off?study=tiny")
    (tmp_path / "runs").rename(tmp_path / "away")
    expect(page.get_by_text("The store cannot be read: ")).to_be_visible()
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
    (tmp_path / "away").rename(tmp_path / "runs")
    expect(page.get_by_text("The store cannot be read: ")).to_have_count(0)


@pytest.mark.nightly
def test_an_outage_of_s3_is_reported_and_the_page_recovers(page, served, tmp_path, monkeypatch):
    trials = [trial_of([4.0, 4.2], [0.7, 0.8]), trial_of([3.0, 3.2], [0.3, 0.5])]
    with s3_server(tmp_path / "buckets") as server, faulty_s3(server) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        Lease(write_study("s3://studies/runs", TINY, trials), {"trials": 2})
        open_view(page, f"{served('s3://studies/runs')}/trade-off?study=tiny")
        proxy.status = 503
        expect(page.get_by_text("The store cannot be read: store s3://studies/runs: ")).to_be_visible()
        expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
        proxy.status = None
        expect(page.get_by_text("The store cannot be read: ")).to_have_count(0)
        expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()


@pytest.mark.nightly
def test_playback_continues_while_the_page_refreshes(page, served, finished):
    trial = int(finished.front()["trial"].iloc[0])
    open_view(page, f"{served(finished.store.objects.uri)}/trial?study=tiny&trials={trial}&part=Listen")
    player = page.locator("audio").first
    player.evaluate("player => { player.loop = true; player.muted = true; player.kept = 1; return player.play(); }")
    # A star by another user changes the study, so the next poll redraws the page.
    Notes(finished.store).star(trial)
    expect(page.get_by_role("button", name="Starred")).to_be_visible()
    assert player.evaluate("player => player.kept === 1 && !player.paused")


@pytest.mark.nightly
def test_a_moved_latent_changes_the_sound_and_the_address(page, served, finished):
    trial = int(finished.front()["trial"].iloc[0])
    open_view(page, f"{served(finished.store.objects.uri)}/trial?study=tiny&trials={trial}&part=Traverse")
    own, moved = page.locator("audio").nth(0), page.locator("audio").nth(1)
    expect(moved).to_be_attached()
    np.testing.assert_array_equal(decoded_audio(own).samples_CN, decoded_audio(moved).samples_CN)
    source = moved.evaluate("player => player.currentSrc")
    slider = page.get_by_role("slider", name="shared/0")
    slider.focus()
    slider.press("End")
    expect(page).to_have_url(re.compile("shared%2F0="))
    page.wait_for_function(
        "source => document.querySelectorAll('audio')[1].currentSrc !== source", arg=source, timeout=WAIT_S * 1000
    )
    assert np.abs(decoded_audio(own).samples_CN - decoded_audio(moved).samples_CN).max() > 1e-3


# In descending order, so that elements that do not shrink overflow.
WIDTHS = (1920, 1280, 768)
# Wider charts scroll.
_BEYOND = """main => [...main.querySelectorAll("svg.marks, canvas.marks, [data-testid=stDataFrame], img, audio")]
    .filter(one => one.checkVisibility())
    .filter(one => getComputedStyle(one.closest("[data-testid=stVegaLiteChart]") || one).overflowX !== "auto")
    .filter(one => one.getBoundingClientRect().right > main.getBoundingClientRect().right + 1)
    .map(one => one.outerHTML.slice(0, 80))"""


@pytest.mark.nightly
def test_no_element_overflows_at_any_width(page, served, known):
    url = served(known.objects.uri)
    known.write_latents(0, 0, separated())
    views = ["", *(f"{view}?study=tiny" for view in ("trade-off", "trial", "compare", "ablation", "search"))]
    for view in [*views, "trial?study=tiny&trials=0&part=Latents"]:
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        open_view(page, f"{url}/{view}")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            with suppress(Error):  # the assertion below names the element
                page.wait_for_function(f"({_BEYOND})(document.querySelector('[data-testid=stMain]')).length === 0")
            assert page.get_by_test_id("stMain").evaluate(_BEYOND) == [], f"{view} at {width} pixels"
