"""Benchmarks: what is timed, beside whom, how a result is checked, and what a record says.

`cuconv bench` is the command line of this package. docs/bench.md describes method and records.
"""
