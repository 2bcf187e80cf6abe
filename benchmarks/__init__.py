"""Benchmarks: measurements behind every claim about speed."""
