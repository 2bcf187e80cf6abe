"""Orchestration of studies: search, trials, trainers, the store, results and the command line."""
