import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from study.search.sampler import PastTrial, Search
from study.spec import Parameter, active_parameters, grid, parse_spec
from study.spec.resolve import resolve
from tests.messages import mentions

SAMPLERS = ["tpe", "nsga2", "gp", "qmc", "random", "grid"]


def spec_of(tiny, sampler, **fields):
    search = {"sampler": sampler, "seed": 3}
    if sampler == "grid":
        tiny["space"] = {
            "latent.private": {"int": [2, 4]},
            "contrast.strategy": {"choice": ["none", "infonce"]},
            "contrast.temperature": {"choice": [0.1, 0.5], "when": {"contrast.strategy": "infonce"}},
        }
    else:
        search["trials"] = 40
    return resolve(parse_spec({**tiny, "search": search, **fields}, "spec")).spec


def values_of(number: int) -> list[float]:
    """Made-up values of the two objectives."""
    return [5 - (number * 7 % 11) / 3, (number * 5 % 13) / 13]


def run(search, numbers):
    """Ask and tell; every fifth trial is pruned, every seventh fails."""
    past = []
    for number in numbers:
        parameters = search.ask(number)
        state, values = "complete", values_of(number)
        if number % 7 == 6:
            search.tell(number, "failed")
            state, values = "failed", None
        elif number % 5 == 4:
            search.tell(number, "pruned")
            state, values = "pruned", None
        else:
            search.tell(number, "complete", values)
        past.append(PastTrial(number, state, parameters, values, search.attributes(number)))
    return past


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_lie_in_the_space_and_hold_just_the_active_parameters(tiny, sampler):
    spec = spec_of(tiny, sampler)
    for trial in run(Search(spec), range(9)):
        assert list(trial.parameters) == active_parameters(spec.space, trial.parameters)
        assert all(spec.space[name].contains(value) for name, value in trial.parameters.items())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_resumed_from_the_store_continues_like_an_uninterrupted_one(tiny, sampler):
    spec = spec_of(tiny, sampler)
    uninterrupted = run(Search(spec), range(9))
    taken_up = run(Search(spec, uninterrupted[:6]), range(6, 9))
    assert taken_up == uninterrupted[6:]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_configuration_comes_twice_even_after_taking_up_again_and_again(tiny, sampler):
    spec = spec_of(tiny, sampler)
    past = []
    for number in range(9):
        past += run(Search(spec, past), [number])
    seen = [tuple(sorted(trial.parameters.items())) for trial in past]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("sampler", ["qmc", "random", "grid"])
def test_points_of_these_samplers_are_functions_of_the_trials_number(tiny, sampler):
    spec = spec_of(tiny, sampler)
    forwards = {number: Search(spec).ask(number) for number in range(6)}
    search = Search(spec)
    backwards = {number: search.ask(number) for number in reversed(range(6))}
    assert forwards == backwards


def test_quasi_random_points_fill_the_space_more_evenly_than_chance(tiny):
    tiny["space"] = {"loss.private.gamma": {"uniform": [0, 1]}, "loss.shared.gamma": {"uniform": [0, 1]}}
    search = Search(spec_of(tiny, "qmc"))
    points = [search.ask(number) for number in range(16)]
    for name in tiny["space"]:  # Sobol: sixteen points have one in each sixteenth
        assert sorted(int(point[name] * 16) for point in points) == list(range(16))


def test_the_samplers_learn(tiny):
    """After many trials of which low gamma is best, model-based samplers propose lower gamma than chance does."""
    tiny["space"] = {"loss.private.gamma": {"uniform": [0, 1]}}
    tiny["objectives"] = {"fidelity/log_mel_rmse_db": "min"}
    for sampler in ("tpe", "gp"):
        search = Search(spec_of(tiny, sampler))
        for number in range(20):
            search.tell(number, "complete", [search.ask(number)["loss.private.gamma"]])
        late = [search.ask(number)["loss.private.gamma"] for number in range(20, 26)]
        assert sum(late) / len(late) < 0.35, sampler


def test_after_many_trials_tpe_learns_from_the_front_and_the_latest_and_can_be_taken_up(tiny, monkeypatch):
    monkeypatch.setattr("study.search.sampler._MAX_TPE_TRIALS", 8)
    spec = spec_of(tiny, "tpe")
    search = Search(spec)
    past = run(search, range(20))
    search.ask(20)
    front = {trial.number for trial in search._study.best_trials}
    latest = [trial.number for trial in past if trial.number not in front][len(front) - 8 :]
    assert search._trials_to_learn_from() == {*front, *latest}
    with search._storage.limited_to({*front, *latest}):
        assert [trial.number for trial in search._study.get_trials()] == sorted({*front, *latest})
    assert len(search.trials()) == 21
    search.tell(20, "complete", values_of(20))
    assert search.trials()[20].values == values_of(20)
    assert run(Search(spec, past[:15]), range(15, 20)) == past[15:]


def test_directions_follow_the_objectives(tiny):
    tiny["objectives"] = {"disentanglement/separation": "max", "fidelity/log_mel_rmse_db": "min"}
    search = Search(spec_of(tiny, "random"))
    for number, values in enumerate([[0.1, 5.0], [0.2, 5.0], [0.2, 4.0]]):
        search.ask(number)
        search.tell(number, "complete", values)
    assert [trial.number for trial in search._study.best_trials] == [2]


def test_pruned_and_failed_trials_have_no_value_that_could_steer_the_search(tiny):
    search = Search(spec_of(tiny, "tpe"))
    run(search, range(10))
    states = [trial.state for trial in search.trials()]
    assert states.count(TrialState.FAIL) == 1
    assert states.count(TrialState.PRUNED) == 2
    assert all(trial.values is None for trial in search.trials() if trial.state is not TrialState.COMPLETE)


def test_included_configurations_come_first(tiny):
    included = {"loss.private.gamma": 1.5, "latent.private": 4, "contrast.strategy": "none"}
    spec = spec_of(tiny, "qmc", include=[included])
    assert Search(spec).ask(0) == included
    assert Search(spec).ask(1) != included


def test_a_grid_runs_included_cells_and_then_every_cell(tiny):
    spec = spec_of(tiny, "grid")
    assert spec.search.trials == 9
    search = Search(spec)
    asked = [search.ask(number) for number in range(9)]
    assert sorted(map(str, asked)) == sorted(map(str, grid(spec.space)))


def test_a_trial_that_was_interrupted_is_still_expected(tiny):
    spec = spec_of(tiny, "tpe")
    first = run(Search(spec), range(3))
    interrupted = PastTrial(3, "interrupted", Search(spec, first).ask(3), None, {})
    search = Search(spec, [*first, interrupted])
    search.tell(3, "complete", values_of(3))
    assert search.trials()[3].values == values_of(3)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_grid_holds_each_combination_of_active_values_once(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    space = {}
    for index, size in enumerate(sizes):
        when = {}
        if index and data.draw(st.booleans()):
            parent = f"p{data.draw(st.integers(0, index - 1))}"
            when = {parent: (0,)}
        space[f"p{index}"] = Parameter(choice=tuple(range(size)), when=when)
    cells = grid(space)
    assert len({tuple(sorted(cell.items())) for cell in cells}) == len(cells)
    for cell in cells:
        assert sorted(cell) == sorted(active_parameters(space, cell))

    def count(values, names):
        if not names:
            return 1
        name, *rest = names
        if name not in active_parameters(space, values):
            return count(values, rest)
        return sum(count({**values, name: value}, rest) for value in space[name].choice)

    assert len(cells) == count({}, list(space))


def test_a_grid_of_infinitely_many_values_is_refused():
    with pytest.raises(ValueError, match=mentions("a", "infinite")):
        grid({"a": Parameter(uniform=(0, 1))})
