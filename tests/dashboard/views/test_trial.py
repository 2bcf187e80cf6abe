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
def test_incomplete_trials_state_the_reason(store, tmp_path, monkeypatch, trial, facts):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=trial)
    assert_mentions(words(app), *facts)


def test_error_messages_are_shown_verbatim(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=2)
    assert [text.value for text in app.text] == [HOSTILE]


def test_the_configuration_and_all_metrics_are_tables(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0)
    configuration, metrics = (table.value for table in app.dataframe)
    assert configuration.set_index("parameter")["value"]["γ private"] == "1"
    assert metrics.set_index("metric")["mean"]["fidelity/log_mel_rmse_db"] == pytest.approx(4.1)
    labels = metrics.set_index("metric")["label"]
    assert labels["information/timbre/shared"] == "information timbre shared (strong reader)"
    assert labels["probe/timbre/shared"] == "probe timbre shared (lightweight reader)"


def test_stars_and_notes_are_stored_and_notes_are_escaped(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0)
    app = next(button for button in app.button if "Star" in button.label).click().run()
    app.text_area[0].set_value(HOSTILE)
    app = next(button for button in app.button if button.label == "Save note").click().run()
    notes = Notes(store)
    assert notes.read().starred == {0}
    (note,) = notes.read().notes
    assert note.text == HOSTILE
    assert any("\\<img src\\=x" in one.value for one in app.markdown)
    assert "★ Starred" in [button.label for button in app.button]
    assert "0 · complete ★" in app.selectbox(key="one trial").options


def test_missing_latents_are_reported(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0, part="Maps")
    assert_mentions(words(app), "latents", "trial 0", "seed 0")


def test_the_information_heat_map_uses_stored_latents(store, tmp_path, monkeypatch):
    store.write_latents(0, 0, separated())
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0, part="Latents")
    assert [heading.value for heading in app.subheader] == [
        "What readers find in each subspace",
        "Mutual information of latents and factors",
    ]


def test_missing_weights_are_reported_instead_of_players(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0, part="Listen")
    assert_mentions(words(app), "trial 0", "missing")


def test_pruned_trials_have_no_players_and_a_complete_trial_is_suggested(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=1, part="Listen")
    assert_mentions(words(app), "complete", "trial 1", "pruned", 0)


def test_the_first_trial_of_the_address_is_shown(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials="1,0")
    assert app.selectbox(key="one trial").value == 1


@pytest.mark.parametrize("part", ["Overview", "Latents", "Maps", "Listen", "Traverse"])
def test_pages_of_a_started_trial_name_missing_data(store, tmp_path, monkeypatch, part):
    store.append("trials", 1, 99, [{"trial": 3, "state": "running", "error": None, "step": 0, "sampler": "{}"}])
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=3, part=part)
    assert app.selectbox(key="one trial").value == 3
    assert app.info


def test_a_note_that_fails_to_save_stays_in_its_field_with_the_reason(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0)
    app.text_area[0].set_value("worth a second look")
    (tmp_path / "tiny").rename(tmp_path / "away")
    app = next(button for button in app.button if button.label == "Save note").click().run()
    assert_mentions(words(app), "'tiny'", "deleted")
    assert app.text_area[0].value == "worth a second look"


def test_saving_a_note_clears_its_field(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trials=0)
    app.text_area[0].set_value("worth a second look")
    app = next(button for button in app.button if button.label == "Save note").click().run()
    assert "worth a second look" in words(app)
    assert app.text_area[0].value == ""


def test_a_draft_is_kept_while_another_trial_is_viewed(store, tmp_path, monkeypatch):
    app = open_page(monkeypatch, tmp_path, "trial", study="tiny", trial=0)
    app = app.text_area[0].set_value("half of a tho").run()
    app = app.selectbox(key="one trial").select(1).run()
    assert app.text_area[0].value == ""
    app = app.selectbox(key="one trial").select(0).run()
    assert app.text_area[0].value == "half of a tho"
