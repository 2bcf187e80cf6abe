"""Which replicates lack metrics that are computed after training, for the front and trials near it."""

from collections import Counter
from itertools import product

from study.analysis.aggregation import REPORT_KEY
from study.analysis.pareto import front_candidates
from study.analysis.results import StudyResults
from study.spec import Baseline, TrialId

Replicates = dict[str, list[tuple[TrialId, int]]]
"""Trial and seed of replicates, by post-training group."""


def missing_post_training(results: StudyResults) -> Replicates:
    """Return the replicates of the front candidates and the plain VAE that lack metrics.

    Metrics that an earlier run could not compute are left out.
    """
    unavailable = _unavailable(results)
    return {
        group: missing
        for group, replicates in _lacking(results).items()
        if (missing := [replicate for replicate in replicates if (group, *replicate) not in unavailable])
    }


def unavailable_post_training(results: StudyResults) -> Counter[tuple[str, str]]:
    """Return the number of replicates for which earlier runs could not compute metrics, by group and reason."""
    unavailable = _unavailable(results)
    lacking = ((group, *each) for group, replicates in _lacking(results).items() for each in replicates)
    return Counter((key[0], unavailable[key]) for key in lacking if key in unavailable)


def _unavailable(results: StudyResults) -> dict[tuple[str, TrialId, int], str]:
    """Return reasons by post-training group, trial and seed, as runs have recorded them."""
    entries = [entry for run in results.runs.values() for entry in run.get("unavailable", [])]
    return {(entry["group"], entry["trial"], entry["seed"]): entry["reason"] for entry in entries}


def _lacking(results: StudyResults) -> Replicates:
    spec = results.spec
    candidates = front_candidates(results.results(), spec)
    trials: list[TrialId] = [*sorted(candidates.front + candidates.near)]
    # A replicate that has this metric has its whole group.
    markers = {
        "test": "test/fidelity/log_mel_rmse_db",
        "samples": f"sampled_probe/{spec.shared_factors[0]}/both",
        "dci": "disentanglement/dci",
        "sound": "fidelity/stft_error",
    }
    baseline = results.plain_vae_reports().assign(trial=Baseline.PLAIN_VAE)
    tables = (results.reports(columns=[*REPORT_KEY, *markers.values()]), baseline)
    reports, baseline = (rows[rows["step"] == spec.train.steps] for rows in tables)
    if trials and len(baseline):
        trials.append(Baseline.PLAIN_VAE)
    missing: Replicates = {}
    for group in spec.post_training:
        marker = markers[group]
        present = [rows.dropna(subset=[marker]) for rows in (reports, baseline) if marker in rows]
        measured = {replicate for rows in present for replicate in zip(rows["trial"], rows["seed"], strict=True)}
        missing[group] = [replicate for replicate in product(trials, spec.seeds) if replicate not in measured]
    return missing
