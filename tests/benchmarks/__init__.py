"""Benchmarks: each case beside its peers, turn by turn. `python -m tests.benchmarks [name ...] [--quick]`."""
