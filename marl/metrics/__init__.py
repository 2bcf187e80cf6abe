"""Metrics of many models at once: tables of [model, factor, latent] from latents [model, clip, latent]."""

METRIC_VERSION = 2
"""Part of every report: rises when any number here would come out differently."""
