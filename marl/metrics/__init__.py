"""Metrics, each computed for many models at once from latents [model, clip, latent]."""

METRIC_VERSION = 3
"""Version of all metrics, stored with every report. It rises when any value of a metric changes."""
