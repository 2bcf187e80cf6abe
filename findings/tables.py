"""The tables of docs/findings.md, from the CSVs in `findings/data`.

    python -m findings.tables [--check]

Each table stands between `<!-- F3 -->` and `<!-- end -->` and is replaced by what the CSVs say; everything else in the
page is left as it is. A number is a mean over seeds with its standard deviation, a difference is taken seed by seed.
"""

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from findings.collect import DATA

PAGE = Path(__file__).parents[1] / "docs" / "findings.md"

FIDELITY, SEPARATION, MIG = "fidelity/log_mel_rmse_db", "disentanglement/separation", "disentanglement/mig"
SAP, STFT = "disentanglement/sap", "fidelity/stft_error"
# An open prize: what a configuration would have to reach, beside at most 1.2 times the error of reconstruction alone.
PRIZE = {
    "probe/timbre/shared": (">=", 0.99),
    "probe/frequency/private": (">=", 0.95),
    "probe/frequency/shared": ("<=", 0.15),
    "probe/timbre/private": ("<=", 0.5),
}
_PRIZE_ERROR = 1.2
_WORDS = {">=": "at least", "<=": "at most"}


@dataclass(frozen=True)
class Sounds:
    """What the studies ran on that a table is of.

    Attributes:
        suffix: of the studies' names.
        shared: the factor that the views shared.
        private: the factor that was to be private.
        others: further factors.
    """

    suffix: str
    shared: str
    private: str
    others: tuple[str, ...]

    def read(self, study: str) -> pd.DataFrame:
        """The replicates of a study."""
        return read(study + self.suffix)

    def provenance(self, *studies: str) -> str:
        """Where a table comes from."""
        return "  \n".join(provenance(study + self.suffix) for study in studies)


SYNTONE = Sounds("", "timbre", "frequency", ("amplitude",))
INSTRUMENTS = Sounds("-instruments", "instrument", "pitch", ("family", "velocity"))
PHRASES = Sounds("-phrases", "rhythm", "melody", ("instrument", "tempo"))
# What the two views of a phrase may share.
_CHOICES = ("rhythm", "melody", "instrument")


def read(study: str) -> pd.DataFrame:
    """The replicates of a study."""
    return pd.read_csv(DATA / f"{study}.csv")


def where(rows: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows of some values, `_` for `.` in names of parameters."""
    for name, value in values.items():
        rows = rows[rows[f"config/{name.replace('_', '.')}"] == value]
    return rows


def spread(values: pd.Series, digits: int = 3) -> str:
    """Mean and standard deviation over seeds."""
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std():.{digits}f}" if len(values) > 1 else mean


def change(rows: pd.DataFrame, reference: pd.DataFrame, metric: str) -> pd.Series:
    """Differences to a reference, by seed."""
    return rows.set_index("seed")[metric] - reference.set_index("seed")[metric]


def markdown(headings: list[str], lines: list[list[str]]) -> str:
    """A table."""
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (headings, ["---", *["---:"] * (len(headings) - 1)], *lines)
    )


def provenance(study: str) -> str:
    """Where a table comes from."""
    rows = read(study)
    commits, devices = (", ".join(sorted(rows[name].astype(str).unique())) for name in ("commit", "device"))
    return (
        f"*`{study}`: {rows['trial'].nunique()} trials, seeds {rows['seed'].min()} to {rows['seed'].max()}, "
        f"{rows['step'].max():,} steps of {rows['batch_pairs'].max()} pairs, commit {commits}, {devices}*"
    )


def _on_shared(strategies: pd.DataFrame) -> pd.DataFrame:
    """Trials that contrast the shared latents alone."""
    return where(strategies, contrast_shared=50, contrast_private=0)


def _reconstruction_alone(sounds: Sounds) -> pd.DataFrame:
    return where(sounds.read("strategies"), contrast_strategy="none", loss_reconstruction=1)


def _models(sounds: Sounds) -> dict[str, pd.DataFrame]:
    """Models that several findings look at, by what they are called."""
    strategies, search = sounds.read("strategies"), sounds.read("tradeoff")
    best = search.groupby("trial")[SEPARATION].mean().idxmax()
    with_contrast = where(_on_shared(strategies), contrast_strategy="infonce", loss_reconstruction=1)
    return {
        "reconstruction alone": _reconstruction_alone(sounds),
        "reconstruction, infonce on shared": with_contrast,
        f"best separation of the search (trial {best})": search[search["trial"] == best],
    }


def _by_model(sounds: Sounds, columns: dict[str, str]) -> str:
    lines = [[name, *(spread(rows[column]) for column in columns)] for name, rows in _models(sounds).items()]
    table = markdown(["model", *columns.values()], lines)
    return f"{table}\n\n{sounds.provenance('strategies', 'tradeoff')}"


def finding_1(sounds: Sounds) -> str:
    """Normalised mutual information of the factor with the one latent that tells most of it."""
    return _by_model(
        sounds,
        {
            f"nmi/{factor}/{subspace}": f"{factor} in {subspace}"
            for factor in (sounds.shared, sounds.private)
            for subspace in ("private", "shared")
        },
    )


def finding_2(sounds: Sounds) -> str:
    """Accuracy of probes."""
    return _by_model(
        sounds,
        {
            f"probe/{factor}/{subspace}": f"{factor} from {subspace}"
            for factor in (sounds.shared, sounds.private)
            for subspace in ("private", "shared")
        },
    )


def finding_3(sounds: Sounds) -> str:
    """Change of the separation with each weight alone."""
    rows = sounds.read("ablation")
    weights = [column for column in rows if column.startswith("config/")]
    none = rows[(rows[weights] == 0).all(axis=1)]
    values = sorted(set(rows[weights].to_numpy().ravel()) - {0})
    lines = []
    for weight in weights:
        others = [column for column in weights if column != weight]
        cells = []
        for value in values:
            found = rows[(rows[weight] == value) & (rows[others] == 0).all(axis=1)]
            cells.append(spread(change(found, none, SEPARATION), 2) if len(found) else "–")
        lines.append([f"`{weight.removeprefix('config/')}`", *cells])
    table = markdown(["weight", *(f"at {value:g}" for value in values)], lines)
    return (
        f"{table}\n\nSeparation with all weights at 0: {spread(none[SEPARATION])}.\n\n{sounds.provenance('ablation')}"
    )


def finding_4(sounds: Sounds) -> str:
    """What is read from reconstruction alone."""
    models = {
        "each view with the other's shared latents": _reconstruction_alone(sounds),
        "each view decoded separately": sounds.read("tradeoff").query("trial == 0"),
    }
    factors = (sounds.shared, sounds.private)
    names = [f"probe/{factor}/{subspace}" for factor in factors for subspace in ("private", "shared")]
    lines = [[name, *(spread(rows[column]) for column in (SEPARATION, *names))] for name, rows in models.items()]
    headings = ["reconstruction alone", "separation"]
    headings += [name.removeprefix("probe/").replace("/", " from ") for name in names]
    return f"{markdown(headings, lines)}\n\n{sounds.provenance('strategies', 'tradeoff')}"


def _against_reconstruction(sounds: Sounds, reconstruction: int) -> str:
    rows, alone = _on_shared(sounds.read("strategies")), _reconstruction_alone(sounds)
    lines = [["none, reconstruction alone", spread(alone[FIDELITY], 2), spread(alone[SEPARATION]), "", ""]]
    for strategy in rows["config/contrast.strategy"].unique():
        found = where(rows, contrast_strategy=strategy, loss_reconstruction=reconstruction)
        changes = [spread(change(found, alone, name), 2) for name in (FIDELITY, SEPARATION)]
        lines.append([strategy, spread(found[FIDELITY], 2), spread(found[SEPARATION]), *changes])
    headings = ["strategy", "log-mel RMSE (dB)", "separation", "change of the error", "change of the separation"]
    return markdown(headings, lines) + "\n\n" + sounds.provenance("strategies")


def finding_5(sounds: Sounds) -> str:
    """Contrast alone, on the shared latents."""
    return _against_reconstruction(sounds, 0)


def finding_6(sounds: Sounds) -> str:
    """Contrast on the shared latents and reconstruction."""
    return _against_reconstruction(sounds, 1)


def finding_7(sounds: Sounds) -> str:
    """What the shared latents hold of each factor."""
    names = [f"probe/{factor}/shared" for factor in (sounds.shared, sounds.private, *sounds.others)]
    rows, lines = sounds.read("schemes"), []
    for (scheme, strategy), found in rows.groupby(["config/views.scheme", "config/contrast.strategy"], sort=False):
        lines.append([f"{scheme}, {strategy}", *(spread(found[name], 2) for name in names), spread(found[FIDELITY], 2)])
    headings = ["views, strategy", *(name.split("/")[1] for name in names), "log-mel RMSE (dB)"]
    return markdown(headings, lines) + "\n\n" + sounds.provenance("schemes")


def finding_8(sounds: Sounds) -> str:
    """The best combinations beside reconstruction alone, in per cent."""
    search = sounds.read("tradeoff")
    metrics = {MIG: "MIG", SAP: "SAP", STFT: "STFT error", FIDELITY: "log-mel RMSE (dB)"}
    means = search.groupby("trial")[list(metrics)].mean()
    as_faithful = means[means[STFT] <= means.loc[0, STFT]]
    chosen = {
        "reconstruction alone": 0,
        "largest MIG": means[MIG].idxmax(),
        "largest MIG without loss of fidelity": as_faithful[MIG].idxmax(),
        "smallest STFT error": means[STFT].idxmin(),
    }
    lines = []
    for name, trial in chosen.items():
        found = search[search["trial"] == trial]
        cells = [f"{name} (trial {trial})"]
        for metric in metrics:
            # Computed from means: if the MIG of a seed is near zero, its relative change is meaningless.
            per_cent = 100 * (means.loc[trial, metric] / means.loc[0, metric] - 1)
            cells.append(spread(found[metric]) + (f" ({per_cent:+.0f} %)" if trial else ""))
        lines.append(cells)
    headings = ["model", *metrics.values()]
    return markdown(headings, lines) + "\n\n" + sounds.provenance("tradeoff")


def what_is_shared() -> str:
    """What each subspace holds of each factor of a phrase, when the views share one of them."""
    lines = []
    for shared in _CHOICES:
        for strategy, found in read(f"shared-{shared}").groupby("config/contrast.strategy", sort=False):
            accuracies = [
                " / ".join(f"{found[f'probe/{factor}/{subspace}'].mean():.2f}" for subspace in ("shared", "private"))
                for factor in (*_CHOICES, "tempo")
            ]
            lines.append([f"{shared}, {strategy}", *accuracies, spread(found[SEPARATION]), spread(found[FIDELITY], 2)])
    headings = ["views share, strategy", *_CHOICES, "tempo", "separation", "log-mel RMSE (dB)"]
    return markdown(headings, lines) + "\n\n" + "  \n".join(provenance(f"shared-{shared}") for shared in _CHOICES)


def way(rows: pd.DataFrame) -> pd.Series:
    """How far swaps go: 0 changes nothing, 1 is as near to what a clip should become as a reconstruction is to it."""
    return (rows["swap/none"] - rows["swap/shared"]) / (rows["swap/none"] - rows["swap/reconstruction"])


def swaps() -> str:
    """What a clip becomes with the shared latents of another."""
    search, longer = INSTRUMENTS.read("tradeoff"), read("instruments-check")
    means = search.assign(way=way(search)).groupby("trial")[["way", SEPARATION]].mean()
    farthest = means["way"].idxmax()
    alone = _on_shared(INSTRUMENTS.read("strategies"))
    models = {
        "instrument: each view decoded separately": search[search["trial"] == 0],
        "instrument: reconstruction alone": _reconstruction_alone(INSTRUMENTS),
        **{
            f"instrument: {strategy}": where(alone, contrast_strategy=strategy, loss_reconstruction=1)
            for strategy in ("infonce", "vicreg")
        },
        "instrument: dcl, a longer study": longer,
        f"instrument: farthest of the search (trial {farthest})": search[search["trial"] == farthest],
    } | {
        f"{shared} of a phrase: {strategy}": found
        for shared in _CHOICES
        for strategy, found in read(f"shared-{shared}").groupby("config/contrast.strategy", sort=False)
    }
    names = ("swap/reconstruction", "swap/none", "swap/shared")
    lines = [
        [name, *(spread(rows[column], 2) for column in names), spread(way(rows), 2)] for name, rows in models.items()
    ]
    table = markdown(["views share", "reconstruction", "no swap", "swap", "share of the way"], lines)
    studies = ["strategies-instruments", "tradeoff-instruments", "instruments-check"]
    studies += [f"shared-{shared}" for shared in _CHOICES]
    correlation = means.corr(method="spearman").loc["way", SEPARATION]
    return (
        f"{table}\n\nRank correlation of that share with the separation, over the {len(means)} trials of the search: "
        f"{correlation:.2f}.\n\n" + "  \n".join(map(provenance, studies))
    )


def prize() -> str:
    """The trial that comes closest to the prize, and by how much it misses each condition."""
    search = read("tradeoff")
    means = search.groupby("trial")[[*PRIZE, FIDELITY]].mean()
    most = _PRIZE_ERROR * means.loc[0, FIDELITY]
    missing = pd.DataFrame(
        {
            name: (bound - means[name] if sign == ">=" else means[name] - bound).clip(lower=0)
            for name, (sign, bound) in PRIZE.items()
        }
    )
    faithful = missing[means[FIDELITY] <= most]
    closest = faithful.sum(axis=1).idxmin()
    found = search[search["trial"] == closest]
    lines = [
        [name.removeprefix("probe/").replace("/", " from "), f"{_WORDS[sign]} {bound}", spread(found[name])]
        for name, (sign, bound) in PRIZE.items()
    ]
    lines.append(["log-mel RMSE (dB)", f"at most {most:.2f}", spread(found[FIDELITY], 2)])
    parameters = {
        column.removeprefix("config/"): found[column].iloc[0]
        for column in found
        if column.startswith("config/") and found[column].notna().all()
    }
    values = [
        f"`{name}={value:.3g}`" if isinstance(value, float) else f"`{name}={value}`"
        for name, value in parameters.items()
    ]
    table = markdown(["", "asked for", f"trial {closest}"], lines)
    return f"{table}\n\nTrial {closest}: {', '.join(values)}.\n\n{provenance('tradeoff')}"


_FINDINGS = (finding_1, finding_2, finding_3, finding_4, finding_5, finding_6, finding_7, finding_8)
TABLES: dict[str, Callable[[], str]] = {
    f"F{number}{name}": partial(finding, sounds)
    for number, finding in enumerate(_FINDINGS, 1)
    for name, sounds in (("", SYNTONE), (" instruments", INSTRUMENTS), (" phrases", PHRASES))
} | {"what is shared": what_is_shared, "swaps": swaps, "prize": prize}


def filled(page: str) -> str:
    """The page with every table as the CSVs have it."""
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        found = pattern.search(page)
        if not found:
            raise ValueError(f"the page has no place for {name}: <!-- {name} --> and <!-- end -->")
        try:
            text = table()
        except FileNotFoundError as error:
            text = f"*`{Path(error.filename).stem}` has not been run yet.*"
        page = f"{page[: found.end(1)]}{text}\n{page[found.start(2) :]}"
    return page


def main() -> None:
    """Write the page, or see whether it says what the CSVs say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a table is not what it should be")
    page = PAGE.read_text(encoding="utf-8")
    new = filled(page)
    if parser.parse_args().check:
        sys.exit(0 if new == page else f"{PAGE} is not what findings/data says: run python -m findings.tables")
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
