"""The cases of `disentanglement.npz`, and those of them that some libraries cannot score."""

CASES = (
    "perfect_exact_n500",
    "perfect_noisy_n500",
    "entangled_n500",
    "partial_n500",
    "relabelled_n500",
    "constant_latent_n500",
    "single_value_factor_n500",
    "constant_latent_and_single_value_factor_n500",
    "all_latents_constant_n500",
    "entangled_n5000",
    "partial_n5000",
    "perfect_noisy_n5000",
    "constant_latent_n500__degenerate_columns_removed",
    "single_value_factor_n500__degenerate_columns_removed",
    "constant_latent_and_single_value_factor_n500__degenerate_columns_removed",
)

# A factor with a single value, which support vector machines and boosted trees of scikit-learn refuse.
SINGLE_VALUED = ("single_value_factor_n500", "constant_latent_and_single_value_factor_n500")
TRAINABLE = tuple(case for case in CASES if case not in SINGLE_VALUED)
