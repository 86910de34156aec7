"""Benchmarks: each checks its answer before it reports a time."""
