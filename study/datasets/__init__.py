"""Datasets of a study: prepared once from the user's sounds, kept in the store, loaded by every trainer."""
