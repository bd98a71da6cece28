"""The least time that a row can take on this machine, by limits measured in the same run.

A side that is faster is no success but an error: of the clock, of the buffers, or of the count of
its work. The record says so.
"""

from __future__ import annotations

from typing import Any

from cuconv._bench.devices import Device

# Multiply-adds of a direct convolution over those of Winograd's algorithm F(m x m, r x r), which
# takes (m + r - 1)^2 for m^2 results. Source: A. Lavin and S. Gray, Fast algorithms for
# convolutional neural networks (2015), arXiv:1509.09308. The largest in use is F(6x6, 3x3).
WINOGRAD = {"f2x3": 36 / 16, "f4x3": 144 / 36, "f2x5": 100 / 36, "f6x3": 324 / 64}
DIRECT = ("direct", "im2col", "implicit_gemm", "Inception")


def least_multiply_adds(row: dict[str, Any], side: dict[str, Any]) -> float:
    """What the algorithm of a side cannot do without.

    That of a peer is not known: it may be Winograd's or an FFT, except for filters of one tap. An
    FFT's work is not modelled, so bytes alone bound it.
    """
    algo, work = side.get("algo"), row.get("multiply_adds", 0)
    if algo in DIRECT or (row.get("w_shape") or [0, 0, 0, 0])[2:] == [1, 1]:
        return float(work)
    if algo == "winograd":
        words = str(side.get("variant", "")).split("_")
        return work / next((WINOGRAD[w] for w in words if w in WINOGRAD), max(WINOGRAD.values()))
    return 0.0


def floor_ms(row: dict[str, Any], side: dict[str, Any], roofline: dict[str, Any]) -> float:
    rate = roofline["multiply_adds_per_s"].get(row["kind"], 0.0)
    operations = least_multiply_adds(row, side) / rate if rate else 0.0
    moved = row.get("operand_bytes", 0) + side.get("rotates_result", 0) * row.get("result_bytes", 0)
    seconds = moved / roofline["bytes_per_s"] if row.get("cold") else 0.0
    return 1e3 * max(operations, seconds)


def judge(record: dict[str, Any]) -> None:
    """Sets `of_roofline` of every side, and `flags` of every row that has a side beyond 1."""
    roofline = record.get("roofline")
    if not roofline:
        return
    for row in record["rows"]:
        flags = []
        for name, side in row.get("sides", {}).items():
            side["of_roofline"] = floor_ms(row, side, roofline) / side["ms"]
            if side["of_roofline"] > 1:
                flags.append(
                    f"{name} beats the roofline by {side['of_roofline']:.2f}: not to be believed"
                )
        row["flags"] = flags


def merged(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """The higher of two measurements each: a limit measured beside other work is too low."""
    if not old:
        return new
    rates = dict(old["multiply_adds_per_s"])
    for kind, rate in new["multiply_adds_per_s"].items():
        rates[kind] = max(rate, rates.get(kind, 0.0))
    bandwidth = max(old["bytes_per_s"], new["bytes_per_s"])
    return {"bytes_per_s": bandwidth, "multiply_adds_per_s": rates}


def measure(device: Device, kinds: list[str], times: int) -> dict[str, Any]:
    rates = {kind: device.product_rate(kind, times) for kind in kinds}
    return {"bytes_per_s": device.bandwidth(times), "multiply_adds_per_s": rates}
