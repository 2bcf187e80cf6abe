"""Notes of two readers who look at the same trial at the same time."""

import time

import pytest
from playwright.sync_api import expect

from study.store.lease import Lease
from tests.dashboard.browser import WAIT_S, open_view
from tests.study.commands import TINY
from tests.study.report.studies import trial_of, write_study

pytestmark = pytest.mark.nightly

SHOWN_S = 10
"""Limit for a saved note to appear on the page of its author; other pages poll less often."""


def write_note(page, text):
    page.get_by_role("textbox", name="Note on this trial").fill(text)
    page.get_by_role("button", name="Save note").click()


def test_a_draft_survives_the_note_of_another_reader_and_saved_notes_appear_at_once(page, served, browser, tmp_path):
    store = write_study(tmp_path / "runs", TINY, [trial_of([4.0, 4.2], [0.7, 0.8])])
    Lease(store, {"trials": 1})  # this process counts as the run, so the pages poll often
    address = f"{served(store.objects.uri)}/trial?study=tiny&trial=0"
    other_context = browser.new_context()
    other_context.set_default_timeout(WAIT_S * 1000)
    other = other_context.new_page()
    open_view(page, address)
    open_view(other, address)

    draft = page.get_by_role("textbox", name="Note on this trial")
    draft.fill("half of a tho")
    started = time.monotonic()
    write_note(other, "from another reader")
    expect(other.get_by_text("from another reader")).to_be_visible()
    assert time.monotonic() - started < SHOWN_S
    expect(page.get_by_text("from another reader")).to_be_visible()
    expect(draft).to_have_value("half of a tho")

    started = time.monotonic()
    write_note(page, "a whole thought")
    expect(page.get_by_text("a whole thought", exact=True)).to_be_visible()
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    expect(draft).to_have_value("")
    assert time.monotonic() - started < SHOWN_S
    other_context.close()


def test_a_draft_is_kept_while_another_page_is_viewed(page, served, tmp_path):
    trials = [trial_of([4.0, 4.2], [0.7, 0.8]), trial_of([3.0, 3.2], [0.3, 0.5])]
    store = write_study(tmp_path / "runs", TINY, trials)
    open_view(page, f"{served(store.objects.uri)}/trial?study=tiny&trial=0")
    draft = page.get_by_role("textbox", name="Note on this trial")
    draft.fill("half of a tho")
    draft.blur()
    page.get_by_role("link", name="All trials").click()
    expect(page.get_by_role("heading", name="All trials")).to_be_visible()
    page.go_back()
    expect(draft).to_have_value("half of a tho")
