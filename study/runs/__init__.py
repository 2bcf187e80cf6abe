"""A study begins, runs and ends: what it begins with, how it is driven, and what the terminal shows meanwhile."""
