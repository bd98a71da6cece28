"""Why a convolution is computed as it is, as a table to read."""

from __future__ import annotations

from cuconv._backends._protocol import Backend, Candidate
from cuconv._conv import Convolution


def explanation(title: str, convolution: Convolution, backend: Backend, chosen: str) -> str:
    """The candidates with what each is estimated to take and of what that is made, best first."""
    candidates = backend.conv_candidates(
        convolution.direction, convolution.problem, convolution.request
    )
    rows = [("", "family", "kernel", "estimate", "workspace", "of which")]
    for c in sorted(candidates, key=lambda c: (not c.supported, c.cost)):
        mark = "*" if c.algo == chosen else ""
        if not c.supported:
            rows.append((mark, c.algo, "", "", "", f"cannot: {c.reason}"))
            continue
        what = f"only {c.not_for_auto}" if c.not_for_auto and not mark else shares(c)
        rows.append((mark, c.algo, c.variant, seconds(c.cost), size(c.workspace_bytes), what))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [
        f"{row[0]:<{widths[0]}} {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  "
        f"{row[3]:>{widths[3]}}  {row[4]:>{widths[4]}}  {row[5]}".rstrip()
        for row in rows
    ]
    return "\n".join([title, "", *lines, "", reason(convolution, backend, candidates)])


def reason(convolution: Convolution, backend: Backend, candidates: list[Candidate]) -> str:
    algo, limit = convolution.options.algo, convolution.options.workspace_limit
    inside = "" if limit is None else f" inside workspace_limit={limit}"
    per = "" if backend.name == "numpy" else " Estimates are for one image."
    if algo == "autotune":
        return f"algo='autotune': the fastest when timed on the first arrays{inside}.{per}"
    if algo != "auto":
        return f"algo={algo!r} was asked for.{per}"
    if not any(c.supported for c in candidates):
        return f"algo='auto': nothing keeps{inside}, so the one that comes closest to it.{per}"
    return f"algo='auto': the least estimate{inside}.{per}"


def seconds(value: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} us"


def size(nbytes: int) -> str:
    if nbytes < 1 << 10:
        return f"{nbytes} B"
    return f"{nbytes / 2**10:.0f} KiB" if nbytes < 1 << 20 else f"{nbytes / 2**20:.1f} MiB"


def shares(candidate: Candidate) -> str:
    """The parts of the estimate, the largest first."""
    parts = sorted(candidate.parts, key=lambda part: -part[1])
    return ", ".join(f"{name} {seconds(value)}" for name, value in parts if value > 0)
