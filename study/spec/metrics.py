"""Reference of the metrics that may be objectives: meaning, better direction and range of each.

Names are patterns: `<factor>`, `<class>`, `<path>`, `<term>` and `<metric>` stand for any name of their kind, and
`{private,shared}` for one of these words.
"""

import itertools
import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

__all__ = ["EVERY_REPORT", "LAST_REPORT", "METRICS", "ColumnReference"]

EVERY_REPORT, LAST_REPORT = "every report", "last report"


class ColumnReference(NamedTuple):
    """Description of a column of results, or of several with the same meaning.

    Attributes:
        pattern: Pattern of the names.
        meaning: One or two sentences.
        better: Which values are better; `by subspace` if higher is better where the factor belongs, and lower in the
            other subspace; empty for a column that is not a score.
        range: Smallest and largest value; empty for a column that is not a number.
        when: Reports that have the column.
    """

    pattern: str
    meaning: str
    better: Literal["higher", "lower", "by subspace", ""] = ""
    range: str = ""
    when: str = ""

    def names(self, factors: Iterable[str]) -> list[str]:
        """Return the names for the factors of a data set; other words in angle brackets stay."""
        factors = factors if "<factor>" in self.pattern else [""]
        parts = [part.split(",") for part in re.split(r"[{}]", self.pattern)]
        variants = ["".join(words) for words in itertools.product(*parts)]
        return [variant.replace("<factor>", factor) for variant in variants for factor in factors]

    def matches(self, name: str) -> bool:
        """Return whether a column has this pattern."""
        words = re.split(r"(<\w+>|\{[^}]*\})", self.pattern)
        return re.fullmatch("".join(map(_expression, words)), name) is not None


def _expression(part: str) -> str:
    if part.startswith("{"):
        return f"({'|'.join(map(re.escape, part[1:-1].split(',')))})"
    return ".+" if part.startswith("<") else re.escape(part)


METRICS = (
    ColumnReference(
        "fidelity/log_mel_rmse_db",
        "Root mean square error of the reconstructed log-mel spectrogram, in dB, decoded from posterior means.",
        "lower",
        "0 to ∞",
        EVERY_REPORT,
    ),
    ColumnReference(
        "fidelity/log_spectral_distance_db",
        "Root mean square error of each frame in dB, mean over frames. A few bad frames count less than in the log-mel "
        "error.",
        "lower",
        "0 to ∞",
        EVERY_REPORT,
    ),
    ColumnReference(
        "disentanglement/separation",
        "Information that the strong reader finds in the right subspace minus that in the wrong one, mean over "
        "factors. 1 is perfect, 0 is no separation.",
        "higher",
        "-1 to 1",
        LAST_REPORT,
    ),
    ColumnReference(
        "disentanglement/linear_separation",
        "Separation, by the linear reader.",
        "higher",
        "-1 to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "information/<factor>/{private,shared}",
        "Information about the factor that the strong reader finds in samples of the posteriors of a subspace, as a "
        "fraction of the factor's entropy.",
        "by subspace",
        "0 to 1",
        LAST_REPORT,
    ),
    ColumnReference(
        "leakage/<factor>",
        "Information that the strong reader finds in the wrong subspace.",
        "lower",
        "0 to 1",
        LAST_REPORT,
    ),
    ColumnReference(
        "accuracy/<factor>/{private,shared}",
        "Accuracy of the strong reader, balanced over the classes of the factor. Chance is one over the number of "
        "classes.",
        "by subspace",
        "0 to 1",
        LAST_REPORT,
    ),
    ColumnReference(
        "linear_information/<factor>/{private,shared,both}",
        "Information about the factor that the linear reader finds in samples, as a fraction of the factor's entropy; "
        "`both` are all latents together.",
        "by subspace",
        "0 to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "linear_leakage/<factor>",
        "Information that the linear reader finds in the wrong subspace.",
        "lower",
        "0 to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "linear_accuracy/<factor>/{private,shared,both}",
        "Accuracy of the linear reader, balanced over the classes of the factor.",
        "by subspace",
        "0 to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "probe/<factor>/{private,shared,both}",
        "Balanced accuracy of the lightweight reader, a small network, on posterior means.",
        "by subspace",
        "0 to 1",
        LAST_REPORT,
    ),
    ColumnReference(
        "nmi/<factor>/{private,shared}",
        "Largest mutual information of one latent of the subspace with the factor, over the factor's entropy.",
        "by subspace",
        "0 to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "corrected_nmi/<factor>/{private,shared}",
        "The same, less its bias from the finite number of clips.",
        "by subspace",
        "0 to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "disentanglement/mig",
        "Mutual information gap: difference between the two latents with most information about a factor, over its "
        "entropy, mean over factors.",
        "higher",
        "0 to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "disentanglement/mig/{private,shared}",
        "Mutual information gap of the latents of one subspace and the factors that belong there.",
        "higher",
        "0 to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "disentanglement/jemmig",
        "Mutual information gap that also requires the first latent to contain nothing but the factor.",
        "higher",
        "0 to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "disentanglement/jemmig/{private,shared}",
        "JEMMIG of the latents of one subspace and the factors that belong there.",
        "higher",
        "0 to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "disentanglement/dcimig",
        "Difference between the two factors that a latent has most information about, credited to the first; the "
        "largest credit of each factor, over the entropies.",
        "higher",
        "0 to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "disentanglement/dcimig/{private,shared}",
        "DCIMIG of the latents of one subspace and the factors that belong there.",
        "higher",
        "0 to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "disentanglement/modularity",
        "How far each latent has information about one factor alone, mean over latents.",
        "higher",
        "0 to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "disentanglement/sap",
        "Separated attribute predictability: difference in accuracy of the two latents that predict a factor best.",
        "higher",
        "0 to 1",
        LAST_REPORT,
    ),
    ColumnReference(
        "disentanglement/explicitness",
        "Area under the ROC curve of a linear prediction of the classes from all latents. Chance is 0.5.",
        "higher",
        "0.5 to 1",
        LAST_REPORT,
    ),
    ColumnReference(
        "disentanglement/factor_vae",
        "FactorVAE score: accuracy of naming the factor that a group of clips has in common, from the latent that "
        "varies least.",
        "higher",
        "0 to 1",
        LAST_REPORT,
    ),
    ColumnReference(
        "disentanglement/beta_vae",
        "Beta-VAE score: accuracy of naming the factor that a group of clips has in common, from differences of all "
        "latents.",
        "higher",
        "0 to 1",
        LAST_REPORT,
    ),
)
"""Metrics that may be objectives."""
