"""What earlier runs of a study left to the next one."""

import json

import pandas as pd

from study.analysis import StudyResults
from study.search.sampler import PastTrial

__all__ = ["past_trials"]


def past_trials(results: StudyResults) -> list[PastTrial]:
    """The trials of a study as a search needs them."""
    spec, table = results.spec, results.results()
    attributes = results.trials().set_index("trial")["sampler"] if len(table) else {}
    past = []
    for row in table.to_dict("records"):
        values = [row.get(name) for name in spec.objectives]
        # A complete trial whose last reports are lost has no final value: its values are of fewer replicates or steps.
        is_whole = (row["step"], row["replicates"]) == (spec.train.steps, spec.replicates)
        is_complete = row["state"] == "complete" and is_whole and all(pd.notna(value) for value in values)
        parameters = {name: row.get(f"config/{name}") for name in spec.space}
        past.append(
            PastTrial(
                number=int(row["trial"]),
                state=str(row["state"]) if is_complete or row["state"] != "complete" else "interrupted",
                parameters={
                    name: spec.space[name].typed(value) for name, value in parameters.items() if pd.notna(value)
                },
                values=[float(value) for value in values] if is_complete else None,
                attributes=json.loads(attributes[row["trial"]]),
            )
        )
    return past
