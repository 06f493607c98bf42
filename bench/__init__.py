"""Measures bundles against the full-precision reference: accuracy, latency, memory, and what to conclude."""
