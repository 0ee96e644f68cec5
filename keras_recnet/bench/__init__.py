"""Benchmarks: networks beside each other in one run, each in a process of its own, all of them in turns.

This machine's numbers depend on what else it does; the turns make that hit all alike. Nothing heavy is imported here:
`keras_recnet.bench.worker` loads an engine in the process that it runs in.
"""
