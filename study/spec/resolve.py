"""Resolution of a spec: defaults filled in, and every section checked against marl before anything trains."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from marl.config import Config
from marl.data import SPLIT_UNITS, AudioDatasetConfig
from marl.models import NETWORKS, ModelConfig, Network, build_network
from marl.objective import check_compatible
from study.errors import option
from study.formatting import suggestion
from study.spec.loader import NO_SUCH_FIELD, Problem, SpecError, apply_overrides, find_problems, load_fields
from study.spec.plugins import load_plugins
from study.spec.ready import find_spec
from study.spec.resolved_spec import ResolvedSpec
from study.spec.schema import Spec, parse_spec
from study.spec.space import Parameter, Scalar, active_parameters, grid

_DEFAULT_TRIALS = 100
_TRIALS = "search.trials"


def read_spec(
    source: str | Path | Mapping[str, Any] | Spec,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    trials: int | None = None,
) -> ResolvedSpec:
    """Return the resolved spec of a YAML file or of fields, with changes.

    Args:
        source: Path of the file, the fields, or an unresolved spec.
        overrides: Changes as in `apply_overrides`.
        trials: Number of trials, instead of `search.trials`.

    Raises:
        UserError: When the file cannot be read or is not YAML.
        SpecError: When fields break rules. Each problem names the argument or option, or else the file, that sets the
            field.
    """
    if isinstance(overrides, Mapping):
        name, paths = "overrides", list(overrides)
    else:
        overrides = list(overrides)
        name, paths = "--set", [override.partition("=")[0] for override in overrides]
    changes = [(name, path) for path in paths]
    if isinstance(source, Spec):
        fields = source.model_dump(mode="json", exclude_unset=True)
    else:
        fields = dict(source) if isinstance(source, Mapping) else load_fields(source)
    apply_overrides(fields, overrides)
    if trials is not None:
        apply_overrides(fields, {_TRIALS: trials})
        changes.append((option("trials"), _TRIALS))
    file, folders = (str(source), [find_spec(source).parent]) if isinstance(source, str | Path) else ("", [])
    try:
        try:
            spec = parse_spec(fields, source="")
        except SpecError as error:
            raise SpecError([*error.problems, *_further_problems(fields, error.problems, folders)]) from None
        return resolve(spec, folders)
    except SpecError as error:
        raise SpecError(_with_source(problem, file, changes) for problem in error.problems) from None


def unusual_objectives(spec: Spec) -> list[str]:
    """Return a sentence for each objective of a resolved spec whose direction prefers worse values."""
    return [
        f"objectives: {'lower' if direction == 'max' else 'higher'} values of {name} are better, but the spec asks for "
        f"{direction}"
        for name, direction in spec.objectives.items()
        if direction != spec.usual_direction(name)
    ]


def resolve(spec: Spec, folders: Iterable[Path] = ()) -> ResolvedSpec:
    """Return the spec with every default filled in, checked against marl. Its plug-ins are imported.

    Args:
        spec: Spec that the user gave.
        folders: Folders of modules of plug-ins, besides Python's path and the current folder.

    Raises:
        SpecError: When sections, values of the space, or names break rules. All such problems are in one error.
    """
    spec, problems = load_plugins(spec, folders), _Problems()
    # Without the faulty sections, the rest is checked all the same.
    sections = {}
    given = ResolvedSpec(spec)
    for name in (*Config.model_fields, "audio", "data"):
        with problems.collect():
            section = given.section(name) if name in Config.model_fields else getattr(given, name)
            sections[name] = section.model_dump(mode="json")
    faulty = {*Config.model_fields, "audio", "data"} - sections.keys()
    resolved = ResolvedSpec(spec.model_copy(update=sections | {name: {} for name in faulty}))
    if "data" not in faulty:
        with problems.collect():
            _check_data(resolved)
        if "views" not in faulty:
            with problems.collect():
                _check_shared(resolved)
        for objective in spec.objectives:
            with problems.collect():
                _check_objective(resolved, objective)
    space = {}
    for name, parameter in spec.space.items():
        with problems.collect():
            space[name] = _typed_parameter(resolved, name, parameter)
    problems.check()
    resolved = ResolvedSpec(resolved.spec.model_copy(update={"space": space}))
    include = []
    for number, values in enumerate(spec.include):
        with problems.collect():
            include.append(_typed_included(resolved, number, values))
    with problems.collect():
        search = spec.search.model_copy(update={"trials": _trials(resolved.spec)})
    with problems.collect():
        _check_networks(resolved)
    problems.check()
    return ResolvedSpec(resolved.spec.model_copy(update={"include": tuple(include), "search": search}))


class _Problems:
    """Collects the problems of several checks."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        try:
            yield
        except SpecError as error:
            self._found += error.problems

    def check(self) -> None:
        if self._found:
            raise SpecError(dict.fromkeys(self._found))


def _problem(path: str, message: object) -> SpecError:
    return SpecError([Problem(path, str(message))])


def _check_data(resolved: ResolvedSpec) -> None:
    data, factors = resolved.data, resolved.factors
    if isinstance(data, AudioDatasetConfig) and data.split not in (allowed := (*SPLIT_UNITS, *factors)):
        raise _problem("data.split", f"must be a unit of splits; got {data.split!r}; {suggestion(data.split, allowed)}")


def _check_shared(resolved: ResolvedSpec) -> None:
    shared, factors = resolved.base_config.views.shared, resolved.factors
    for name in shared:
        if name not in factors:
            raise _problem("views.shared", f"no factor {name!r}; got {list(shared)}; {suggestion(name, factors)}")
    if not set() < set(shared) < set(factors):
        raise _problem("views.shared", f"must name some but not all of {', '.join(factors)}; got {list(shared)}")


def _check_objective(resolved: ResolvedSpec, name: str) -> None:
    if name not in resolved.metrics:
        raise _problem("objectives", f"{name!r} is not a metric; {suggestion(name, resolved.metrics)}")


def _check_networks(resolved: ResolvedSpec) -> None:
    """Check that every extreme of the space has a network that fits the spectrogram, and terms that fit together."""
    space, problems = resolved.spec.space, _Problems()
    # Only these parameters decide about the network.
    own = {name: parameter.extremes()[0] for name, parameter in space.items() if name.startswith("model.")}
    networks = [
        {**own, **{other: values[0] for other, values in space[name].when.items()}, name: value}
        for name in own
        for value in space[name].extremes()
    ]
    for parameters in networks or [own]:
        with problems.collect():
            _build_network(resolved, resolved.trial_config(parameters))
    problems.check()
    for candidate in resolved.candidates:
        with problems.collect():
            network = _build_network(resolved, candidate)
            try:
                check_compatible(candidate, network)
            except ValueError as error:
                raise _problem_of_model(error, space) from None
    problems.check()


def _build_network(resolved: ResolvedSpec, config: Config) -> Network:
    try:
        return build_network(resolved.stack_plan(lanes=1).architecture(resolved.audio, config))
    except ValueError as error:
        raise _problem_of_model(error, resolved.spec.space) from None


def _problem_of_model(error: ValueError, space: Mapping[str, Parameter]) -> SpecError:
    """Return the problem of a message of marl, which begins with the path of the field at fault."""
    field, _, message = str(error).partition(" ")
    return _problem(f"space.{field}" if field in space else field, message)


def _trials(spec: Spec) -> int:
    trials = spec.search.trials
    if spec.search.sampler != "grid":
        return _DEFAULT_TRIALS if trials is None else trials
    try:
        cells = len(spec.include) + len(grid(spec.space))
    except ValueError as error:
        raise _problem("search.sampler", error) from None
    if trials not in (None, cells):
        raise _problem("search.trials", f"must be {cells}, the number of grid cells, or be left out; got {trials}")
    return cells


def _typed_parameter(resolved: ResolvedSpec, name: str, parameter: Parameter) -> Parameter:
    """Return the parameter with values of the type of its field; YAML 1.1 reads 1e-3 as text, for example."""
    typed = tuple(_typed_value(resolved, name, value) for value in parameter.extremes())
    when = {
        other: tuple(_typed_value(resolved, other, value) for value in values)
        for other, values in parameter.when.items()
    }
    parameter = parameter.model_copy(update={"when": when})
    if parameter.choice is not None:
        if len(set(typed)) < len(typed):
            raise _problem(f"space.{name}", f"choice must not hold a value twice; got {list(parameter.choice)}")
        return parameter.model_copy(update={"choice": typed})
    if isinstance(typed[0], bool | str):
        raise _problem(f"space.{name}", "takes a choice, because it is not a number; got a range")
    if isinstance(typed[0], int) and parameter.int is None:
        raise _problem(f"space.{name}", "takes choice or int, because it is a whole number; got another range")
    return parameter


def _typed_value(resolved: ResolvedSpec, name: str, value: Scalar) -> Scalar:
    owner: Any = Config
    section, _, field = name.partition(".")
    kind = resolved.kind_with(field) if section == "model" and field not in ModelConfig.model_fields else None
    for part in name.split("."):
        fields = owner.model_fields if isinstance(owner, type) and issubclass(owner, BaseModel) else {}
        if part not in fields:
            known = f"; {suggestion(part, fields)}" if fields else ""
            raise _problem(f"space.{name}", f"no such field of a model's configuration{known}")
        owner = NETWORKS[kind].config_class if kind and part == "model" else fields[part].annotation
    if isinstance(owner, type) and issubclass(owner, BaseModel):
        listed = ", ".join(owner.model_fields)
        raise _problem(f"space.{name}", f"must be a field, not a section; there are: {listed}")
    if name == "views.shared":
        raise _problem("space.views.shared", "must be the same for all trials; set views.shared instead")
    try:
        typed: Any = resolved.trial_config({"model.kind": kind, name: value} if kind else {name: value})
    except ValidationError as error:
        raise SpecError(find_problems(error, Config, "space")) from None
    for part in name.split("."):
        typed = getattr(typed, part)
    return cast("Scalar", typed)


def _typed_included(resolved: ResolvedSpec, number: int, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    space = resolved.spec.space
    active = active_parameters(space, values)
    for name in sorted(values.keys() | set(active)):
        if name not in active:
            reason = "the parameter's condition does not hold" if name in space else "it is not in the space"
            raise _problem(f"include.{number}.{name}", f"must be left out, because {reason}; got {values[name]!r}")
        if name not in values:
            raise _problem(f"include.{number}.{name}", "is required")
    typed = {name: _typed_value(resolved, name, value) for name, value in values.items()}
    for name, value in typed.items():
        if not space[name].contains(value):
            raise _problem(f"include.{number}.{name}", f"must lie in the space; got {value!r}")
    return typed


def _further_problems(
    content: Mapping[str, Any], found: Iterable[Problem], folders: Iterable[Path]
) -> Iterable[Problem]:
    """Return the problems of a spec without the fields that have problems already."""
    faulty = {problem.path.partition(".")[0] for problem in found}
    if faulty & {"", "data", "space"}:  # the rest cannot be checked without them
        return ()
    if "train" in faulty:
        faulty.add("halving")  # its rule depends on the steps
    rest = {"name": "unnamed"} | {name: value for name, value in content.items() if name not in faulty}
    try:
        resolve(parse_spec(rest, source=""), folders)
    except SpecError as error:
        return error.problems
    return ()


def _with_source(problem: Problem, file: str, changes: Iterable[tuple[str, str]]) -> Problem:
    """Return a problem with the argument that set its field, or a field of its section; else with the file.

    Args:
        problem: Problem without a source.
        file: File of the spec; empty if there is none.
        changes: Arguments or options, and the paths that they set.
    """
    for argument, path in changes:
        is_section = path.startswith(f"{problem.path}.") if problem.path else "." in path
        is_named = path.rpartition(".")[2] in problem.message or problem.message.startswith(NO_SUCH_FIELD)
        if f"{problem.path}.".startswith(f"{path}.") or (is_section and is_named):
            is_path_known = argument == option("trials")  # `trials` sets one field, `overrides` any
            return Problem("" if is_path_known else max(path, problem.path, key=len), problem.message, argument)
    return problem._replace(source=file)
