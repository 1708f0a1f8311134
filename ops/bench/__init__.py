"""Benchmarks: each reports its figures, and ratios measured within one run, together with the machine."""
