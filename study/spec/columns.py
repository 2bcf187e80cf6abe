"""Reference of the columns of results: the metrics, and everything beside them."""

from study.spec.metrics import EVERY_REPORT, LAST_REPORT, METRICS, ColumnReference

__all__ = ["COLUMNS", "METRICS", "ColumnReference"]

_AFTER_TRAINING = "after training"

COLUMNS = (
    ColumnReference("kind", "`trial`, or `baseline`."),
    ColumnReference("baseline", "Name of the baseline: `plain_vae` or `untrained`."),
    ColumnReference("trial", "Number of the trial."),
    ColumnReference("state", "`running`, `interrupted`, `complete`, `pruned` or `failed`."),
    ColumnReference("error", "Why the trial failed."),
    ColumnReference("config/<path>", "Value of a parameter of the space."),
    ColumnReference("step", "Number of training steps of the reports that the means are over."),
    ColumnReference("replicates", "Number of replicates that the means are over."),
    ColumnReference("front_probability", "Probability that the trial is on the front, given the spread over seeds."),
    ColumnReference("<metric>/sd", "Standard deviation of the metric over replicates."),
    ColumnReference("<metric>/ci", "Half the width of the 90 % interval of the mean (Student's t)."),
    *METRICS,
    ColumnReference(
        "<metric>/clips_se",
        "Standard error of the metric from the finite number of clips, mean over replicates.",
        when="as the metric",
    ),
    ColumnReference(
        "fidelity/log_mel_rmse_db/<factor>/<class>",
        "Log-mel error of the clips of one class of a factor.",
        "lower",
        "0 to ∞",
        LAST_REPORT,
    ),
    ColumnReference(
        "r2/<factor>/{private,shared}",
        "Explained variance of a factor whose values are numbers, by the strong reader.",
        "by subspace",
        "-∞ to 1",
        LAST_REPORT,
    ),
    ColumnReference(
        "linear_r2/<factor>/{private,shared,both}",
        "Explained variance of a factor whose values are numbers, by the linear reader.",
        "by subspace",
        "-∞ to 1",
        EVERY_REPORT,
    ),
    ColumnReference(
        "custom/<name>", "Metric of a plug-in; an objective may lower it, too.", "higher", "-∞ to ∞", LAST_REPORT
    ),
    ColumnReference(
        "loss/<term>",
        "Term of the objective on fixed held-out pairs, unweighted; `loss/total` is the weighted sum.",
        "lower",
        "-∞ to ∞",
        EVERY_REPORT,
    ),
    ColumnReference(
        "sampled_probe/<factor>/{private,shared,both}",
        "Balanced accuracy of the lightweight reader on samples of the posteriors.",
        "by subspace",
        "0 to 1",
        _AFTER_TRAINING,
    ),
    ColumnReference(
        "disentanglement/dci",
        "Disentanglement of DCI: how far each latent is important for one factor alone, by boosted trees.",
        "higher",
        "0 to 1",
        _AFTER_TRAINING,
    ),
    ColumnReference(
        "disentanglement/dci_completeness",
        "Completeness of DCI: how far each factor depends on one latent alone, by boosted trees.",
        "higher",
        "0 to 1",
        _AFTER_TRAINING,
    ),
    ColumnReference(
        "disentanglement/dci_informativeness",
        "Informativeness of DCI: accuracy with which boosted trees predict the factors.",
        "higher",
        "0 to 1",
        _AFTER_TRAINING,
    ),
    ColumnReference(
        "fidelity/stft_error",
        "Error of the waveform that the reconstruction inverts to: spectral convergence plus the mean error of "
        "log-magnitudes, over three resolutions.",
        "lower",
        "0 to ∞",
        _AFTER_TRAINING,
    ),
    ColumnReference(
        "fidelity/spectral_convergence",
        "Error of the magnitudes of that waveform, relative to the magnitudes of the original.",
        "lower",
        "0 to ∞",
        _AFTER_TRAINING,
    ),
    ColumnReference(
        "fidelity/{stft_error,spectral_convergence}/floor",
        "Error of the originals' own log-mels, inverted in the same way.",
        "",
        "0 to ∞",
        _AFTER_TRAINING,
    ),
    ColumnReference("test/<metric>", "The metric on test clips, for the front and near it.", when=_AFTER_TRAINING),
)
"""All columns of the results of a study."""
