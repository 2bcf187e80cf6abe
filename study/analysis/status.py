"""How far a study is, from the store alone."""

import math
from typing import Any

from study.analysis import STATES, StudyResults
from study.errors import command_for

__all__ = ["status_of"]


def status_of(results: StudyResults) -> dict[str, Any]:
    """State of a study, trials by state, and its runs, as plain JSON."""
    store = results.store
    trials = results.trials()
    counts = trials["state"].value_counts().to_dict()
    by_state = {state: int(counts.get(state, 0)) for state in STATES}
    over = by_state["complete"] + by_state["pruned"] + by_state["failed"]
    target = results.target
    last = max(results.runs, default=None)
    run = results.runs[last] if last is not None else {}
    front = results.front()
    hypervolume = results.hypervolume(front)
    state = "running" if results.is_live else "complete" if over >= target else "interrupted"
    return {
        "study": store.name,
        "state": state,
        "target": target,
        "trials": by_state,
        "over": over,
        "front": [int(trial) for trial in front["trial"]],
        "hypervolume": None if math.isnan(hypervolume) else hypervolume,
        "trial_steps": results.trial_steps(),
        "created": results.metadata.created.isoformat(),
        "runs": len(results.runs),
        "last_heartbeat": run.get("heartbeat"),
        "lanes": results.metadata.stack["lanes"],
        "uri": store.uri,
        "resume": command_for(store.uri, "resume"),
    }
