"""The dashboard in a real browser."""

import io
import re
from base64 import b64encode
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
from playwright.sync_api import expect

from tests.dashboard.browser import click_point, decoded_audio, marks, open_view, position_of, serve
from tests.study.commands import TINY
from tests.study.report.studies import trial_of, write_study

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Address of a study with three trials: two on the front, one dominated."""
    store = tmp_path_factory.mktemp("store")
    trials = [trial_of([4.0, 4.2], [0.7, 0.8]), trial_of([3.0, 3.2], [0.3, 0.5]), trial_of([4.9, 5.0], [0.2, 0.25])]
    write_study(store, TINY | {"name": "known"}, trials)
    with serve(store) as url:
        yield f"{url}/trade-off?study=known"


@pytest.fixture
def chart(page, url):
    open_view(page, url)
    return page.get_by_test_id("stVegaLiteChart").first


def test_the_trade_off_chart_has_a_point_for_each_trial(page, chart):
    expect(page.get_by_role("heading", name="Trade-off")).to_be_visible()
    expect(page.get_by_text("known", exact=True)).to_be_visible()
    assert {mark.datum["trial"] for mark in marks(chart)} >= {0, 1, 2}


def test_hovering_shows_the_trial_number(page, chart):
    for trial in (0, 1, 2):
        chart.hover(position=position_of(chart, {"trial": trial}))
        expect(page.locator("#vg-tooltip-element tr").filter(has_text="trial")).to_have_text(f"trial{trial}")


def test_clicking_a_point_adds_its_trial_to_the_address(page, chart):
    click_point(chart, trial=1)
    expect(page).to_have_url(re.compile("trials=1$"))


def test_the_page_follows_the_dark_color_scheme(page, url):
    page.emulate_media(color_scheme="dark")
    open_view(page, url)
    colour = page.get_by_test_id("stApp").evaluate("app => getComputedStyle(app).backgroundColor")
    assert max(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) < 64


def test_the_page_makes_no_external_requests(page, url):
    hosts = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    open_view(page, url)
    assert hosts == {"localhost"}


def test_the_browser_decodes_the_written_samples(page):
    samples_CN = np.stack([np.sin(np.arange(1000) / 7), np.linspace(-1, 0.5, 1000)]).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, samples_CN.T, 11025, format="WAV", subtype="FLOAT")
    page.set_content(f'<audio src="data:audio/wav;base64,{b64encode(file.getvalue()).decode()}"></audio>')
    heard = decoded_audio(page.locator("audio"))
    assert heard.sample_rate_hz == 11025
    np.testing.assert_array_equal(heard.samples_CN, samples_CN)


def test_dragging_an_area_selects_its_trials(page, chart):
    first, second = (position_of(chart, {"trial": trial}) for trial in (0, 1))
    box = chart.bounding_box()
    left, right = sorted((first["x"], second["x"]))
    top, bottom = sorted((first["y"], second["y"]))
    page.mouse.move(box["x"] + left - 15, box["y"] + top - 15)
    page.mouse.down()
    page.mouse.move(box["x"] + right + 15, box["y"] + bottom + 15, steps=8)
    page.mouse.up()
    expect(page.get_by_role("heading", name="Selected trials (2)")).to_be_visible()


def test_shift_click_adds_a_trial(page, chart):
    click_point(chart, trial=1)
    expect(page.get_by_role("heading", name="Selected trials (1)")).to_be_visible()
    chart.click(position=position_of(chart, {"trial": 0}), modifiers=["Shift"])
    expect(page.get_by_role("heading", name="Selected trials (2)")).to_be_visible()
