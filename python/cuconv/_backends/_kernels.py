"""What the CUDA and the emulated backend have in common: both run the same compiled kernels."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cuconv._backends._kernels_conv import ConvKernels
from cuconv._backends._kernels_grouped import GroupedKernels
from cuconv._backends._kernels_pool import PoolKernels


class KernelBackend(ConvKernels, PoolKernels, GroupedKernels):
    """A backend over an extension module. Subclasses say where arrays live, by `_operands`.

    `forced_variant` makes convolutions run one kernel variant, whatever its cost.
    """

    def __init__(self, module: Any, forced_variant: str | None) -> None:
        self._module = module
        self.forced_variant = forced_variant
        # Asking every variant takes some hundred microseconds, more than most kernels do.
        self._decide_once = lru_cache(maxsize=1024)(self._decide)
