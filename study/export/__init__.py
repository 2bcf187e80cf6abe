"""Exported models, and their use: bundles with a model card, feature tables of recordings, and audio from latents."""
