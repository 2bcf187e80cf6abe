"""The table of all trials in a real browser: sort, filter, select, follow to other pages, and go back."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import open_view, serve, wait_until_drawn
from tests.study.commands import TINY
from tests.study.report.studies import FIDELITY, trial_of, write_study

pytestmark = pytest.mark.nightly

FIDELITIES = [9.0, 10.0, 2.0, 30.0]
LAST = [3, 1, 0, 2]  # trials, highest error first; as text, 9 would be the highest
# The drawing of the table has headings and rows of one height, below each other, and a box at the left of each row.
ROW_HEIGHT, BOX_X = 33, 16
SOON_MS = 10_000  # timeout of what is expected to fail


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Address of the table with one metric, of a study with known errors."""
    store = tmp_path_factory.mktemp("store")
    write_study(store, TINY | {"name": "known"}, [trial_of([value, value], [0.2, 0.4]) for value in FIDELITIES])
    with serve(store) as url:
        yield f"{url}/trials?study=known&columns={FIDELITY}"


def table(page: Page):
    return page.get_by_test_id("stDataFrame")


def selected_rows(page: Page):
    """Return the first cells of the rows that are drawn as selected."""
    return table(page).locator("tbody tr[aria-selected=true] td:first-child")


def expect_trials(page: Page, trials: list[int]) -> None:
    """Wait until the table has these trials in this order."""
    cells = table(page).locator("td[data-testid^=glide-cell-1-]")
    expect(cells).to_have_text(list(map(str, trials)))


def expect_selected(page: Page, trials: list[int]) -> None:
    """Wait until the rows of these trials, in the order of the table, are drawn as selected."""
    expect(selected_rows(page)).to_have_text(list(map(str, trials)))


def click_box(page: Page, row: int) -> None:
    """Click the box of a row of the table, counted from 0."""
    wait_until_drawn(page)
    table(page).click(position={"x": BOX_X, "y": ROW_HEIGHT * (row + 1.5)})


def sort_by_metric(page: Page) -> None:
    wait_until_drawn(page)
    middle = table(page).bounding_box()["width"] / 2
    table(page).click(position={"x": middle, "y": ROW_HEIGHT / 2})


def type_filter(page: Page, text: str) -> None:
    field = page.get_by_role("textbox", name="Filter")
    field.fill(text)
    field.press("Enter")


def test_a_click_on_a_heading_sorts_by_number_and_rows_keep_their_trials(page, url):
    open_view(page, url)
    expect_trials(page, [0, 1, 2, 3])
    sort_by_metric(page)
    expect_trials(page, LAST[::-1])
    sort_by_metric(page)
    expect_trials(page, LAST)
    click_box(page, 0)
    expect(page).to_have_url(re.compile(r"[?&]trials=3(&|$)"))
    expect_selected(page, [3])
    expect_trials(page, LAST)  # a selection does not undo the order


def test_selected_trials_are_compared_and_exported(page, url):
    open_view(page, url)
    for row in (3, 1):
        click_box(page, row)
        wait_until_drawn(page)
    expect(page.get_by_text("2 selected")).to_be_visible()
    expect_selected(page, [1, 3])
    view = page.url
    for name, path in (("Compare", "compare"), ("Export", "export")):
        open_view(page, view)
        page.get_by_test_id("stMain").get_by_role("link", name=name, exact=True).click()
        expect(page).to_have_url(re.compile(rf"/{path}\?study=known&trials=(1%2C3|3%2C1)$"))
        wait_until_drawn(page)
        main = page.get_by_test_id("stMain")
        for trial in (1, 3):
            expect(main.get_by_text(re.compile(rf"(trial |^){trial}\b", re.IGNORECASE)).first).to_be_visible()


def test_a_trial_is_opened(page, url):
    open_view(page, f"{url}&trials=3")
    page.get_by_role("link", name="Open trial 3").click()
    expect(page).to_have_url(re.compile(r"/trial\?study=known&trial=3&trials=3$"))


def test_an_address_reproduces_filter_columns_and_selection(page, url):
    open_view(page, url)
    type_filter(page, "log-mel RMSE (dB) > 5")
    expect_trials(page, [0, 1, 3])
    click_box(page, 2)
    expect(page).to_have_url(re.compile("trials=3"))
    again = page.context.new_page()
    open_view(again, page.url)
    expect_trials(again, [0, 1, 3])
    expect_selected(again, [3])
    expect(again.get_by_role("textbox", name="Filter")).to_have_value("log-mel RMSE (dB) > 5")
    expect(table(again).locator("th")).to_have_text(["Trial", "log-mel RMSE (dB)", "±"])


def test_back_undoes_one_filter_at_each_press_and_forward_restores_it(page, url):
    open_view(page, url)
    for text, trials in (("trial > 0", [1, 2, 3]), ("trial > 1", [2, 3])):
        type_filter(page, text)
        expect_trials(page, trials)
        wait_until_drawn(page)
    page.go_back()
    expect_trials(page, [1, 2, 3])
    wait_until_drawn(page)
    page.go_back()
    expect_trials(page, [0, 1, 2, 3])
    expect(page.get_by_role("textbox", name="Filter")).to_have_value("")
    wait_until_drawn(page)
    page.go_forward()
    expect_trials(page, [1, 2, 3])
    expect(page.get_by_role("textbox", name="Filter")).to_have_value("trial > 0")


def test_back_undoes_a_selection(page, url):
    open_view(page, url)
    click_box(page, 2)
    expect(page).to_have_url(re.compile("trials=2$"))
    expect(page.get_by_text("1 selected")).to_be_visible()
    wait_until_drawn(page)
    page.go_back()
    expect(page.get_by_text("1 selected")).to_have_count(0, timeout=SOON_MS)
    expect(selected_rows(page)).to_have_count(0, timeout=SOON_MS)


def test_a_cleared_selection_is_not_drawn(page, url):
    open_view(page, f"{url}&trials=1,2")
    expect_selected(page, [1, 2])
    page.get_by_role("button", name="Clear the selection").click()
    expect(page.get_by_text("2 selected")).to_have_count(0)
    expect(selected_rows(page)).to_have_count(0, timeout=SOON_MS)


# Streamlit's `switch_page`, in a button, writes the query of the new page to the address of the old one first.
def test_back_from_another_page_returns_to_the_view(page, url):
    open_view(page, f"{url}&trials=3&filter=trial>0")
    before = page.url
    page.get_by_test_id("stMain").get_by_role("link", name="Compare", exact=True).click()
    expect(page).to_have_url(re.compile("/compare"))
    wait_until_drawn(page)
    page.go_back()
    expect(page).to_have_url(re.compile("/trials"))
    wait_until_drawn(page)
    assert page.url == before


def test_selected_trials_that_a_filter_hides_stay_selected(page, url):
    open_view(page, f"{url}&trials=3&filter=trial<2")
    click_box(page, 0)
    expect(page).to_have_url(re.compile(r"trials=(\d+%2C)?0(%2C|&|$)"))
    assert re.search("trials=(3%2C0|0%2C3)", page.url)
