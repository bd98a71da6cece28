"""Memory that cuconv takes on the CPU, as tracemalloc sees it."""

from __future__ import annotations

import tracemalloc

from cuconv._bench.sides import Buffers, plan_of


def of_plan(buffers: Buffers, algo: str) -> dict[str, int]:
    """`peak_bytes` of a new plan's first call with out=, and what it holds after its second: one
    that has been called has its buffers already."""
    x, w = buffers.first[0], buffers.second[0]
    out = plan_of(buffers.case, "cpu", algo)(x, w)  # what the process makes once is made
    fresh = plan_of(buffers.case, "cpu", algo)
    tracemalloc.start()
    try:
        fresh(x, w, out=out)
        peak = tracemalloc.get_traced_memory()[1]
        fresh(x, w, out=out)  # from the second call on the filters are kept
        return {"peak_bytes": peak, "kept_bytes": tracemalloc.get_traced_memory()[0]}
    finally:
        tracemalloc.stop()
