"""The store: immutable shards of vectors, one folder per fingerprint. FORMAT.md is its specification."""
