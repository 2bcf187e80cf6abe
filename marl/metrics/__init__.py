"""Metrics, each computed for many models at once.

Arguments have the same meaning in all modules:

- `latents_KND`: Latents of the same clips by each model, finite. Classifiers are fitted on the clips of `fit_KND` and
  predict the classes of the clips of `held_out_KND`.
- `mask_KD`: One for each latent of a model, zero for padding. Padded latents are zero.
- `classes_NC`, `fit_class_NC`, `held_out_class_NC`: Class of each clip by factor, any integers.
- `information_KDC`, `joint_entropy_KDC`, `entropy_C`: Mutual information and joint entropy of each latent and factor,
  and entropy of each factor, nats, as `marl.metrics.mutual_information` computes them.
"""

from marl.metrics.readers import usable_information

__all__ = ["METRIC_VERSION", "usable_information"]

METRIC_VERSION = 4
"""Version of all metrics, stored with every report. It rises when any value of a metric changes."""
