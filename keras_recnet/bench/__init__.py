"""Benchmarks that compare networks: each runs in its own process, and they take turns.

The load of the machine then affects all networks alike. This package imports nothing heavy;
`keras_recnet.bench.worker` loads an engine in its own process.
"""
