"""Page 'Overview': what a study asks, how it is set up, how far it is, and what ran when."""

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st
import yaml

from dashboard.links import link_button
from dashboard.reading import Reading
from dashboard.text import local_time, plain
from dashboard.views.studies import best_values, time_left_s
from study.analysis.timeline import runs_table
from study.charts.style import parameter_label
from study.errors import command_for
from study.formatting import format_duration, objective_label
from study.spec import Spec

_RUN_COLUMNS: dict[str, Any] = {
    "run": "Run",
    "state": "State",
    "started": "Started",
    "ended": "Ended",
    "trials": st.column_config.NumberColumn("Trials ended"),
    "trained_steps": st.column_config.NumberColumn("Trained steps", format="localized"),
    "host": "Host",
    "trainers": "Trainers",
    "device": "Device",
    "device_hours": st.column_config.NumberColumn("Device-hours", format="%.3g"),
}


def page(reading: Reading) -> None:
    """Draw the question of the study, its progress, its set-up, its runs, its spec, and commands."""
    results, status, spec = reading.results, reading.status, reading.results.spec
    st.markdown(f"##### {plain(question(spec))}")
    with st.container(horizontal=True):
        st.metric("trials finished", f"{status['finished']:,} of {status['target']:,}")
        st.metric("trained steps", f"{status['trial_steps']:,}", help="The sum over all replicates.")
        left_s = time_left_s(reading)
        if left_s is not None:
            st.metric("time left", f"about {format_duration(left_s)}")
        best_values(reading)
    st.progress(min(1.0, status["finished"] / max(1, status["target"])))
    left, right = st.columns(2)
    with left:
        st.subheader("Set-up", anchor=False)
        facts = pd.DataFrame([(name, plain(value)) for name, value in _facts(reading)])
        st.table(facts, border="horizontal", hide_index=True, hide_header=True)
    with right:
        st.subheader("Commands", anchor=False)
        for label, command in _commands(reading).items():
            st.caption(label)
            st.code(command, language="bash", wrap_lines=True)
    st.subheader("Runs", anchor=False)
    runs = reading.once("runs", partial(runs_table, results))
    zone = st.context.timezone
    shown = runs.assign(
        started=[local_time(time, zone) for time in runs["started"]],
        ended=[local_time(time, zone) for time in runs["ended"]],
    )
    st.dataframe(shown[list(_RUN_COLUMNS)], hide_index=True, width="stretch", column_config=_RUN_COLUMNS)
    with st.container(horizontal=True):
        link_button("timeline", "What ran when", spec.name)
        link_button("log", "Log and failures", spec.name)
    st.subheader("Spec", anchor=False)
    content = spec.model_dump(mode="json", exclude_none=True)
    st.code(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), language="yaml", height=420)


def question(spec: Spec) -> str:
    """Return what a study asks, in a sentence or two."""
    names = [parameter_label(name) for name in spec.space]
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
    verbs = {"min": "lower", "max": "raise"}
    aims = " and ".join(f"{verbs[mode]} {objective_label(name)}" for name, mode in spec.objectives.items())
    return f"Which values of {listed} {aims}? The two clips of a pair share their {' and '.join(spec.shared_factors)}."


def _facts(reading: Reading) -> list[tuple[str, str]]:
    """Return names and values of what the study was made with, in the order of the table."""
    results, spec = reading.results, reading.results.spec
    metadata = results.metadata
    data = ", ".join(f"{key} {value}" for key, value in spec.data.items() if key != "kind")
    run = results.runs[max(results.runs)] if results.runs else {}
    stack, halving = metadata.stack, spec.halving
    rule = "none" if halving is None else f"from {halving.min_steps:,} steps, 1 of {halving.reduction_factor:g} goes on"
    is_compiled = "compiled" if stack.get("compiled") else "not compiled"
    facts = {
        "data": f"{spec.data.get('kind')}{f' ({data})' if data else ''}",
        "factors": ", ".join(metadata.factors),
        "seeds": ", ".join(map(str, spec.seeds)),
        "budget": f"{spec.train.steps:,} steps of {spec.train.batch_pairs} pairs",
        "search": f"{spec.search.sampler}, seed {spec.search.seed}",
        "halving": rule,
        "stack": f"{stack.get('lanes')} lanes, {stack.get('precision')}, {is_compiled}",
        "machine": str(run.get("machine", "")),
        "versions": ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items()),
        "commit": str(run.get("commit", "")),
        "created": local_time(metadata.created, st.context.timezone),
        "plug-ins": ", ".join(str(plugin["reference"]) for plugin in metadata.plugins),
        "store": results.store.uri,
    }
    return [(name, value) for name, value in facts.items() if value]


def _commands(reading: Reading) -> dict[str, str]:
    uri = reading.results.store.uri
    best = list(reading.results.spec.objectives)[-1]
    commands = {"Stop it": command_for(uri, "stop")} if reading.is_live else {"Resume it": command_for(uri, "resume")}
    return commands | {
        "Export the best model": f"{command_for(uri, 'export')} --best {best} --to exported",
        "Print its results": command_for(uri, "results"),
    }
