"""How far a study is, from the store alone."""

import math
from typing import Any

from study.analysis import STATES, StudyResults
from study.analysis.formatting import format_number
from study.errors import command_for

__all__ = ["status_lines", "status_of", "volume_line"]


def volume_line(hypervolume: float | None, trial_steps: int) -> str:
    """What has been reached, and for how much; without a hypervolume where the untrained network was not scored."""
    if hypervolume is None or math.isnan(hypervolume):
        return f"{trial_steps:,} trial-steps"
    return f"hypervolume {format_number(hypervolume)} after {trial_steps:,} trial-steps"


def status_of(results: StudyResults) -> dict[str, Any]:
    """State of a study, trials by state, and its launches, as plain JSON."""
    store = results.store
    trials = results.trials()
    counts = trials["state"].value_counts().to_dict()
    by_state = {state: int(counts.get(state, 0)) for state in STATES}
    over = by_state["complete"] + by_state["pruned"] + by_state["failed"]
    target = results.target
    last = max(results.launches, default=None)
    launch = results.launches[last] if last is not None else {}
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
        "created": results.document.created.isoformat(),
        "launches": len(results.launches),
        "last_heartbeat": launch.get("heartbeat"),
        "lanes": results.document.stack["lanes"],
        "uri": store.uri,
        "resume": command_for(store.uri, "resume"),
    }


def status_lines(status: dict[str, Any]) -> str:
    """The same for a person."""
    states = ", ".join(f"{count} {state}" for state, count in status["trials"].items() if count)
    lines = [
        f"study {status['study']}: {status['state']}",
        f"trials: {states or 'none yet'}, of {status['target']}",
        f"front: {', '.join(map(str, status['front'])) or 'no complete trial yet'}",
        f"reached: {volume_line(status['hypervolume'], status['trial_steps'])}",
        f"launches: {status['launches']}, last heartbeat {status['last_heartbeat'] or 'none'}",
        f"store: {status['uri']}",
    ]
    if status["state"] == "interrupted":
        lines.append(f"go on with: {status['resume']}")
    return "\n".join(lines)
