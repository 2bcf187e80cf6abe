import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.errors import UnreadableObject, UserError
from study.storage import ObjectStore
from study.store import StudyStore
from study.store.notes import MAX_TEXT, Notes
from tests.messages import assert_mentions, mentions
from tests.study.s3_server import s3_server

GOOD = {"trial": 3, "kind": "note", "text": "hello", "time": "2026-05-09T14:32:00Z"}


@pytest.fixture
def store(tmp_path):
    return a_study(str(tmp_path))


@pytest.fixture
def notes(store):
    return Notes(store)


def a_study(uri):
    store = StudyStore(ObjectStore(uri), "tiny")
    store.objects.write("tiny/study.json", b"{}")
    return store


def notes_on(notes, trial):
    return [note for note in notes.read().notes if note.trial == trial]


def put(store, content, trial=3, number=0):
    """Write an event as another program might."""
    name = f"notes/{trial}-20260509T143200{number:06d}Z-{number:032x}.json"
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    store.objects.write(f"tiny/{name}", content)
    return name


def test_a_star_is_given_once_and_taken_back(store, notes):
    notes.star(3)
    notes.star(3)
    notes.star(np.int64(5))
    assert notes.read().starred == {3, 5}
    assert len(store.objects.names("tiny/notes")) == 2
    notes.unstar(3)
    notes.unstar(3)
    notes.unstar(4)
    assert Notes(store).read().starred == {5}
    assert len(store.objects.names("tiny/notes")) == 3
    notes.star(3)
    assert Notes(store).read().starred == {3, 5}


def test_notes_are_read_back_oldest_first_by_anybody(store, notes):
    before = datetime.now(UTC)
    first = notes.write(3, "  *sounds* hollow\r\n  above 4 kHz\u2028…  ", author=" Ada \n L. ")
    second = Notes(store).write(3, "agreed")
    elsewhere = notes.write(0, "baseline of the paper")
    assert first.text == "*sounds* hollow\n  above 4 kHz\n…"
    assert first.author == "Ada L."
    assert second.author == ""
    assert before <= first.time <= second.time <= datetime.now(UTC)
    for reader in (notes, Notes(store)):
        assert notes_on(reader, 3) == [first, second]
        assert reader.read().notes == [first, second, elsewhere]
        assert notes_on(reader, 1) == []


def test_a_removed_note_is_shown_no_more_and_its_text_stays_in_the_store(store, notes):
    note, other = notes.write(3, "wrong trial"), notes.write(3, "right trial")
    notes.remove(note)
    notes.remove(note)
    assert Notes(store).read().notes == [other]
    assert b"wrong trial" in store.objects.read(f"tiny/{note.name}")
    assert len(store.objects.names("tiny/notes")) == 3


def test_a_star_given_during_the_removal_of_another_stays_with_any_clocks(store):
    ada, bob = Notes(store), Notes(store)
    ada.star(3)
    ada.unstar(3)
    # From a machine whose clock is years behind.
    put(store, {"trial": 3, "kind": "star", "time": "2020-01-01T00:00:00Z"})
    assert bob.read().starred == {3}
    bob.unstar(3)
    assert ada.read().starred == set()


def test_concurrent_writers_lose_no_notes(store):
    def write(writer):
        own = Notes(store)
        for index in range(10):
            own.write(index, f"{writer}:{index}")
            own.star(index)

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(write, range(4)))
    found = Notes(store).read()
    assert {note.text for note in found.notes} == {f"{writer}:{index}" for writer in range(4) for index in range(10)}
    assert found.starred == set(range(10))


def test_one_reader_may_serve_several_threads(store, notes):
    for number in range(40):
        put(store, GOOD, number=number)
    with ThreadPoolExecutor(4) as readers:
        assert {len(found) for found in readers.map(lambda _: notes.read().notes, range(8))} == {40}


@pytest.mark.parametrize("trial", [-1, "3", 3.0, True, None])
def test_a_trial_that_is_no_number_is_refused(store, notes, trial):
    for act in (notes.star, notes.unstar, lambda number: notes.write(number, "text")):
        with pytest.raises(UserError, match=mentions("trial", "number", 0, repr(trial))):
            act(trial)
    assert not store.objects.names("tiny/notes")


@pytest.mark.parametrize(
    ("text", "author", "facts"),
    [
        (" \n\t ", "", ("note", "empty")),
        ("x" * (MAX_TEXT + 1), "", ("note", 4001, 4000)),
        ("x", "y" * 101, ("author", 101, 100)),
        ("half \ud83d", "", ("characters", "Unicode")),
    ],
)
def test_a_text_that_cannot_be_kept_is_refused(store, notes, text, author, facts):
    with pytest.raises(UserError, match=mentions(*facts)):
        notes.write(3, text, author)
    assert not store.objects.names("tiny/notes")


def test_the_longest_note_is_kept_with_any_characters(store, notes):
    for text in ("x" * MAX_TEXT, "\N{PILE OF POO}" * MAX_TEXT, "\0" * MAX_TEXT, '"' * MAX_TEXT):
        assert notes.write(3, text).text == text
    put(store, json.dumps({**GOOD, "text": "\N{PILE OF POO}" * MAX_TEXT}, ensure_ascii=True).encode())
    assert len(Notes(store).read().notes) == 5


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"", ["JSON"]),
        (json.dumps(GOOD).encode()[:30], ["JSON"]),
        (b"[" * 60_000, ["JSON"]),
        (b"\x80\x04\x95pickle", ["JSON"]),
        (b"[]", ["object"]),
        ({**GOOD, "text": 5}, ["text", "string"]),
        ({**GOOD, "text": "x" * 5000}, ["text", "at most", 4000]),
        ({**GOOD, "author": ["x"]}, ["author", "string"]),
        ({**GOOD, "kind": "praise"}, ["kind", "'star'", "'unstar'", "'note'", "'removed'"]),
        ({**GOOD, "trial": "3"}, ["trial", "integer"]),
        ({**GOOD, "trial": True}, ["trial", "integer"]),
        ({**GOOD, "trial": -3}, ["trial", "greater than or equal to 0"]),
        ({**GOOD, "trial": 4}, ["trial 4", "name"]),
        ({**GOOD, "time": "yesterday"}, ["time", "datetime"]),
        ({**GOOD, "time": 5}, ["time", "datetime"]),
        ({**GOOD, "time": "2026-05-09T14:32:00"}, ["time", "timezone"]),
        ({**GOOD, "time": "9999-12-31T23:59:59-23:00"}, ["time", "range"]),
        ({**GOOD, "of": "all"}, ["of", "array"]),
        ({"trial": 3, "kind": "star"}, ["time"]),
        (b'{"trial": 3, "kind": "note", "text": "\\ud800", "time": "2026-05-09T14:32:00Z"}', ["JSON"]),
        (b" " * 70_000 + json.dumps(GOOD).encode(), ["70,077 bytes", 65_536]),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_damaged_event_is_named_and_skipped_and_no_other_is_lost(store, notes, content, facts):
    kept = notes.write(3, "kept")
    name = put(store, content)
    for reader in (notes, notes, Notes(store)):
        with pytest.warns(UnreadableObject) as named:
            assert reader.read().notes == [kept]
        (message,) = (str(one.message) for one in named)
        assert_mentions(message, f"tiny/{name}", *facts)
        assert len(message) < 500


@pytest.mark.parametrize("name", ["hello.txt", "3-now-1.json", "-1-20260509T143200000000Z-" + "0" * 32 + ".json"])
def test_an_object_that_is_no_event_is_named_and_not_read(store, notes, name):
    store.objects.write(f"tiny/notes/{name}", json.dumps(GOOD).encode())
    with pytest.warns(UnreadableObject, match=mentions(name, "event")):
        assert notes.read().notes == []


def test_an_event_only_revokes_events_of_its_kind_and_trial(store, notes):
    notes.star(3)
    note = notes.write(3, "stays")
    star = next(name.removeprefix("tiny/") for name in store.objects.names("tiny/notes") if name != f"tiny/{note.name}")
    for number, (trial, kind) in enumerate([(3, "note"), (4, "unstar"), (4, "removed"), (3, "unstar")]):
        of = [note.name] if (trial, kind) == (3, "unstar") else [star, note.name, "no such event"]
        put(store, {**GOOD, "trial": trial, "kind": kind, "of": of}, trial=trial, number=number)
    found = Notes(store).read()
    assert 3 in found.starred
    assert note in found.notes


def test_a_study_that_was_deleted_gets_no_notes(store, notes):
    notes.star(3)
    note = notes.write(3, "text")
    store.delete()
    assert not store.objects.names("tiny")
    assert notes.read() == (frozenset(), [])
    for act in (lambda: notes.star(3), lambda: notes.write(3, "text")):
        with pytest.raises(UserError, match=mentions("'tiny'", "deleted")):
            act()
    notes.unstar(3)
    notes.remove(note)
    assert not store.objects.names("tiny")


def test_events_are_read_once(store, notes, monkeypatch):
    lists, reads = [], []
    entries, read_all = store.objects.entries, store.objects.read_all
    monkeypatch.setattr(store.objects, "entries", lambda prefix: (lists.append(prefix), entries(prefix))[1])
    monkeypatch.setattr(store.objects, "read_all", lambda names: (reads.extend(names), read_all(names))[1])
    for number in range(30):
        put(store, GOOD, number=number)
    put(store, b"{", number=30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadableObject)
        for _ in range(3):
            assert len(notes.read().notes) == 30
        assert (len(lists), len(reads)) == (3, 31)
        put(store, GOOD, number=31)
        assert len(notes.read().notes) == 31
    assert (len(lists), len(reads)) == (4, 32)
    notes.write(4, "its own")
    lists.clear(), reads.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadableObject)
        assert len(notes_on(notes, 4)) == 1
    assert (len(lists), len(reads)) == (1, 0)


@settings(max_examples=30, deadline=None)
@given(
    acts=st.lists(
        st.tuples(st.sampled_from(["star", "unstar", "write", "remove"]), st.integers(0, 2), st.integers(0, 1)),
        max_size=12,
    )
)
def test_any_order_of_acts_by_two_people_reads_as_if_one_had_done_them(tmp_path_factory, acts):
    store = a_study(str(tmp_path_factory.mktemp("store")))
    people = [Notes(store), Notes(store)]
    starred, texts = set(), []
    for number, (act, trial, who) in enumerate(acts):
        person = people[who]
        if act == "write":
            person.write(trial, str(number))
            texts.append((trial, str(number)))
        elif act == "remove":
            for note in notes_on(person, trial)[:1]:
                person.remove(note)
                texts.remove((trial, note.text))
        else:
            getattr(person, act)(trial)
            (starred.add if act == "star" else starred.discard)(trial)
    for reader in (*people, Notes(store)):
        assert reader.read().starred == starred
        assert [(note.trial, note.text) for note in reader.read().notes] == texts


@pytest.mark.slow
def test_notes_are_kept_in_a_bucket(tmp_path, monkeypatch):
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = a_study("s3://studies/some/where")
        notes = Notes(store)
        assert notes.read() == (frozenset(), [])
        notes.star(3)
        written = notes.write(3, "in a bucket")
        for number in range(40):
            put(store, {**GOOD, "time": (written.time + timedelta(seconds=1)).isoformat()}, number=number)
        other = Notes(store)
        assert other.read().starred == {3}
        assert notes_on(other, 3)[0] == written
        assert len(other.read().notes) == 41
        notes.unstar(3)
        assert other.read().starred == set()
        store.delete()
        assert other.read() == (frozenset(), [])
