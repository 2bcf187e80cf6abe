"""Error of swaps: the distance of a clip that is decoded with another clip's shared latents to its target.

    python -m findings.swaps STUDY... [--store URI]

Adds columns to the CSVs of `findings.collect`. A pair is two validation clips, A and B. The target of A with the shared
latents of B is the clip with B's values of the factors that views share and A's of all others, which exists if the data
have every combination. Columns, root mean square differences of log-mels in dB over the same pairs:

    swap/reconstruction   A decoded from its own latents, to A
    swap/none             A decoded from its own latents, to the target: the value of a swap without effect
    swap/shared           A decoded with the shared latents of B, to the target
"""

import torch

from findings.collect import new_parser, read, write
from marl.checkpoint import METADATA_FILE, MODEL_FILE, ModelMetadata, build_extractor
from marl.data import Dataset
from marl.extractor import FeatureExtractor
from study.cli.common import open_results
from study.datasets import dataset_of
from study.spec.resolved_spec import ResolvedSpec

_PAIRS = 512
_SEED = 0
_COLUMNS = ("swap/reconstruction", "swap/none", "swap/shared")


def pairs(dataset: Dataset, shared: tuple[str, ...]) -> torch.Tensor:
    """Draw A, B and the target, [n, 3] clips. A and B differ in at least one of the factors that views share."""
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
    """Return the columns of one model."""
    log_mels = [dataset.log_mels[clips] for clips in pairs_n3.T]
    sizes = [model.private, model.shared]
    (private, shared), (_, others) = (model.posterior(one).mean.split(sizes, dim=-1) for one in log_mels[:2])
    own, swapped = model.decode(private, shared), model.decode(private, others)
    a, _, wanted = log_mels
    differences = (own - a, own - wanted, swapped - wanted)
    return [float(difference.square().mean().sqrt() * dataset.audio.std_db) for difference in differences]


def main() -> None:
    """Add the columns to the CSV of each study."""
    parser = new_parser(__doc__)
    parser.add_argument("studies", nargs="+", metavar="STUDY")
    arguments = parser.parse_args()
    for study in arguments.studies:
        results = open_results(arguments.store, study)
        dataset = dataset_of(ResolvedSpec(results.spec), results.store.objects, torch.device("cpu"))
        drawn = pairs(dataset, results.spec.shared_factors)
        if not len(drawn):
            raise SystemExit(f"the data of {study} have no targets of swaps: combinations of factors are missing")
        rows = read(study)
        for place, (trial, seed) in enumerate(rows[["trial", "seed"]].itertuples(index=False)):
            found = results.store.latest_checkpoint(trial, seed)
            if found is None:
                raise SystemExit(f"trial {trial}, seed {seed} of {study} has no stored weights")
            metadata = ModelMetadata.model_validate_json(found.files[METADATA_FILE])
            model = build_extractor(metadata, found.files[MODEL_FILE])
            rows.loc[place, list(_COLUMNS)] = errors(model, dataset, drawn)
        write(study, rows)
        print(f"{study}: {len(rows)} models, {len(drawn)} pairs")


if __name__ == "__main__":
    main()
