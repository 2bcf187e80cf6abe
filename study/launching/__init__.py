"""A study begins, runs and ends: who runs it, what is recorded, and what the terminal shows meanwhile."""
