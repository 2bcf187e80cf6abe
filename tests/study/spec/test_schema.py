import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from study.errors import UserError
from study.spec import Parameter, Spec, active_parameters, parse_spec
from study.spec.resolve import read_spec, resolve
from tests.messages import mentions
from tests.study.commands import ROOT


def resolved(content):
    return resolve(parse_spec(content, "spec"))


def test_only_name_data_and_space_are_needed(tiny):
    spec = resolved({name: tiny[name] for name in ("name", "data", "space")}).spec
    assert spec.train.steps == 6000
    assert spec.search.trials == 100
    assert spec.objectives == {"fidelity/log_mel_rmse_db": "min", "disentanglement/separation": "max"}
    assert spec.audio["mel_bands"] == 64


def test_a_resolved_spec_survives_the_way_through_json(tiny):
    spec = resolved(tiny).spec
    assert type(spec).model_validate_json(spec.model_dump_json(exclude_none=True)) == spec
    assert resolve(spec).spec == spec


@pytest.mark.parametrize("name", ["name", "data", "space"])
def test_a_missing_field_is_named(tiny, name):
    del tiny[name]
    with pytest.raises(UserError, match=mentions(name)):
        resolved(tiny)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"trian": {"steps": 3}}, ("trian", "field")),
        ({"train": {"step": 3}}, ("train.step", "steps", "batch_pairs")),
        ({"train": {"steps": "many"}}, ("train.steps", "integer", "'many'")),
        ({"train": {"steps": 0}}, ("train.steps", 1, 0)),
        ({"train": {"steps": 2, "reports": 3}}, ("train", "reports", "steps", 3, 2)),
        ({"train": {"batch_pairs": 20}}, ("train.batch_pairs", "multiple", 16, 20)),
        ({"replicates": 0}, ("replicates", 1, 0)),
        ({"space": {}}, ("space", "at least", 1)),
        ({"name": "../evil"}, ("name", 64, "letter", "'../evil'")),
        ({"name": ""}, ("name", 64, "letter", "''")),
        ({"search": {"sampler": "cma"}}, ("search.sampler", "'tpe'", "'cma'")),
        ({"search": {"trials": -1}}, ("search.trials", -1)),
        ({"halving": 3}, ("halving", "reduction_factor", "min_steps", "none", 3)),
        ({"halving": {"rungs": 3}}, ("halving.rungs", "reduction_factor", "min_steps")),
        ({"halving": {"reduction_factor": 1, "min_steps": 9}}, ("halving.reduction_factor", 2, 1)),
        ({"halving": {"reduction_factor": 2.5, "min_steps": 9}}, ("halving.reduction_factor", "integer", 2.5)),
        ({"halving": {"min_steps": 0}}, ("halving.min_steps", 1, 0)),
        ({"halving": {"min_steps": 30}}, ("halving.min_steps", "train.steps", 30)),
        ({"halving": {}}, ("halving.min_steps", "train.steps", 600, 30)),
        ({"resources": {"lanes": 0}}, ("resources.lanes", "at least", 1, "auto", 0)),
        ({"resources": {"data_gib": -1}}, ("resources.data_gib", "at least", 0, "auto", -1)),
        (
            {"data": {"kind": "soundfont", "split": "timbre"}},
            ("data.split", "clip", "combination", "group", "instrument", "'timbre'"),
        ),
        (
            {"data": {"kind": "soundfont", "lowest": 60, "highest": 60}},
            ("data", "lowest", "highest", 60),
        ),
        (
            {"data": {"kind": "folder", "path": "x", "factors": ["a", "a"]}},
            ("data.factors", "twice"),
        ),
        ({"data": {"kind": "folder", "path": "x"}}, ("data.factors",)),
        ({"objectives": {"fidelity/log_mel_rmse_db": "less"}}, ("objectives", "'min'", "'max'", "'less'")),
        ({"objectives": {"loudness": "max"}}, ("objectives", "'loudness'", "metric", "fidelity/log_mel_rmse_db")),
        ({"views": {"shared": ["pitch"]}}, ("views.shared", "timbre", "['pitch']")),
        ({"views": {"shared": []}}, ("views.shared", "timbre", "[]")),
        ({"data": {"kind": "gtzan"}}, ("data.kind", "syntone", "folder", "'gtzan'")),
        ({"data": {"kind": "syntone", "amplitudes": 1}}, ("data.amplitudes", 1)),
        ({"audio": {"frames": 63}}, ("audio", "frames", "divide")),
        ({"loss": {"private": {"gamma": -1}}}, ("loss.private.gamma", 0, -1)),
        ({"model": {"patch_bands": 7}}, ("model", "patch_bands", 7)),
        ({"train": {"steps": 10**20}}, ("train.steps", 10**9, 10**20)),
        ({"train": {"reports": 10**6}}, ("train.reports", 1000, 10**6)),
        ({"train": {"steps": True}}, ("train.steps", "integer", True)),
        ({"search": {"trials": 10**11}}, ("search.trials", 10**6, 10**11)),
        ({"search": {"seed": 2**70}}, ("search.seed", 2**32 - 1, 2**70)),
        ({"first_seed": 2**70}, ("first_seed", 2**32 - 1, 2**70)),
        ({"replicates": 10**9}, ("replicates", 1000, 10**9)),
        ({"replicates": True}, ("replicates", "integer", True)),
        ({"replicates": "3"}, ("replicates", "integer", "'3'")),
        ({"resources": {"lanes": 10**12}}, ("resources.lanes", 4096, 10**12)),
        ({"resources": {"lanes": "many"}}, ("resources.lanes", "integer", "auto", "'many'")),
        ({"resources": {"compile": "yes"}}, ("resources.compile", "true", "false", "auto", "'yes'")),
        ({"resources": {"data_gib": True}}, ("resources.data_gib", "number", True)),
        ({"contrast": {"projection": "yes"}}, ("contrast.projection", "true", "false", "'yes'")),
        ({"latent": {"private": True}}, ("latent.private", "integer", True)),
        ({"latent": {"private": "4"}}, ("latent.private", "integer", "'4'")),
        ({"loss": {"private": {"gamma": True}}}, ("loss.private.gamma", "number", True)),
        ({"include": [{"latent.private": [2]}]}, ("include.0.latent.private", "number", "[2]")),
    ],
)
def test_invalid_values_are_reported_with_field_rule_and_value(tiny, change, facts):
    with pytest.raises(UserError, match=mentions(*facts)):
        resolved({**tiny, **change})


@pytest.mark.parametrize(
    ("name", "parameter", "facts"),
    [
        ("loss.private.gamma", {}, ("choice", "uniform", "log_uniform", "int", "none")),
        ("loss.private.gamma", {"uniform": [0, 1], "choice": [1]}, ("choice, uniform",)),
        ("loss.private.gamma", {"choice": []}, ("space.loss.private.gamma", "choice")),
        ("loss.private.gamma", {"choice": [1, 2, 1]}, ("space.loss.private.gamma", "twice")),
        ("latent.private", {"choice": [4, 4.0]}, ("space.latent.private", "twice", "[4, 4.0]")),
        ("loss.private.gamma", {"choice": [0.1, "1e-1"]}, ("space.loss.private.gamma", "twice")),
        ("latent.private", {"choice": [[4], 8]}, ("space.latent.private.choice.0", "number", "[4]")),
        ("latent.private", {"choice": [True, 2]}, ("space.latent.private", "integer", True)),
        ("loss.private.gamma", {"uniform": [True, 2]}, ("space.loss.private.gamma", "number", True)),
        ("latent.private", {"choice": [2], "when": {"x": []}}, ("space.latent.private.when", "at least one", "x")),
        ("loss.private.gamma", {"uniform": [2, 1]}, ("space.loss.private.gamma", "[2.0, 1.0]")),
        ("loss.private.gamma", {"log_uniform": [0, 1]}, ("space.loss.private.gamma", "log_uniform", "greater than 0")),
        ("loss.private.gamma", {"uniform": [-1, 1]}, ("space.loss.private.gamma", 0, -1)),
        ("loss.private.gamma", {"choice": [0.5, "much"]}, ("space.loss.private.gamma", "number", "'much'")),
        ("loss.private.delta", {"uniform": [0, 1]}, ("space.loss.private.delta", "alpha", "beta", "gamma")),
        ("loss.private", {"choice": [1]}, ("space.loss.private", "section", "alpha")),
        ("train.steps", {"choice": [1, 2]}, ("space.train.steps", "field")),
        ("latent.private", {"uniform": [2, 8]}, ("space.latent.private", "choice", "int")),
        ("latent.private", {"int": [0, 8]}, ("space.latent.private", 1, 0)),
        ("contrast.strategy", {"uniform": [0, 1]}, ("space.contrast.strategy",)),
        ("contrast.strategy", {"choice": ["none", "magic"]}, ("space.contrast.strategy", "'infonce'", "'magic'")),
        (
            "contrast.temperature",
            {"uniform": [0.1, 1], "when": {"contrast.kind": "x"}},
            ("space.contrast.temperature", "'contrast.kind'", "parameter"),
        ),
        ("model.patch_bands", {"choice": [8, 7]}, ("space.model.patch_bands", 7)),
        ("model.width", {"choice": [50]}, ("space.model.width", "multiple", 16, 50)),
    ],
)
def test_invalid_parameters_are_reported_with_field_rule_and_value(tiny, name, parameter, facts):
    with pytest.raises(UserError, match=mentions(*facts)):
        resolved({**tiny, "space": {name: parameter}})


def test_every_kind_of_network_must_fit_the_spectrogram(tiny):
    tiny["space"]["model.kind"] = {"choice": ["patch", "conv"]}
    assert resolved(tiny).spec.space["model.kind"].choice == ("patch", "conv")
    tiny["audio"] = {"mel_bands": 40}
    with pytest.raises(UserError, match=mentions("space.model.kind", "multiple", 16, 40, 64)):
        resolved(tiny)


def test_a_parameter_of_one_kind_of_network_is_checked_in_that_kind(tiny):
    tiny["model"] = {"kind": "conv", "hidden": 32}
    tiny["space"]["model.kind"] = {"choice": ["conv", "patch"]}
    tiny["space"]["model.patch_bands"] = {"choice": [8, 7], "when": {"model.kind": "patch"}}
    with pytest.raises(UserError, match=mentions("space.model.patch_bands", 7)):
        resolved(tiny)


def test_a_condition_on_a_value_that_never_comes_is_refused(tiny):
    tiny["space"]["contrast.temperature"]["when"] = {"contrast.strategy": "supcon"}
    with pytest.raises(UserError, match=mentions("contrast.temperature", "contrast.strategy", "'supcon'")):
        resolved(tiny)


def test_a_grid_has_a_limit(tiny):
    tiny |= {"space": {"latent.private": {"int": [1, 1000]}, "model.hidden": {"choice": [16, 32]}}}
    tiny["space"]["model.head"] = {"int": [16, 10**6]}
    with pytest.raises(UserError, match=mentions("search.sampler", 10**6)):
        resolved({**tiny, "search": {"sampler": "grid"}})


def test_conditions_that_go_round_in_a_circle_are_refused(tiny):
    tiny["space"] = {
        "latent.private": {"choice": [2, 4], "when": {"latent.shared": [2]}},
        "latent.shared": {"choice": [2, 4], "when": {"latent.private": [2]}},
    }
    with pytest.raises(UserError, match=mentions("latent.private", "latent.shared")):
        resolved(tiny)


def test_active_parameters_follow_chains_of_conditions():
    space = {
        "c": Parameter(choice=(1,), when={"b": (2,)}),
        "a": Parameter(choice=(0, 1)),
        "b": Parameter(choice=(1, 2), when={"a": (1,)}),
    }
    assert active_parameters(space, {"a": 1, "b": 2, "c": 1}) == ["a", "b", "c"]
    assert active_parameters(space, {"a": 0, "b": 2, "c": 1}) == ["a"]


def test_numbers_that_yaml_reads_as_text_are_numbers(tiny):
    content = yaml.safe_load("{log_uniform: [1e-3, 1e1]}")
    assert content["log_uniform"] == ["1e-3", "1e1"]
    tiny["space"] = {"loss.private.gamma": content, "optimiser.learning_rate": yaml.safe_load("{choice: [1e-3, 0.01]}")}
    spec = resolved(tiny).spec
    assert spec.space["loss.private.gamma"].log_uniform == (0.001, 10.0)
    assert spec.space["optimiser.learning_rate"].choice == (0.001, 0.01)


@pytest.mark.parametrize(
    ("included", "facts"),
    [
        ({"latent.private": 2}, ("include.0", "contrast.strategy")),
        (
            {"latent.private": 2, "contrast.strategy": "none", "loss.private.gamma": 99},
            ("include.0.loss.private.gamma", "space", 99),
        ),
        (
            {"latent.private": 2, "contrast.strategy": "none", "loss.private.gamma": 1, "contrast.temperature": 0.1},
            ("include.0.contrast.temperature", "parameter", "condition"),
        ),
    ],
)
def test_included_configurations_must_lie_in_the_space(tiny, included, facts):
    with pytest.raises(UserError, match=mentions(*facts)):
        resolved({**tiny, "include": [included]})


def test_budgets_are_evenly_spaced_and_end_at_the_full_one(tiny):
    tiny["train"] = {"steps": 100, "batch_pairs": 16, "reports": 3}
    assert resolved(tiny).spec.budgets() == (33, 67, 100)


@pytest.mark.parametrize("nothing", ["none", None])
def test_without_halving_there_are_no_rungs_and_every_trial_takes_all_its_steps(tiny, nothing):
    spec = resolved({**tiny, "halving": nothing}).spec
    assert spec == resolved(tiny).spec
    assert spec.rungs() == ()
    assert spec.budgets() == (15, 30)
    assert spec.expected_steps() == 2 * 30


def test_rungs_grow_by_the_reduction_and_are_budgets_too(tiny):
    tiny["train"] = {"steps": 100, "batch_pairs": 16, "reports": 4}
    spec = resolved({**tiny, "halving": {"reduction_factor": 5, "min_steps": 4}}).spec
    assert spec.rungs() == (4, 20)
    assert spec.budgets() == (4, 20, 25, 50, 75, 100)
    spec = resolved({**tiny, "halving": {"reduction_factor": 2, "min_steps": 25}}).spec
    assert spec.rungs() == (25, 50)
    assert spec.budgets() == (25, 50, 75, 100)
    assert type(spec).model_validate_json(spec.model_dump_json(exclude_none=True)) == spec


def test_halving_by_default_takes_a_third_on_from_600_steps(tiny):
    spec = resolved({**tiny, "train": {}, "halving": {}}).spec
    assert spec.rungs() == (600, 1800, 5400)


def test_most_trials_are_expected_to_stop_at_a_rung(tiny):
    tiny["train"] = {"steps": 100, "batch_pairs": 16, "reports": 1}
    spec = resolved({**tiny, "replicates": 3, "halving": {"reduction_factor": 2, "min_steps": 20}}).spec
    assert spec.rungs() == (20, 40, 80)
    # Seed 0: 20 steps, then half of 20, a quarter of 40, an eighth of 20; and an eighth of the other two seeds' 100.
    assert spec.expected_steps() == round(20 + 10 + 10 + 2.5 + 25)
    assert spec.expected_steps(reached=30) == 10 + 20 + 5 + 50
    assert spec.expected_steps(reached=80) == 20 + 200


def test_a_trials_configuration_is_the_specs_own_with_its_values(tiny):
    spec = resolved({**tiny, "loss": {"shared": {"beta": 7}}})
    config = spec.trial_config({"loss.private.gamma": 0.5, "contrast.strategy": "infonce"})
    assert (config.loss.shared.beta, config.loss.private.gamma, config.contrast.strategy) == (7, 0.5, "infonce")
    assert config.model.width == 16


def test_stacks_are_as_wide_as_the_widest_trial_and_compute_what_any_trial_uses(tiny):
    tiny["space"]["latent.fusion"] = {"choice": ["swap", "poe"]}
    tiny["space"]["contrast.private"] = {"uniform": [0, 3]}
    spec = resolved(tiny)
    plan = spec.stack_plan(lanes=4)
    assert (plan.private, plan.shared) == (4, 8)
    terms = spec.terms
    assert terms.fusions == ("none", "poe", "swap")  # the plain VAE decodes each view from its latents alone
    assert terms.contrasts == (("infonce", "private"), ("infonce", "shared"))


def test_terms_that_no_trial_uses_are_not_computed(tiny):
    tiny["space"] = {"latent.private": {"choice": [2]}}
    terms = resolved(tiny).terms
    assert (terms.contrasts, terms.independence, terms.projections, terms.multiscale) == ((), (), (), False)


def test_models_that_need_other_passes_or_views_are_in_other_stacks(tiny, small_dataset):
    tiny["space"] = {
        "contrast.strategy": {"choice": ["none", "infonce", "vicreg", "byol"]},
        "contrast.projection": {"choice": [False, True], "when": {"contrast.strategy": "vicreg"}},
        "independence.swap_cycle": {"uniform": [0, 1]},
        "independence.hsic": {"uniform": [0, 1]},
        "views.scheme": {"choice": ["factor", "augment"]},
    }
    spec = resolved(tiny)
    plan = spec.stack_plan(lanes=2)

    def terms(**values):
        config = spec.trial_config({name.replace("__", "."): value for name, value in values.items()})
        key = plan.stack_key(spec.audio, config)
        return key, plan.stack(spec, config, small_dataset).objective_spec.active_terms

    plain, of_plain = terms(contrast__strategy="none")
    assert terms(contrast__strategy="vicreg", independence__hsic=0.5) == (plain, of_plain)
    assert of_plain.contrasts == (("infonce", "shared"), ("vicreg", "shared"))
    assert (of_plain.projections, of_plain.independence) == (("shared",), ("hsic",))
    byol, of_byol = terms(contrast__strategy="byol")
    assert byol != plain
    assert of_byol.contrasts == (("byol", "shared"),)
    cycle, of_cycle = terms(contrast__strategy="infonce", independence__swap_cycle=0.1)
    assert cycle.extra_passes == ("swap_cycle",)
    assert of_cycle.independence == ("hsic", "swap_cycle")
    assert terms(views__scheme="augment")[0] not in (plain, byol, cycle)


def test_augmentations_of_views_divide_stacks_but_drop_no_term(tiny, small_dataset):
    tiny["space"] = {
        "contrast.strategy": {"choice": ["infonce", "vicreg"]},
        "views.augment.shift": {"choice": [0.1, 0.3]},
    }
    spec = resolved({**tiny, "views": {"scheme": "augment"}})
    one, other = (
        spec.trial_config({"contrast.strategy": name, "views.augment.shift": 0.3}) for name in ("infonce", "vicreg")
    )
    plan = spec.stack_plan(lanes=2)
    assert plan.stack_key(spec.audio, one) == plan.stack_key(spec.audio, other)
    stack = plan.stack(spec, one, small_dataset)
    assert [stack.attach(config, seed=0) for config in (one, other)] == [0, 1]


def test_few_configurations_represent_many_weights():
    spec = read_spec(ROOT / "study" / "ready" / "tradeoff.yaml")
    assert len(spec.candidates) < 100
    assert spec.terms.independence == ("adversarial", "cross_covariance", "hsic")


def test_a_parameter_that_exists_at_one_weight_of_another_is_not_overlooked(tiny):
    tiny["space"] = {
        "independence.hsic": {"choice": [0, 1, 10]},
        "contrast.repulsion": {"choice": [0, 5], "when": {"independence.hsic": 1}},
    }
    assert resolved(tiny).terms.contrasts == (("repulsion", "private"),)


def test_a_weight_that_is_always_zero_needs_no_term(tiny):
    tiny["space"] = {"contrast.strategy": {"choice": ["infonce"]}, "contrast.shared": {"choice": [0]}}
    assert resolved(tiny).terms.contrasts == ()


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        (
            {"contrast": {"strategy": "predictive"}, "model": {"patch_frames": 64}},
            ("contrast.strategy", "predictive", "time"),
        ),
        (
            {"independence": {"adversarial": 1}, "views": {"scheme": "augment"}},
            ("independence.adversarial", "views.scheme", "factor"),
        ),
    ],
)
def test_incompatible_settings_are_reported_before_training(tiny, changes, facts):
    tiny["space"] = {"latent.private": {"choice": [2, 4]}}
    with pytest.raises(UserError, match=mentions(*facts)):
        resolved({**tiny, **changes})


def test_the_shared_factors_are_no_parameter(tiny):
    tiny["space"]["views.shared"] = {"choice": ["timbre"]}
    with pytest.raises(UserError, match=mentions("space.views.shared")):
        resolved(tiny)


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), inside=st.floats(0, 1), beyond=st.floats(1e-3, 1e3))
def test_ranges_contain_values_between_their_bounds(low, width, inside, beyond):
    parameter = Parameter(uniform=(low, low + width))
    assert parameter.contains(min(low + inside * width, low + width))
    assert not parameter.contains(low + width + beyond)
    assert not parameter.contains(str(low))


def test_choices_tell_true_from_one_and_text_from_numbers():
    parameter = Parameter(choice=(1, "a"))
    assert parameter.contains(1)
    assert not parameter.contains(True)
    assert not parameter.contains("1")


@pytest.mark.parametrize("path", sorted((ROOT / "study" / "ready").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_ready_study_is_the_same_after_it_was_stored(path):
    spec = read_spec(path).spec
    assert Spec.model_validate_json(spec.model_dump_json(exclude_none=True)) == spec
