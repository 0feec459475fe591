"""What the package's speed rests on, each against its peer: ``python -m benchmarks``."""
