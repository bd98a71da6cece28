"""Bytes that each launch of GoogLeNet's Inception modules moves, by a model.

    python bench/inception_bytes.py [BATCH]

The launches are those that the CUDA and emulated backends make of a module. A launch counts every
array it is given once: what it reads again (x by tiles of other filters, windows that overlap) is
taken to come from a cache. The least is x, the weights and the result once each, and the two
reductions written and read. Nothing here is measured.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import cuconv
from cuconv._backends._kernels_grouped import launches
from cuconv._backends._protocol import ConvPart
from cuconv._bench.cases import module_layers
from cuconv._bench.layers import inception_modules

MODULES = inception_modules()


def nothing(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """An array of a shape that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


@dataclass(frozen=True)
class Plan:
    launches: tuple[int, ...]  # bytes that each moves
    least: int


def moved(parts: Sequence[ConvPart]) -> int:
    """Bytes of the arrays of a launch; x, which parts share, once."""
    shared = {(part.x.__array_interface__["data"][0], part.x.shape): part.x for part in parts}
    own = [a for part in parts for a in (part.w, part.bias, part.y) if a is not None]
    return sum(array.nbytes for array in (*shared.values(), *own))


def plan(name: str, batch: int, dtype: Any = np.float32) -> Plan:
    side, c, one, reduce3, three, reduce5, five, project = MODULES[name]
    arrays = []
    for of in module_layers(MODULES[name], batch):
        arrays += [nothing(of.k, of.c, of.r, of.s, dtype=dtype), nothing(of.k, dtype=dtype)]
    module = cuconv.Inception(cuconv.InceptionWeights(*arrays))
    x = nothing(batch, c, side, side, dtype=dtype)
    y = nothing(batch, one + three + five + project, side, side, dtype=dtype)
    reduced = nothing(batch, reduce3 + reduce5, side, side, dtype=dtype)
    rounds = module._rounds(x, y, reduced)
    each = tuple(moved(parts) for some in rounds for parts in launches(some))
    least = x.nbytes + y.nbytes + 2 * reduced.nbytes + sum(a.nbytes for a in arrays)
    return Plan(each, least)


def main() -> None:
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    print(f"MB moved at batch {batch}, float32, by the model\n")
    print("module  launches            sum   least   sum/least")
    for name in MODULES:
        found = plan(name, batch)
        total = sum(found.launches)
        words = " + ".join(f"{n / 1e6:.1f}" for n in found.launches)
        print(
            f"{name:6}  {words:15} {total / 1e6:7.1f} {found.least / 1e6:7.1f} "
            f"{total / found.least:8.3f}"
        )


if __name__ == "__main__":
    main()
