"""The front once more, under seeds that it was not chosen by: a study of its own."""

from study.errors import UserError
from study.results import StudyResults
from study.search.past import past_trials
from study.spec import Spec, parse_spec

__all__ = ["confirmation_of"]


def confirmation_of(results: StudyResults, replicates: int) -> Spec:
    """A spec whose trials are the front of a study, in its order, under the seeds that come after those of the study.

    Whoever takes the best of many takes the luckiest, too; fresh seeds say what is left of it.

    Raises:
        UserError: when the study has no front yet, or its name leaves no room for another.
    """
    spec = results.spec
    parameters = {trial.number: trial.parameters for trial in past_trials(results)}
    front = [parameters[int(trial)] for trial in results.front()["trial"]]
    if not front:
        raise UserError(f"--confirm: study {spec.name!r} has no complete trial yet, so no front")
    changes = {
        "name": f"{spec.name}-confirmed",
        "replicates": replicates,
        "first_seed": spec.seeds.stop,
        "include": front,
        "halving": None,
        "search": {"sampler": "random", "trials": len(front), "seed": spec.search.seed},
    }
    return parse_spec(spec.model_dump(mode="json", exclude_none=True) | changes, "--confirm")
