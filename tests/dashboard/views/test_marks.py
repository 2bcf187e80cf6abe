import pytest

from study.store.notes import Notes
from tests.dashboard.opening import open_page, words
from tests.messages import assert_mentions
from tests.study.report.studies import FIDELITY, SEPARATION, trial_of, write_study

pytestmark = pytest.mark.slow

TRIALS = [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([5.0, 5.2], [0.1, 0.2]), trial_of([3.0, 3.2], [0.3, 0.5])]
HOSTILE = "<img src=x onerror=alert(1)> **bold**"


@pytest.fixture
def notes(tmp_path, tiny):
    return Notes(write_study(tmp_path, tiny, TRIALS))


@pytest.fixture
def opened(notes, tmp_path, monkeypatch):
    """Function that opens the page with values in its address."""
    return lambda **address: open_page(monkeypatch, tmp_path, "marks", study="tiny", **address)


def texts(app, *choices):
    """Return which of the texts are on the page, in the order of the page."""
    page = words(app)
    return sorted((text for text in choices if text in page), key=page.index)


def test_a_study_without_stars_and_notes_says_where_they_are_given(opened):
    app = opened()
    assert_mentions(app.info[0].value, "star", "note", "page of a trial")
    assert not app.dataframe


def test_starred_trials_are_listed_with_their_objectives_and_intervals(opened, notes):
    notes.star(2)
    notes.star(0)
    app = opened()
    rows = app.dataframe[0].value.set_index("trial")
    assert set(rows.index) == {0, 2}
    assert rows[SEPARATION].round(9).to_dict() == {0: 0.3, 2: 0.4}
    assert rows.loc[0, f"{FIDELITY}/ci"] == pytest.approx(0.6314, abs=1e-4)
    assert "Stars (2)" in [heading.value for heading in app.subheader]


def test_notes_are_listed_newest_first_with_their_authors(opened, notes):
    notes.write(1, "the oldest", "Ada")
    notes.write(0, "the newest")
    app = opened()
    assert texts(app, "the oldest", "the newest") == ["the newest", "the oldest"]
    assert_mentions(words(app), "Ada", "just now")


def test_notes_are_found_by_text_or_author_without_case(opened, notes):
    notes.write(1, "Clean attack", "Ada")
    notes.write(0, "muddy bass", "Grace")
    assert texts(opened(words="CLEAN"), "Clean attack", "muddy bass") == ["Clean attack"]
    assert texts(opened(words="grace"), "Clean attack", "muddy bass") == ["muddy bass"]
    assert texts(opened(words="violin"), "Clean attack", "muddy bass") == []


def test_a_typed_search_goes_into_the_address(opened, notes):
    notes.write(1, "Clean attack")
    app = opened()
    app.text_input(key="text words").set_value("clean").run()
    assert dict(app.query_params) == {"study": "tiny", "words": "clean"}


def test_a_removed_note_is_gone_from_the_page_and_the_store(opened, notes):
    notes.write(1, "keep this")
    notes.write(0, "remove this")
    app = opened()
    next(button for button in app.button if button.label == "Remove").click().run()  # the newest
    assert texts(app, "keep this", "remove this") == ["keep this"]
    assert [note.text for note in notes.read().notes] == ["keep this"]


def test_notes_and_authors_are_escaped(opened, notes):
    notes.write(1, HOSTILE, HOSTILE)
    shown = [one.value for one in [*opened().markdown, *opened().caption] if "img" in one.value]
    assert len(shown) == 2
    assert all("\\<img" in text and "\\*\\*bold" in text for text in shown)
