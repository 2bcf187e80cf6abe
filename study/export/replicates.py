"""Stored models of a study: which to use, the final checkpoint of a replicate, and its feature extractor."""

from collections.abc import Iterable

import pandas as pd
import torch

from marl.checkpoint import METADATA_FILE, MODEL_FILE, ModelMetadata, build_extractor, unloaded_network
from marl.extractor import FeatureExtractor
from study.analysis import StudyResults, trial_name
from study.errors import RunError, UserError, command_for, is_command_line
from study.spec import Baseline, TrialId
from study.store import Checkpoint

_RETRAIN = "train this one again: run the study under another name with its configuration in `include`"


def choose_trials(
    results: StudyResults, trials: Iterable[int] | None = None, best: str | None = None
) -> tuple[list[int], str]:
    """Return the trials to export, and the metric that selects the replicate of each.

    Args:
        results: Results of the study.
        trials: Numbers of trials; None for the best trial in `best`, or without it for the front.
        best: Metric; None for the last objective.

    Raises:
        UserError: If there are both trials and a metric, no complete trial, or no such metric.
    """
    metric = list(results.spec.objectives)[-1] if best is None else best
    if trials is not None:
        if best is not None:
            raise UserError("trials and best: give one of them; best chooses a trial by itself")
        return list(dict.fromkeys(trials)), metric
    numbers = [int(number) for number in results.front()["trial"]] if best is None else [results.best_trial(best)]
    if not numbers:
        raise UserError(f"study {results.spec.name!r} has no complete trial yet, so it has no front")
    return numbers, metric


def best_seed(results: StudyResults, trial: int, metric: str) -> int:
    """Return the seed of the replicate of a trial that is best in a metric; raise a UserError if one has no value."""
    reports = final_reports(results, trial)
    if metric not in reports or reports[metric].isna().any():
        raise UserError(f"trial {trial} has no value of {metric!r}, which selects the replicate to export")
    return int(reports[metric].idxmin() if results.spec.direction(metric) == "min" else reports[metric].idxmax())


def final_reports(results: StudyResults, trial: int) -> pd.DataFrame:
    """Return the reports of a trial at the full budget, by seed, with the latest version of each metric."""
    reports = results.reports([trial])
    final = reports[reports["step"] == results.spec.train.steps]
    return final.groupby("seed").last()


def check_complete(results: StudyResults, trial: TrialId, seed: int) -> None:
    """Raise a UserError unless a trial or the plain VAE is complete and has this seed; it says what to do."""
    states = results.trials().set_index("trial")["state"].to_dict()
    if isinstance(trial, Baseline) and trial in set(results.baselines().get("baseline", ())):
        states[trial] = "complete"
    state = states.get(trial, "not there")
    if state != "complete":
        complete = next((number for number, state in states.items() if state == "complete"), None)
        alternative = "no trial is complete yet" if complete is None else f"choose a complete one, such as {complete}"
        advice = {
            "running": "wait until it has trained to the full budget",
            "interrupted": f"resume the study by `{command_for(results.store.uri, 'resume')}`",
            "pruned": f"halving stopped it; {alternative}",
        }.get(state, alternative)
        raise UserError(f"only complete trials have a final model; {trial_name(trial)} is {state}: {advice}")
    if seed not in results.spec.seeds:
        raise UserError(f"seed must be one of the study's, {', '.join(map(str, results.spec.seeds))}; got {seed}")


def final_checkpoint(results: StudyResults, trial: TrialId, seed: int) -> Checkpoint:
    """Return the checkpoint of a replicate at the full budget.

    Raises:
        UserError: If the weights were deleted.
        RunError: If the checkpoint is missing or damaged.
    """
    checkpoint = results.store.latest_checkpoint(trial, seed)
    if checkpoint is not None and checkpoint.step == results.spec.train.steps:
        return checkpoint
    if (when := results.store.discarded(trial)) is not None:
        uri = results.store.uri
        front = f"{command_for(uri, 'results')} --front" if is_command_line() else command_for(uri, "front")
        raise UserError(
            f"the weights of trial {trial} were deleted by `marl-study clean` on {when[:10]}; its results and latents "
            f"are kept. Choose a trial that has weights, such as one of the front (`{front}`), or {_RETRAIN}"
        )
    raise _damaged(results, trial, seed)


def load_extractor(
    results: StudyResults, trial: TrialId, seed: int, device: torch.device | str = "cpu"
) -> FeatureExtractor:
    """Return the feature extractor of a replicate of a complete trial, or of the plain VAE, at the full budget.

    It reads safetensors and JSON, and executes nothing.

    Raises:
        UserError: If the trial is not complete, the study does not have the seed, or the weights were deleted.
        RunError: If the checkpoint is missing or damaged.
    """
    check_complete(results, trial, seed)
    files = final_checkpoint(results, trial, seed).files
    try:
        return build_extractor(ModelMetadata.model_validate_json(files[METADATA_FILE]), files[MODEL_FILE], device)
    except KeyError as error:
        raise _damaged(results, trial, seed, f" ({error.args[0]} is missing)") from None
    except ValueError as error:
        if (network := unloaded_network(files[METADATA_FILE])) is not None:
            raise UserError(
                f"the network is the plug-in {network}, and a model that is read imports no code; "
                + (
                    f"export the trial, and use `marl-study swap` with --plugin {network}"
                    if is_command_line()
                    else f'open the study with plugins=["{network}"]'
                )
            ) from None
        raise _damaged(results, trial, seed, f" ({str(error).splitlines()[0]})") from None


def _damaged(results: StudyResults, trial: TrialId, seed: int, reason: str = "") -> RunError:
    return RunError(
        f"the checkpoint of trial {trial}, seed {seed} is missing or damaged in {results.store.uri}{reason}; choose "
        f"another seed or trial, or {_RETRAIN}"
    )
