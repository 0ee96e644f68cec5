"""Benchmarks that compare networks: each runs in its own process, and they take turns.

The system load then affects all networks equally. This package imports nothing heavy;
`keras_recnet.bench.worker` loads an engine in its own process.
"""
