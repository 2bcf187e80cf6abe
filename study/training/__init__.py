"""Trials, the trainers that they share, and what these train them on."""
