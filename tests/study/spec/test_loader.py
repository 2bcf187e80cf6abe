import pytest
import yaml

from study.errors import UserError, command_line
from study.spec.loader import apply_overrides, load_fields
from study.spec.resolve import read_spec
from tests.messages import assert_mentions, mentions


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.steps=7", ("train", "steps"), 7),
        ("name=other", ("name",), "other"),
        ("loss.private.gamma=0.5", ("loss", "private", "gamma"), 0.5),
        ("space.latent.private={choice: [2]}", ("space", "latent.private"), {"choice": [2]}),
        ("views.shared=[frequency]", ("views", "shared"), ["frequency"]),
    ],
)
def test_overrides_set_fields_by_path(tiny, override, path, value):
    apply_overrides(tiny, [override])
    found = tiny
    for part in path:
        found = found[part]
    assert found == value


@pytest.mark.parametrize("section", ["space", "train"])
def test_overrides_fill_a_section_that_the_file_leaves_empty(section):
    content = {section: None}
    apply_overrides(content, [f"{section}.steps=3"])
    assert content == {section: {"steps": 3}}


@pytest.mark.parametrize("override", ["train.steps", "=3", "name.first=x", "a={", "name.first.x=1"])
def test_overrides_that_make_no_sense_are_refused(tiny, override):
    with pytest.raises(UserError, match=mentions("--set")):
        apply_overrides(tiny, [override])


def test_an_override_of_a_space_that_holds_no_parameters_is_refused(tiny):
    with pytest.raises(UserError, match=mentions("--set space.latent.private", "space", 3)):
        apply_overrides({**tiny, "space": 3}, ["space.latent.private={choice: [2]}"])


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"name: [", ("YAML", "line", 1)),
        (b"just text", ("spec.yaml", "field")),
        (b"\xff\xfe\x00", ("spec.yaml", "text")),
        (b"name: !!python/object/apply:os.system ['true']", ("spec.yaml", "YAML")),
    ],
)
def test_files_that_hold_no_spec_are_refused(tmp_path, content, facts):
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=mentions(*facts)):
        load_fields(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=mentions("missing.yaml", "No such file")):
        load_fields(tmp_path / "missing.yaml")


def write(folder, text):
    path = folder / "spec.yaml"
    path.write_text(text)
    return path


def error_of(path, *overrides, trials=None):
    with pytest.raises(UserError) as caught:
        read_spec(path, overrides, trials)
    return str(caught.value)


def spec_path(folder, tiny, **changes):
    return write(folder, yaml.safe_dump({**tiny, **changes}))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a\nreplicates: 2\ndata: {}\nreplicates: 3\n", 4),
        ("name: a\ntrain:\n  steps: 3\n  'steps': 4\n", 4),
        ("{name: a, replicates: 2,\n replicates: 2}", 2),
        ("{replicates: 2, replicates: 2}", 1),
    ],
)
def test_a_key_that_comes_twice_is_refused(tmp_path, text, line):
    assert_mentions(error_of(write(tmp_path, text)), "spec.yaml", "duplicate key", f"line {line}")


def test_a_key_may_be_given_beside_those_that_it_merges(tmp_path):
    text = "name: a\ndata: {}\nspace: {latent.private: {choice: [2]}}\nloss:\n"
    text += "  private: &weights {alpha: 1, beta: 2}\n  shared: {<<: *weights, beta: 3}\n"
    path = write(tmp_path, text)
    assert read_spec(path).spec.loss["shared"]["beta"] == 3
    changed = read_spec(path, ["loss.private.alpha=5"]).spec.loss
    assert (changed["private"]["alpha"], changed["shared"]["alpha"]) == (5, 1)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("name: " + "[" * 5000, ("spec.yaml", "nested")),
        ("name: " + "[" * 5000 + "]" * 5000, ("spec.yaml", "nested")),
        (BOMB, ("spec.yaml", "100,000")),
        ("name: &name [*name]", ("spec.yaml", "values")),
        ("name: 2024-99-99", ("spec.yaml", "YAML")),
        ("name: !!bool maybe", ("spec.yaml", "YAML")),
        (f"name: {'9' * 5000}", ("spec.yaml", "YAML")),
        ("name: \0", ("spec.yaml", "YAML")),
        ("data: {kind: [a]}\nname: x\nspace: {a: {choice: [1]}}", ("data.kind", "['a']")),
    ],
)
def test_crafted_files_are_refused_in_one_line(tmp_path, text, facts):
    line = error_of(write(tmp_path, text))
    assert_mentions(line, *facts)
    if "data.kind" not in facts:
        assert "\n" not in line
    assert len(line) < 1000


@pytest.mark.parametrize(
    ("override", "facts"),
    [
        ("train.steps=many", ("--set train.steps:", "integer", "'many'")),
        ("train.stepz=3", ("--set train.stepz:", "steps")),
        ("trian.steps=3", ("--set trian.steps:", "did you mean train?")),
        ("train={steps: 0}", ("--set train.steps:", 1)),
        ("train.reports=31", ("--set train.reports:", 31)),
        ("loss.private.gamma=-1", ("--set loss.private.gamma:", -1)),
        ("model.patch_bands=5", ("--set model.patch_bands:", 64, 5)),
        ("space.latent.private={choice: [0]}", ("--set space.latent.private:", 1, 0)),
        ("train.steps={a: 1, a: 2}", ("--set train.steps:", "duplicate key")),
    ],
)
def test_a_mistake_in_an_option_names_the_option_and_one_in_the_file_the_file(tmp_path, tiny, override, facts):
    message = error_of(spec_path(tmp_path, tiny), "name=other", override)
    assert_mentions(message, *facts)
    assert "spec.yaml" not in message
    path, _, value = override.partition("=")
    if "duplicate" not in facts[-1:] and "." in path and not path.startswith("space."):
        section, field = path.split(".", 1)
        path = path.removesuffix(".steps") if section == "trian" else path
        if "." not in field:
            tiny[section] = {**tiny.get(section, {}), field: yaml.safe_load(value)}
            message = error_of(spec_path(tmp_path, tiny), "name=other", "replicates=2")
            assert_mentions(message, "spec.yaml", path.rpartition(".")[2])
            assert "--set" not in message


def test_the_option_trials_is_named(tmp_path, tiny):
    path = spec_path(tmp_path, tiny, space={"latent.private": {"choice": [2, 4]}}, search={"sampler": "grid"})
    with command_line():
        assert_mentions(error_of(path, trials=3), "--trials:", 2, 3)
    assert error_of(path, trials=3).startswith("trials:")


@pytest.mark.parametrize(
    "space", [{"loss.private.gamma": {"log_uniform": [0.1, 10]}}, {"model.hidden": {"int": [16, 32]}}]
)
def test_a_network_that_does_not_fit_is_not_blamed_on_a_parameter_of_the_space(tmp_path, tiny, space):
    message = error_of(spec_path(tmp_path, tiny, model={**tiny["model"], "patch_bands": 5}, space=space))
    assert_mentions(message, "spec.yaml: model.patch_bands:", 64, 5)
    assert "space" not in message


def test_all_mistakes_of_a_spec_are_told_at_once(tmp_path, tiny):
    tiny |= {"train": {"stepz": 3, "reports": 0}, "model": {"widht": 32}, "objectives": {"disentanglement/migg": "max"}}
    lines = error_of(spec_path(tmp_path, tiny, loss={"private": {"gamma": -1}}), "replicates=0").splitlines()
    assert len(lines) == 1 + 6
    for facts in (
        ("spec.yaml: train.stepz:", "did you mean steps"),
        ("spec.yaml: train.reports:", 1, 0),
        ("--set replicates:", 1, 0),
        ("spec.yaml: model.widht:", "did you mean width"),
        ("spec.yaml: loss.private.gamma:", 0, -1),
        ("spec.yaml: objectives:", "'disentanglement/migg'", "did you mean disentanglement/mig"),
    ):
        assert_mentions("\n".join(lines), *facts)
    assert max(map(len, lines)) < 300


def test_all_mistakes_of_a_space_are_told_at_once(tmp_path, tiny):
    tiny["space"] = {"latent.privat": {"choice": [2]}, "loss.private.gamma": {"uniform": [-1, 1]}}
    lines = error_of(spec_path(tmp_path, tiny, views={"shared": ["timbr"]})).splitlines()
    assert len(lines) == 1 + 3
    for facts in (
        ("space.latent.privat:", "did you mean private"),
        ("space.loss.private.gamma:", -1),
        ("views.shared:", "'timbr'", "did you mean timbre"),
    ):
        assert_mentions("\n".join(lines), *facts)
