import pytest

from study.store.notes import Notes
from tests.dashboard.opening import open_page, words
from tests.messages import assert_mentions
from tests.study.report.studies import separated, trial_of, write_study

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)> [click](https://example.com) :red[no]"


@pytest.fixture
def store(tmp_path, tiny):
    trials = [
        trial_of([4.0, 4.2], [0.2, 0.4]),
        trial_of([3.0, 3.2], [0.1, 0.2], "pruned"),
        trial_of([9.0], [0.0], "failed", error=HOSTILE),
    ]
    return write_study(tmp_path, tiny, trials)


@pytest.mark.parametrize(("trial", "facts"), [(1, ["halving", "stopped"]), (2, ["trial", "failed"])])
def test_a_trial_that_did_not_come_to_its_end_says_why(store, tmp_path, monkeypatch, trial, facts):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=trial)
    assert_mentions(words(app), *facts)


def test_an_error_message_is_shown_as_the_text_it_is(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=2)
    assert [text.value for text in app.text] == [HOSTILE]


def test_the_configuration_and_all_metrics_are_tables(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0)
    configuration, metrics = (table.value for table in app.dataframe)
    assert configuration.set_index("parameter")["value"]["γ private"] == "1"
    assert metrics.set_index("metric")["mean"]["fidelity/log_mel_rmse_db"] == pytest.approx(4.1)


def test_a_star_and_a_note_go_into_the_store_and_a_note_is_no_markup(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0)
    app = next(button for button in app.button if "Star" in button.label).click().run()
    app.text_area[0].set_value(HOSTILE)
    app = next(button for button in app.button if button.label == "Save note").click().run()
    notes = Notes(store)
    assert notes.starred() == {0}
    (note,) = notes.of(0)
    assert note.text == HOSTILE
    assert any("\\<img src\\=x" in one.value for one in app.markdown)
    assert "★ Starred" in [button.label for button in app.button]
    assert "0 · complete ★" in app.selectbox(key="one trials").options


def test_latents_that_are_not_there_are_told(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0, part="Maps")
    assert_mentions(words(app), "latents", "trial 0", "seed 0")


def test_the_map_of_information_is_drawn_from_the_latents_in_the_store(store, tmp_path, monkeypatch):
    store.write_latents(0, 0, separated())
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0, part="Latents")
    assert [heading.value for heading in app.subheader] == [
        "What can be read from each subspace",
        "Which latent knows which factor",
    ]


def test_weights_that_are_missing_cannot_be_heard_and_the_page_says_so(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0, part="Listen")
    assert_mentions(words(app), "trial 0", "missing")


def test_a_pruned_trial_cannot_be_heard_and_the_page_names_one_that_can(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=1, part="Listen")
    assert_mentions(words(app), "complete", "trial 1", "pruned", 0)


def test_an_address_of_several_trials_shows_the_first(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials="1,0")
    assert app.selectbox(key="one trials").value == 1


@pytest.mark.parametrize("part", ["Overview", "Latents", "Maps", "Listen", "Traverse"])
def test_a_trial_that_has_just_begun_has_a_page_that_says_what_is_missing(store, tmp_path, monkeypatch, part):
    store.append("trials", 1, 99, [{"trial": 3, "state": "running", "error": None, "step": 0, "sampler": "{}"}])
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=3, part=part)
    assert app.selectbox(key="one trials").value == 3
    assert app.info


def test_a_note_that_cannot_be_written_stays_in_its_field_and_the_reason_is_told(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0)
    app.text_area[0].set_value("worth a second look")
    (tmp_path / "tiny").rename(tmp_path / "away")
    app = next(button for button in app.button if button.label == "Save note").click().run()
    assert_mentions(words(app), "'tiny'", "deleted")
    assert app.text_area[0].value == "worth a second look"


def test_a_note_that_was_written_leaves_an_empty_field(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0)
    app.text_area[0].set_value("worth a second look")
    app = next(button for button in app.button if button.label == "Save note").click().run()
    assert "worth a second look" in words(app)
    assert app.text_area[0].value == ""
