"""What is measured, against whom: run from the repository's root, as `python -m benchmarks.encoders --help`."""
