"""Altair charts of a study: `*_data` functions compute a chart's data frame, `*_chart` functions draw it."""
