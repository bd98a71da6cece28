"""JAX on the GPU: XLA's convolution, compiled.

It has streams and memory of its own, so it is timed by the host's clock, in turns of many calls
that end with a wait, and counts for no row's fastest peer.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import numpy as np

from cuconv._bench.cases import Case
from cuconv._bench.devices import Device
from cuconv._bench.peers import Missing, installed
from cuconv._bench.sides import Buffers, Side, Skipped

NAME = "JAX"


def open_peer(device: Device, settings: dict[str, Any], stack: ExitStack) -> JaxPeer:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else it takes the whole GPU
    jax = installed("jax", "JAX")
    try:
        target = jax.devices("gpu" if device.name == "cuda" else "cpu")[0]
    except RuntimeError:
        raise Missing("this JAX has no CUDA") from None
    return JaxPeer(jax, target, device)


class JaxPeer:
    def __init__(self, jax: Any, target: Any, device: Device) -> None:
        self.jax, self.target, self.device = jax, target, device
        self.versions = {"jax": str(jax.__version__)}

    def sides(self, buffers: Buffers) -> list[Side | Skipped]:
        case = buffers.case
        if case.of != "conv" or case.kind in ("float64", "tf32x3"):
            return []
        function = self.jax.jit(self.function(case))
        moved: dict[int, Any] = {}
        for array in (*buffers.first, *buffers.second):
            if id(array) not in moved:
                host = self.device.to_host(array)
                moved[id(array)] = self.jax.device_put(host, self.target)
        first, second = ([moved[id(x)] for x in xs] for xs in (buffers.first, buffers.second))
        last: list[Any] = [None]

        def call(i: int) -> Any:
            last[0] = function(first[i], second[i])
            return last[0]

        side = Side(NAME, call, self.canonical(case), clock="host")
        side.facts["wait"] = lambda: last[0].block_until_ready()
        return [side]

    def function(self, case: Case) -> Any:
        of, lax = case.convolution, self.jax.lax
        letters = ("NCHW", "OIHW", "NCHW") if case.layout == "NCHW" else ("NHWC", "OHWI", "NHWC")
        precision = lax.Precision.DEFAULT if case.kind == "tf32" else lax.Precision.HIGHEST

        def forward(x: Any, w: Any) -> Any:
            return lax.conv_general_dilated(
                x,
                w,
                of.stride,
                [(pad, pad) for pad in of.padding],
                rhs_dilation=of.dilation,
                dimension_numbers=letters,
                feature_group_count=of.groups,
                precision=precision,
            )

        def shaped(shape: tuple[int, ...]) -> Any:
            n, c, h, w = shape
            dims = shape if case.layout == "NCHW" else (n, h, w, c)
            return self.jax.ShapeDtypeStruct(dims, case.dtype)

        transposed = self.jax.linear_transpose
        if case.direction == "input_grad":
            x = shaped(case.x_shape)
            return lambda g, w: transposed(lambda of_x: forward(of_x, w), x)(g)[0]
        if case.direction == "weight_grad":
            w = shaped(case.w_shape)
            return lambda g, x: transposed(lambda of_w: forward(x, of_w), w)(g)[0]
        return forward

    def canonical(self, case: Case) -> Any:
        def convert(array: Any) -> Any:
            host = np.asarray(array)
            xp = self.device.xp
            return xp.asarray(host if case.layout == "NCHW" else host.transpose(0, 3, 1, 2))

        return convert
