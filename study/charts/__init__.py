"""Altair charts of a study: each function takes a data frame and returns a chart."""
