"""Views in a real browser: each page from its address, leakage by reader, ranges of parameters, zoom and hover."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import marks, open_view, position_of, serve, wait_until_drawn
from tests.study.commands import TINY
from tests.study.report.studies import FIDELITY, SEPARATION, separated, trial_of, write_study

pytestmark = pytest.mark.nightly

GAMMAS = [0.1, 0.5, 1.0, 2.0, 5.0, 8.0, 0.2, 0.3, 0.15]
FIDELITIES = [3.0, 3.5, 4.0, 4.5, 5.0, 60.0, 4.1, 4.2, 4.3]
SEPARATIONS = [0.1, 0.3, 0.5, 0.6, 0.7, 0.05, 0.4, 0.45, 0.2]
OUTLIER = 5


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Address of a study with nine trials, one of them far from the front."""
    trials = [
        trial_of(
            [fidelity, fidelity + 0.2],
            [separation, separation + 0.1],
            config={"loss.private.gamma": gamma, "latent.private": 2, "contrast.strategy": "none"},
        )
        for fidelity, separation, gamma in zip(FIDELITIES, SEPARATIONS, GAMMAS, strict=True)
    ]
    store = tmp_path_factory.mktemp("store")
    study = write_study(store, TINY | {"name": "known"}, trials, log=["trial 0 started", "trial 1 failed: no memory"])
    for trial in range(len(trials)):
        study.write_latents(trial, 0, separated())
    with serve(store) as url:
        yield url


# Each address has values that are not the defaults of the page, and a text of the page that shows one of them.
VIEWS = {
    "trials?study=known&filter=trial > 3&trials=4": "5 of 9 trials",
    f"trade-off?study=known&trials=1,2&x={SEPARATION}&y={FIDELITY}&all=1": "Selected trials (2)",
    "overview?study=known": "marl-study resume known",
    "trial?study=known&trial=4&part=Latents": "Trial 4",
    "compare?study=known&trials=1,3": "3 · complete",
    "leakage?study=known&trial=2&reader=lightweight": "The lightweight reader",
    "marks?study=known": "No trial has a star or a note yet",
    "export?study=known&trials=2,4": "trial 4",
    f"search?study=known&metric={SEPARATION}&within=loss.private.gamma:0:0.6": "within all ranges",
    "ablation?study=known": "Ablation",
    "timeline?study=known": "Timeline",
    "log?study=known&contains=memory": "trial 1 failed: no memory",
    "across?studies=known": "Compare studies",
}


def test_an_address_reproduces_the_view_of_each_page_and_stays_as_it_is(page, url):
    problems = []
    for view, text in VIEWS.items():
        open_view(page, f"{url}/{view}")
        main = page.get_by_test_id("stMain")
        if not main.get_by_text(re.compile(re.escape(text), re.IGNORECASE)).first.is_visible():
            problems.append(f"{view}: {text!r} is missing in {main.inner_text()[:600]!r}")
        address = page.evaluate("decodeURIComponent(location.href)").replace("+", " ")
        if address != f"{url}/{view}":
            problems.append(f"{view}: became {address}")
    assert not problems, "\n".join(problems)


def test_the_reader_of_the_leakage_matrices_is_chosen_and_kept_in_the_address(page, url):
    open_view(page, f"{url}/leakage?study=known&trial=1")
    chart = page.get_by_test_id("stVegaLiteChart").first
    assert {round(mark.datum["share"], 3) for mark in marks(chart, "rect") if "share" in mark.datum} == {0.4, 0.6}
    page.get_by_role("radio", name="lightweight").click()
    expect(page).to_have_url(re.compile("reader=lightweight"))
    expect(page.get_by_text("The lightweight reader is the small network")).to_be_visible()
    # Timbre has four classes: accuracies of 0.5 and 0.75 are a third and two thirds of the way from chance.
    timbre = [mark.datum for mark in marks(chart, "rect") if mark.datum.get("factor") == "timbre"]
    shares = {row["subspace"]: round(row["share"], 3) for row in timbre if row["model"] == "trial 1"}
    assert shares == {"private": 0.333, "shared": 0.667}


def drag(page: Page, chart, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag the mouse from one position on a chart to another."""
    box = chart.bounding_box()
    page.mouse.move(box["x"] + start[0], box["y"] + start[1])
    page.mouse.down()
    page.mouse.move(box["x"] + end[0], box["y"] + end[1], steps=8)
    page.mouse.up()


def test_a_range_dragged_on_an_axis_selects_the_trials_within(page, url):
    open_view(page, f"{url}/search?study=known")
    chart = page.get_by_test_id("stVegaLiteChart").nth(1)
    chart.scroll_into_view_if_needed()
    low, high = (position_of(chart, {"axis": "loss.private.gamma", "trial": trial}) for trial in (2, 4))
    drag(page, chart, (low["x"] - 12, low["y"] + 6), (low["x"] + 12, high["y"] - 6))
    expect(page).to_have_url(re.compile("within=loss.private.gamma"))
    expect(page.get_by_text("3 of 9 trials are within all ranges")).to_be_visible()
    page.get_by_role("link", name="Select them").click()
    expect(page).to_have_url(re.compile(r"/trials\?.*trials=2%2C3%2C4"))
    wait_until_drawn(page)
    page.go_back()
    wait_until_drawn(page)
    page.get_by_role("button", name="Clear the ranges").click()
    expect(page.get_by_text("within all ranges")).to_have_count(0)


def test_an_outlier_is_left_out_until_all_trials_are_shown(page, url):
    open_view(page, f"{url}/trade-off?study=known")
    chart = page.get_by_test_id("stVegaLiteChart").first
    drawn = {mark.datum["trial"] for mark in marks(chart)}
    assert drawn >= {0, 1, 2, 3, 4}
    assert OUTLIER not in drawn
    page.get_by_role("button", name="Show all trials").click()
    expect(page.get_by_role("button", name="Zoom to the front")).to_be_visible()
    assert OUTLIER in {mark.datum["trial"] for mark in marks(chart)}
    page.get_by_role("button", name="Zoom to the front").click()
    expect(page.get_by_role("button", name="Show all trials")).to_be_visible()
    assert OUTLIER not in {mark.datum["trial"] for mark in marks(chart)}


def test_hovering_over_a_trial_fades_the_others(page, url):
    open_view(page, f"{url}/trade-off?study=known&all=1")
    chart = page.get_by_test_id("stVegaLiteChart").first
    chart.hover(position=position_of(chart, {"trial": 3}))
    expect(page.locator("#vg-tooltip-element")).to_be_visible()
    opacity = {mark.datum["trial"]: mark.opacity for mark in marks(chart) if mark.datum.get("final")}
    assert opacity.pop(3) == 1
    assert set(opacity.values()) == {0.25}
