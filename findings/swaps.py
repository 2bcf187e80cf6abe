"""What swaps come to: is a clip with another one's shared latents decoded to what it should be?

    python -m findings.swaps STUDY... [--store URI]

Added to the CSVs of `findings.collect`. A pair is two validation clips, A and B. A with the shared latents of B should
become the clip that has B's values of the factors that views share and A's of all others; where the data have every
combination, that clip exists. Columns, root mean square differences of log-mels in dB, each over the same pairs:

    swap/reconstruction   A decoded from its own latents, to A
    swap/none             the same, to the clip that it should become: what a swap that changes nothing comes to
    swap/shared           A with the shared latents of B, to the clip that it should become
"""

import argparse
import os

import pandas as pd
import torch

from findings.collect import DATA
from marl.checkpoint import METADATA_FILE, MODEL_FILE, ModelMetadata, build_extractor
from marl.data import Dataset
from marl.extractor import FeatureExtractor
from study.analysis import StudyResults
from study.datasets.load import dataset_of
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore
from study.store import StudyStore

_PAIRS = 512
_SEED = 0
_COLUMNS = ("swap/reconstruction", "swap/none", "swap/shared")


def pairs(dataset: Dataset, shared: tuple[str, ...]) -> torch.Tensor:
    """A, B and what A should become, [n, 3] clips; A and B differ in at least one of the factors that views share."""
    order = torch.Generator().manual_seed(_SEED)
    validation = dataset.splits["validation"]
    first, second = (validation[torch.randint(len(validation), (2 * _PAIRS,), generator=order)] for _ in range(2))
    is_shared_C = torch.tensor([name in shared for name in dataset.factor_names])
    wanted_nC = torch.where(is_shared_C, dataset.value_NC[second], dataset.value_NC[first])
    clip_of = {tuple(values): clip for clip, values in enumerate(dataset.value_NC.tolist())}
    rows = zip(first.tolist(), second.tolist(), map(tuple, wanted_nC.tolist()), strict=True)
    found = [(a, b, clip_of[wanted]) for a, b, wanted in rows if clip_of.get(wanted, a) != a]
    return torch.tensor(found[:_PAIRS])


def errors(model: FeatureExtractor, dataset: Dataset, pairs_n3: torch.Tensor) -> list[float]:
    """The columns of one model."""
    log_mels = [dataset.log_mels[clips] for clips in pairs_n3.T]
    private, shared = [], []
    for log_mel_nFT in log_mels[:2]:
        parts = model.posterior(log_mel_nFT).mean.split([model.private, model.shared], dim=-1)
        private.append(parts[0])
        shared.append(parts[1])
    own, swapped = model.decode(private[0], shared[0]), model.decode(private[0], shared[1])
    a, _, wanted = log_mels
    differences = (own - a, own - wanted, swapped - wanted)
    return [float(difference.square().mean().sqrt() * dataset.audio.std_db) for difference in differences]


def main() -> None:
    """Add the columns to the CSV of each study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", metavar="STUDY")
    parser.add_argument("--store", default=os.environ.get("MARL_STORE", "runs"))
    arguments = parser.parse_args()
    for study in arguments.studies:
        results = StudyResults(StudyStore(ObjectStore(arguments.store), study))
        dataset = dataset_of(ResolvedSpec(results.spec), results.store.objects, torch.device("cpu"))
        drawn = pairs(dataset, results.spec.shared_factors)
        if not len(drawn):
            raise SystemExit(f"the data of {study} have no clip that a swap should come to: combinations are missing")
        path = DATA / f"{study}.csv"
        rows = pd.read_csv(path)
        for place, (trial, seed) in enumerate(rows[["trial", "seed"]].itertuples(index=False)):
            found = results.store.latest_checkpoint(trial, seed)
            if found is None:
                raise SystemExit(f"the weights of trial {trial}, seed {seed} of {study} are not there")
            metadata = ModelMetadata.model_validate_json(found.files[METADATA_FILE])
            model = build_extractor(metadata, found.files[MODEL_FILE])
            rows.loc[place, list(_COLUMNS)] = errors(model, dataset, drawn)
        rows.to_csv(path, index=False, float_format="%.4g", lineterminator="\n")
        print(f"{study}: {len(rows)} models, {len(drawn)} pairs")


if __name__ == "__main__":
    main()
