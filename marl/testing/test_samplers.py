"""Contract of a sampler: proposals lie in the space, and follow from the seed and the finished trials."""

from typing import Any

import pytest

from marl.testing.cases import Plugin

_TRIALS = 12


@pytest.fixture
def proposals(plugin: Plugin) -> Any:
    """Function that returns the proposals of a search from a seed, which is resumed after some trials."""
    pytest.importorskip("optuna", reason="samplers need marl-study with Optuna")
    sampler = pytest.importorskip("study.search.sampler")
    samplers = pytest.importorskip("study.spec.samplers").SAMPLERS
    parse_spec = pytest.importorskip("study.spec").parse_spec
    samplers.load(plugin.name)

    def propose(seed: int, resumed_after: int | None = None) -> list[dict[str, Any]]:
        content = {
            "name": "contract",
            "data": {"kind": "syntone"},
            "space": {
                "latent.private": {"choice": [2, 4, 8]},
                "loss.private.gamma": {"log_uniform": [0.1, 10]},
                "contrast.strategy": {"choice": ["none", "infonce"]},
                "contrast.temperature": {"uniform": [0.1, 1], "when": {"contrast.strategy": "infonce"}},
            },
            "objectives": {"fidelity/log_mel_rmse_db": "min", "disentanglement/separation": "max"},
            "search": {"sampler": plugin.name, "seed": seed, "trials": _TRIALS},
        }
        spec = parse_spec(content, "the contract suite")
        past: list[Any] = []
        search = sampler.Search(spec)
        for number in range(_TRIALS):
            if number == resumed_after:
                search = sampler.Search(spec, past)
            parameters = search.ask(number)
            values = [float(parameters["loss.private.gamma"]), float(parameters["latent.private"])]
            search.tell(number, "complete", values)
            attributes = search.attributes(number)
            past.append(sampler.PastTrial(number, "complete", parameters, values, attributes))
        space = spec.space
        for trial in past:
            for name, value in trial.parameters.items():
                assert space[name].contains(value), f"{plugin.name} proposes {name} {value!r}, outside of the space"
        return [trial.parameters for trial in past]

    return propose


def test_proposals_lie_in_the_space_and_follow_from_the_seed(plugin: Plugin, proposals: Any) -> None:
    assert proposals(0) == proposals(0), f"{plugin.name} proposes other configurations for the same seed"


def test_a_resumed_search_continues_as_an_uninterrupted_one(plugin: Plugin, proposals: Any) -> None:
    assert proposals(0, resumed_after=_TRIALS // 2) == proposals(0), (
        f"{plugin.name} proposes something else after a resume: what it learns must be in trials or their attributes"
    )
