"""The bound of the CUDA kernels that transform (docs/bounds.md), for whatever tile they choose."""

import math

import numpy as np

from compare import summed_eps, wide

SIDES = (8, 16, 32, 64, 128)
LINES = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


def norms(a, axes):
    return np.sqrt((np.abs(wide(a)) ** 2).sum(axis=axes))


def fft_factor(lines, terms):
    """20 (log2 L + 2) + 1.5 terms, of the largest tile; 32 for 20 where roots are products."""
    elements = 2 * LINES[-1] if lines else SIDES[-1] ** 2
    return (32 if lines else 20) * (math.log2(elements) + 2) + 1.5 * terms


def fft_bound(direction, dtype, a, b, groups=1, terms=1):
    """Of channels-first operands: |error| of each (image, channel), or (filter, channel)."""
    spatial = tuple(range(2, a.ndim))
    lines = 1 in (a.shape[-2], a.shape[-1]) or a.ndim == 3
    of_a, of_b = norms(a, spatial), norms(b, spatial)
    if direction == "weight_grad":  # gy, x
        gy, x = (n.reshape(len(n), groups, -1) for n in (of_a, of_b))
        found = np.einsum("ngk,ngc->gkc", gy, x).reshape(-1, x.shape[-1])
    else:
        w = of_b.reshape(groups, -1, of_b.shape[1])
        rule = "ngc,gkc->ngk" if direction == "forward" else "ngk,gkc->ngc"
        found = np.einsum(rule, of_a.reshape(len(of_a), groups, -1), w).reshape(len(of_a), -1)
    factor = fft_factor(lines, terms) * summed_eps(dtype)
    return factor * found.reshape(*found.shape, *(1 for _ in spatial))


def shared(reach, lines=False):
    """How often tiles hold an element at the most, along an axis."""
    return max(-(-n // (n - reach + 1)) for n in (LINES if lines else SIDES) if n >= reach)
