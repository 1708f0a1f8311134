"""Benchmarks: ratios measured in one run, figures reported with the machine they came from."""
