"""Benchmarks that compare networks: each runs in its own process, and the processes take turns.

Taking turns makes the system load affect all networks equally. This package imports nothing heavy;
`keras_recnet.bench.worker` loads an engine in its own process.
"""
