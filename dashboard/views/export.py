"""Page 'Export': download models as self-contained bundles, or copy the command that writes them."""

import io
import tempfile
import zipfile
from pathlib import Path

import pandas as pd
import streamlit as st

from dashboard.address import TRIALS, choose, choose_many
from dashboard.reading import Reading
from dashboard.text import plain
from study.analysis import metric_columns
from study.errors import RunError, UserError, command_for
from study.formatting import format_bytes, objective_label

_MAX_TRIALS = 20
_BUNDLES = "bundles"


def page(reading: Reading) -> None:
    """Draw a selector of complete trials, the command that exports the chosen ones, and a download of their models."""
    results, spec = reading.results, reading.results.spec
    table = results.results()
    complete = table[table["state"] == "complete"]["trial"].tolist()
    if not complete:
        st.info("No trial is complete yet. Only complete trials can be exported.")
        return
    trials = choose_many(TRIALS, "Trials", complete, (), limit=_MAX_TRIALS)
    if not trials:
        trials = reading.front["trial"].tolist()[:_MAX_TRIALS]
        st.caption(f"No trial is selected, so these are the trials on the front: {', '.join(map(str, trials))}.")
    objectives = list(spec.objectives)
    metrics = list(dict.fromkeys([*objectives, *metric_columns(table)]))
    metric = choose("by", "Export the replicate that is best in", metrics, objectives[-1], objective_label)
    if not trials:
        st.info("Choose at least one trial.")
        return
    st.caption(
        "A bundle holds weights, configuration, held-out clips, scores, a model card, and the SHA-256 of each file."
    )
    options = " ".join(f"--trial {trial}" for trial in trials)
    st.code(f"{command_for(results.store.uri, 'export')} {options} --to exported", language="bash")
    if metric != objectives[-1]:
        st.caption(f"The command exports the replicate that is best in {objective_label(objectives[-1])}.")
    request = (spec.name, tuple(trials), metric)
    if st.button("Prepare the download", type="primary"):
        try:
            with st.spinner("Writing the bundles and scoring each model on its clips"):
                st.session_state[_BUNDLES] = (request, *_bundles(reading, trials, metric))
        except (UserError, RunError) as error:
            st.error(plain(str(error)))
            return
    prepared = st.session_state.get(_BUNDLES)
    if prepared is None or prepared[0] != request:
        return
    _, content, files, cards = prepared
    label = f"Download {len(trials)} model{'s' * (len(trials) != 1)}, {format_bytes(len(content))}"
    st.download_button(label, content, f"{spec.name}-models.zip", mime="application/zip", on_click="ignore")
    st.caption("Unpack it and check each folder with `marl-study verify DIR`.")
    st.dataframe(files, hide_index=True, width="stretch")
    for name, card in cards.items():
        with st.expander(f"Model card of {plain(name)}"):
            st.code(card, language=None, wrap_lines=True)


def _bundles(reading: Reading, trials: list[int], metric: str) -> tuple[bytes, pd.DataFrame, dict[str, str]]:
    """Return a ZIP file of the bundles, a table of their files, and their model cards."""
    from study.export.bundle import export_trials  # imports torch, which takes seconds
    from study.export.verify import checksums

    buffer = io.BytesIO()
    files, cards = [], {}
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for bundle in export_trials(reading.results, trials, metric, Path(folder)):
            sums = checksums(bundle)
            cards[bundle.name] = (bundle / "README.md").read_text(encoding="utf-8")
            for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
                name = path.relative_to(bundle).as_posix()
                archive.write(path, f"{bundle.name}/{name}")
                files.append((bundle.name, name, format_bytes(path.stat().st_size), sums.get(name, "")))
    return buffer.getvalue(), pd.DataFrame(files, columns=["model", "file", "size", "SHA-256"]), cards
