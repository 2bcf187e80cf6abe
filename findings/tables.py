"""The tables of docs/findings.md, from the CSVs in `findings/data`.

    python -m findings.tables [--check]

Each table stands between `<!-- F3 -->` and `<!-- end -->` and is replaced; the rest of the page stays. A number is a
mean over seeds with its standard deviation; differences are taken seed by seed.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from findings.collect import provenance, read

PAGE = Path(__file__).parents[1] / "docs" / "findings.md"

FIDELITY, SEPARATION, MIG = "fidelity/log_mel_rmse_db", "disentanglement/separation", "disentanglement/mig"
SAP, STFT = "disentanglement/sap", "fidelity/stft_error"
# Goals of the prize: bounds of probe accuracies, and at most 1.2 times the error of reconstruction alone.
PRIZE = {
    "probe/timbre/shared": ("at least", 0.99),
    "probe/frequency/private": ("at least", 0.95),
    "probe/frequency/shared": ("at most", 0.15),
    "probe/timbre/private": ("at most", 0.5),
}
_PRIZE_ERROR = 1.2
# Factors of a phrase that its two views may share.
_CHOICES = ("rhythm", "melody", "instrument")
_SHARED_STUDIES = tuple(f"shared-{factor}" for factor in _CHOICES)
_SWAPS = {"swap/reconstruction": "reconstruction", "swap/none": "no swap", "swap/shared": "swap"}


class Data(NamedTuple):
    """Data on which the same studies ran, with the factor that the views share and the one that should be private."""

    suffix: str
    shared: str
    private: str
    others: tuple[str, ...]


SYNTONE = Data("", "timbre", "frequency", ("amplitude",))
INSTRUMENTS = Data("-instruments", "instrument", "pitch", ("family", "velocity"))
PHRASES = Data("-phrases", "rhythm", "melody", ("instrument", "tempo"))


def where(rows: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Return the rows with these values of parameters; `_` stands for `.` in their names."""
    for name, value in values.items():
        rows = rows[rows[f"config/{name.replace('_', '.')}"] == value]
    return rows


def spread(values: pd.Series, digits: int = 3) -> str:
    """Format mean and standard deviation over seeds."""
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std():.{digits}f}" if len(values) > 1 else mean


def change(rows: pd.DataFrame, reference: pd.DataFrame, metric: str) -> pd.Series:
    """Return the differences to a reference by seed."""
    return rows.set_index("seed")[metric] - reference.set_index("seed")[metric]


def page(
    headings: Sequence[str], lines: Sequence[Sequence[str]], *studies: str, data: Data = SYNTONE, note: str = ""
) -> str:
    """Return a Markdown table with a note and the provenance of its studies."""
    rows = (headings, ["---", *["---:"] * (len(headings) - 1)], *lines)
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    return "\n\n".join(filter(None, (table, note, "  \n".join(provenance(name + data.suffix) for name in studies))))


def by_model(models: Mapping[str, pd.DataFrame], columns: Iterable[str], digits: int = 3) -> list[list[str]]:
    """Return a line for each model with the spread of each column."""
    return [[name, *(spread(rows[column], digits) for column in columns)] for name, rows in models.items()]


def _columns(metric: str, word: str, data: Data) -> dict[str, str]:
    """Return columns of both factors in both subspaces, with headings."""
    parts = [(factor, part) for factor in (data.shared, data.private) for part in ("private", "shared")]
    return {f"{metric}/{factor}/{part}": f"{factor} {word} {part}" for factor, part in parts}


def _on_shared(data: Data, **values: object) -> pd.DataFrame:
    """Return the trials that contrast only the shared latents."""
    return where(read("strategies" + data.suffix), contrast_shared=50, contrast_private=0, **values)


def _reconstruction_alone(data: Data) -> pd.DataFrame:
    return where(read("strategies" + data.suffix), contrast_strategy="none", loss_reconstruction=1)


def metric_of_models(metric: str, word: str, data: Data) -> str:
    """Findings 1 and 2: each factor in each subspace, by the best single latent (nmi) or a probe."""
    search = read("tradeoff" + data.suffix)
    best = search.groupby("trial")[SEPARATION].mean().idxmax()
    models = {
        "reconstruction alone": _reconstruction_alone(data),
        "reconstruction, infonce on shared": _on_shared(data, contrast_strategy="infonce", loss_reconstruction=1),
        f"best separation of the search (trial {best})": search[search["trial"] == best],
    }
    columns = _columns(metric, word, data)
    return page(["model", *columns.values()], by_model(models, columns), "strategies", "tradeoff", data=data)


def finding_3(data: Data) -> str:
    """Change of the separation with each weight alone."""
    rows = read("ablation" + data.suffix)
    weights = [column for column in rows if column.startswith("config/")]
    none = rows[(rows[weights] == 0).all(axis=1)]
    values = sorted(set(rows[weights].to_numpy().ravel()) - {0})
    lines = []
    for weight in weights:
        alone = rows[(rows[weights].drop(columns=weight) == 0).all(axis=1)]
        found = [alone[alone[weight] == value] for value in values]
        cells = [spread(change(one, none, SEPARATION), 2) if len(one) else "–" for one in found]
        lines.append([f"`{weight.removeprefix('config/')}`", *cells])
    note = f"Separation with all weights at 0: {spread(none[SEPARATION])}."
    return page(["weight", *(f"at {value:g}" for value in values)], lines, "ablation", data=data, note=note)


def finding_4(data: Data) -> str:
    """Accuracy of probes on models of reconstruction alone."""
    models = {
        "each view with the other's shared latents": _reconstruction_alone(data),
        "each view decoded separately": read("tradeoff" + data.suffix).query("trial == 0"),
    }
    columns = {SEPARATION: "separation", **_columns("probe", "from", data)}
    headings = ["reconstruction alone", *columns.values()]
    return page(headings, by_model(models, columns), "strategies", "tradeoff", data=data)


def contrast_on_shared(reconstruction: int, data: Data) -> str:
    """Findings 5 and 6: each strategy on the shared latents, without and with reconstruction."""
    rows, alone = _on_shared(data), _reconstruction_alone(data)
    lines = [["none, reconstruction alone", spread(alone[FIDELITY], 2), spread(alone[SEPARATION]), "", ""]]
    for strategy in rows["config/contrast.strategy"].unique():
        found = where(rows, contrast_strategy=strategy, loss_reconstruction=reconstruction)
        changes = [spread(change(found, alone, name), 2) for name in (FIDELITY, SEPARATION)]
        lines.append([strategy, spread(found[FIDELITY], 2), spread(found[SEPARATION]), *changes])
    headings = ["strategy", "log-mel RMSE (dB)", "separation", "change of the error", "change of the separation"]
    return page(headings, lines, "strategies", data=data)


def finding_7(data: Data) -> str:
    """Accuracy of probes for each factor on the shared latents."""
    factors = (data.shared, data.private, *data.others)
    groups = read("schemes" + data.suffix).groupby(["config/views.scheme", "config/contrast.strategy"], sort=False)
    models = {f"{scheme}, {strategy}": rows for (scheme, strategy), rows in groups}
    lines = by_model(models, (*(f"probe/{factor}/shared" for factor in factors), FIDELITY), digits=2)
    return page(["views, strategy", *factors, "log-mel RMSE (dB)"], lines, "schemes", data=data)


def finding_8(data: Data) -> str:
    """The best combinations compared with reconstruction alone, in per cent."""
    search = read("tradeoff" + data.suffix)
    metrics = {MIG: "MIG", SAP: "SAP", STFT: "STFT error", FIDELITY: "log-mel RMSE (dB)"}
    means = search.groupby("trial")[list(metrics)].mean()
    as_faithful = means[means[STFT] <= means.loc[0, STFT]]
    chosen = {
        "reconstruction alone": 0,
        "largest MIG": means[MIG].idxmax(),
        "largest MIG without loss of fidelity": as_faithful[MIG].idxmax(),
        "smallest STFT error": means[STFT].idxmin(),
    }
    # Relative changes of means: if the MIG of a seed is near zero, its relative change is meaningless.
    per_cent = 100 * (means / means.loc[0] - 1)
    lines = []
    for name, trial in chosen.items():
        found = search[search["trial"] == trial]
        changes = [f" ({value:+.0f} %)" if trial else "" for value in per_cent.loc[trial]]
        cells = [spread(found[metric]) + change for metric, change in zip(metrics, changes, strict=True)]
        lines.append([f"{name} (trial {trial})", *cells])
    return page(["model", *metrics.values()], lines, "tradeoff", data=data)


def _by_shared_factor() -> Iterable[tuple[tuple[str, str], pd.DataFrame]]:
    """Group replicates on phrases by the factor that the views share and the strategy."""
    studies = pd.concat(read(f"shared-{factor}").assign(shared=factor) for factor in _CHOICES)
    return studies.groupby(["shared", "config/contrast.strategy"], sort=False)


def what_is_shared() -> str:
    """Accuracy of probes for each factor of a phrase on both subspaces, by the factor that the views share."""
    lines = []
    for (shared, strategy), found in _by_shared_factor():
        accuracies = [
            " / ".join(f"{found[f'probe/{factor}/{subspace}'].mean():.2f}" for subspace in ("shared", "private"))
            for factor in (*_CHOICES, "tempo")
        ]
        lines.append([f"{shared}, {strategy}", *accuracies, spread(found[SEPARATION]), spread(found[FIDELITY], 2)])
    headings = ["views share, strategy", *_CHOICES, "tempo", "separation", "log-mel RMSE (dB)"]
    return page(headings, lines, *_SHARED_STUDIES)


def swaps() -> str:
    """Distance of clips that are decoded with the shared latents of another clip to their target."""

    def with_progress(rows: pd.DataFrame) -> pd.DataFrame:
        none, swapped, reconstruction = rows["swap/none"], rows["swap/shared"], rows["swap/reconstruction"]
        return rows.assign(way=(none - swapped) / (none - reconstruction))

    search = read("tradeoff" + INSTRUMENTS.suffix)
    means = with_progress(search).groupby("trial")[["way", SEPARATION]].mean()
    farthest = means["way"].idxmax()
    models = {
        "instrument: each view decoded separately": search[search["trial"] == 0],
        "instrument: reconstruction alone": _reconstruction_alone(INSTRUMENTS),
        "instrument: infonce": _on_shared(INSTRUMENTS, contrast_strategy="infonce", loss_reconstruction=1),
        "instrument: vicreg": _on_shared(INSTRUMENTS, contrast_strategy="vicreg", loss_reconstruction=1),
        "instrument: dcl, a longer study": read("instruments-check"),
        f"instrument: farthest of the search (trial {farthest})": search[search["trial"] == farthest],
    }
    models |= {f"{shared} of a phrase: {strategy}": rows for (shared, strategy), rows in _by_shared_factor()}
    correlation = means.corr(method="spearman").loc["way", SEPARATION]
    return page(
        ["views share", *_SWAPS.values(), "share of the way"],
        by_model({name: with_progress(rows) for name, rows in models.items()}, (*_SWAPS, "way"), digits=2),
        *("strategies-instruments", "tradeoff-instruments", "instruments-check", *_SHARED_STUDIES),
        note=f"Rank correlation of that share with the separation, over the {len(means)} trials of the search: "
        f"{correlation:.2f}.",
    )


def prize() -> str:
    """The trial that comes closest to the prize, and by how much it misses each goal."""
    search = read("tradeoff")
    means = search.groupby("trial")[[*PRIZE, FIDELITY]].mean()
    max_error = _PRIZE_ERROR * means.loc[0, FIDELITY]
    below = {name: (bound - means[name]) * (1 if side == "at least" else -1) for name, (side, bound) in PRIZE.items()}
    missing = pd.DataFrame(below).clip(lower=0).sum(axis=1)
    closest = missing[means[FIDELITY] <= max_error].idxmin()
    found = search[search["trial"] == closest]
    lines = [
        [name.removeprefix("probe/").replace("/", " from "), f"{side} {bound}", spread(found[name])]
        for name, (side, bound) in PRIZE.items()
    ]
    lines.append(["log-mel RMSE (dB)", f"at most {max_error:.2f}", spread(found[FIDELITY], 2)])
    parameters = found.filter(like="config/").dropna(axis="columns").iloc[0]
    values = [
        f"`{name.removeprefix('config/')}={f'{value:.3g}' if isinstance(value, float) else value}`"
        for name, value in parameters.items()
    ]
    return page(["", "asked for", f"trial {closest}"], lines, "tradeoff", note=f"Trial {closest}: {', '.join(values)}.")


_FINDINGS: Mapping[int, Callable[[Data], str]] = {
    1: partial(metric_of_models, "nmi", "in"),
    2: partial(metric_of_models, "probe", "from"),
    3: finding_3,
    4: finding_4,
    5: partial(contrast_on_shared, 0),
    6: partial(contrast_on_shared, 1),
    7: finding_7,
    8: finding_8,
}
TABLES: dict[str, Callable[[], str]] = {
    f"F{number}{name}": partial(finding, data)
    for number, finding in _FINDINGS.items()
    for name, data in (("", SYNTONE), (" instruments", INSTRUMENTS), (" phrases", PHRASES))
} | {"what is shared": what_is_shared, "swaps": swaps, "prize": prize}


def filled(text: str) -> str:
    """Return the page with every table made from the CSVs."""
    for name, table in TABLES.items():
        found = re.search(rf"(<!-- {name} -->\n).*?(<!-- end -->)", text, re.DOTALL)
        if not found:
            raise ValueError(f"the page has no place for {name}: <!-- {name} --> and <!-- end -->")
        try:
            content = table()
        except FileNotFoundError as error:
            content = f"*`{Path(error.filename).stem}` has not been run yet.*"
        text = f"{text[: found.end(1)]}{content}\n{text[found.start(2) :]}"
    return text


def main() -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a table differs from its CSVs")
    is_check, text = parser.parse_args().check, PAGE.read_text(encoding="utf-8")
    new = filled(text)
    if not is_check:
        PAGE.write_text(new, encoding="utf-8")
    elif new != text:
        sys.exit(f"{PAGE} differs from findings/data: run python -m findings.tables")


if __name__ == "__main__":
    main()
