"""Memory that cuconv takes on the CPU, as tracemalloc sees it."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cuconv
from cuconv._bench.cases import in_layout
from cuconv._bench.sides import Buffers


def of_plan(buffers: Buffers, algo: str) -> dict[str, int]:
    """`peak_bytes` of a new plan's first call with out=, and what it holds after its second: one
    that has been called has its buffers already."""
    case = buffers.case
    how: dict[str, Any] = {"precision": case.precision, "layout": case.layout, "algo": algo}
    x_shape, w_shape = (in_layout(s, case.layout) for s in (case.x_shape, case.w_shape))
    x, w = buffers.first[0], buffers.second[0]

    def plan() -> cuconv.Conv2dPlan:
        return cuconv.Conv2dPlan(x_shape, w_shape, case.dtype, device="cpu", **how, **case.options)

    out = plan()(x, w)  # what the process makes once is made
    fresh = plan()
    tracemalloc.start()
    try:
        fresh(x, w, out=out)
        peak = tracemalloc.get_traced_memory()[1]
        fresh(x, w, out=out)  # from the second call on the filters are kept
        return {"peak_bytes": peak, "kept_bytes": tracemalloc.get_traced_memory()[0]}
    finally:
        tracemalloc.stop()
