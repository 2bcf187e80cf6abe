import pytest

from study.errors import UserError
from study.spec.loader import apply_overrides, load_spec
from tests.messages import mentions


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
        load_spec(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=mentions("missing.yaml", "No such file")):
        load_spec(tmp_path / "missing.yaml")
