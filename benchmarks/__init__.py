"""Measures speed and memory of the package and of its peers: ``python -m benchmarks``."""
