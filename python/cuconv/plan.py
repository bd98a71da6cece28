"""Plans: everything about a convolution decided once; and the list of what could run it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from cuconv import _arguments as arguments
from cuconv._arrays import Operands
from cuconv._backends import device_backend, host_backend, is_cuda_available
from cuconv._backends._protocol import Array, Backend, Candidate, ConvExecutor
from cuconv._conv import Convolution, Options, check_shape, conv_operands, conv_options
from cuconv._docstrings import documented
from cuconv._problem import conv_call

DEVICES = ("cpu", "cuda")
HOW = ("activation", "precision", "algo", "workspace_limit")

_PLAN = """A <rank>-D convolution with all checks and choices made once.

    Parameters
    ----------
    x_shape, w_shape : sequence of int
        Shapes of the input and the filters.
    dtype : dtype
    device : {"cpu", "cuda"}, optional
        What `algo` and `workspace_bytes` tell about; "cuda" where there is one, unless given. Calls
        go by their arrays.
    **options
        Those of `conv<rank>d`, except `out`.

    Attributes
    ----------
    algo : str
        The family that computes; "autotune" until the first call where that was asked for.
    variant : str
        The kernel.
    workspace_bytes : int
        Temporary memory of a call.

    Raises
    ------
    ValueError, TypeError, cuconv.UnsupportedError, cuconv.CudaUnavailableError
        As `conv<rank>d`, when the plan is made; a call raises for arrays that are not as planned.

    Notes
    -----
    A call computes what `conv<rank>d` does, to the same bits.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> plan = cuconv.Conv<rank>dPlan(
    ...     (2, 3, <sizes>), (4, 3, <kernel>), "float32", padding=1, device="cpu")
    >>> plan(np.ones((2, 3, <sizes>), "float32"), np.ones((4, 3, <kernel>), "float32")).shape
    (2, 4, <sizes>)
    """


def read_device(device: Any) -> str:
    if device is None:
        return "cuda" if is_cuda_available() else "cpu"
    return str(arguments.choice("device", device, DEVICES))


def backend_of(device: str) -> Backend:
    return device_backend(0) if device == "cuda" else host_backend()


def convolution_of(
    rank: int, x_shape: Any, w_shape: Any, dtype: Any, options: Options
) -> Convolution:
    kind = arguments.dtype("dtype", dtype)
    how = {name: options.pop(name) for name in HOW if name in options}
    x_shape, w_shape = arguments.shape("x_shape", x_shape), arguments.shape("w_shape", w_shape)
    call = conv_call(rank, kind, x_shape, w_shape, x_name="x_shape", w_name="w_shape", **options)
    return Convolution("forward", call, conv_options(kind, **how))


class _ConvPlan:
    rank: ClassVar[int]

    def __init__(
        self,
        x_shape: Any,
        w_shape: Any,
        dtype: Any,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        layout: str | None = None,
        flip_kernel: bool = False,
        activation: str | None = None,
        precision: str = "ieee",
        algo: str = "auto",
        workspace_limit: int | None = None,
        device: str | None = None,
    ) -> None:
        options = {k: v for k, v in locals().items() if k not in _NOT_OPTIONS}
        self._convolution = convolution_of(self.rank, x_shape, w_shape, dtype, options)
        self._executors: dict[Backend, ConvExecutor] = {}
        self._backend = backend_of(read_device(device))
        if not self._tuned_later:
            self._executor(self._backend)

    @property
    def _tuned_later(self) -> bool:
        return self._convolution.options.algo == "autotune"

    def _executor(self, backend: Backend) -> ConvExecutor:
        if backend not in self._executors:
            self._executors[backend] = self._convolution.executor(backend)
        return self._executors[backend]

    @property
    def algo(self) -> str:
        executor = self._executors.get(self._backend)
        return executor.algo if executor else self._convolution.options.algo

    @property
    def variant(self) -> str:
        executor = self._executors.get(self._backend)
        return executor.variant if executor else ""

    @property
    def workspace_bytes(self) -> int:
        executor = self._executors.get(self._backend)
        return executor.workspace_bytes if executor else 0

    def __repr__(self) -> str:
        call = self._convolution.call
        return (
            f"{type(self).__name__}(x {call.x_shape}, w {call.w_shape}, {call.problem.dtype}: "
            f"{self.algo}, {self.workspace_bytes} bytes of workspace)"
        )

    def __call__(self, x: Any, w: Any, bias: Any = None, out: Array | None = None) -> Array:
        if out is None and bias is None and self._is_plain(x, w):
            return self._plain(x, w)
        inputs = self._operands(x, w, bias, out)
        if self._tuned_later and inputs.backend not in self._executors:
            self._tune(inputs, again=False)
        return self._convolution.run(inputs, out, self._executor(inputs.backend))

    def _is_plain(self, x: Any, w: Any) -> bool:
        """Whether the arrays are such that nothing that `operands` looks for can be."""
        call = self._convolution.call
        dtype = call.problem.dtype
        return (
            type(x) is np.ndarray
            and type(w) is np.ndarray
            and x.shape == call.x_shape
            and w.shape == call.w_shape
            and x.dtype == dtype
            and w.dtype == dtype
            and x.flags.carray
            and w.flags.carray
            and call.border is None
        )

    def _plain(self, x: Array, w: Array) -> Array:
        backend = host_backend()
        if backend not in self._executors and self._tuned_later:
            self._tune(self._operands(x, w, None, None), again=False)
        out = backend.empty(self._convolution.result_shape, x.dtype)
        self._convolution.apply(
            self._executor(backend), *self._convolution.canonical(x, w), None, out
        )
        return out

    def autotune(self, x: Any, w: Any) -> str:
        """Times the families that can do this on these arrays, now, and uses the fastest.

        Returns its name. The answer is kept for later plans and calls with `algo="autotune"`.
        """
        return self._tune(self._operands(x, w, None, None), again=True)

    def _tune(self, inputs: Operands, again: bool) -> str:
        convolution = self._convolution
        a, b = convolution.canonical(*inputs.arrays[:2])
        target = inputs.backend.empty(convolution.result_shape, inputs.dtype)
        executor = convolution.tuned(
            inputs.backend, lambda e: convolution.apply(e, a, b, None, target), again
        )
        self._executors[inputs.backend] = executor
        return executor.algo

    def _operands(self, x: Any, w: Any, bias: Any, out: Any) -> Operands:
        inputs = conv_operands(("x", x), ("w", w), bias, out)
        call = self._convolution.call
        if inputs.dtype != call.problem.dtype:
            raise TypeError(f"x is {inputs.dtype}, but the plan is for {call.problem.dtype}")
        check_shape("x", inputs.arrays[0].shape, call.x_shape, "for this plan")
        check_shape("w", inputs.arrays[1].shape, call.w_shape, "for this plan")
        return inputs


_NOT_OPTIONS = ("self", "x_shape", "w_shape", "dtype", "device")


class Conv1dPlan(_ConvPlan):
    rank = 1


class Conv2dPlan(_ConvPlan):
    rank = 2


class Conv3dPlan(_ConvPlan):
    rank = 3


for _rank, _plan in enumerate((Conv1dPlan, Conv2dPlan, Conv3dPlan), 1):
    documented(_PLAN, _rank)(_plan)


def algorithms(
    x_shape: Any, w_shape: Any, dtype: Any, device: str | None = None, **options: Any
) -> list[Candidate]:
    """Every algorithm family, and whether and how it would do a convolution.

    Parameters
    ----------
    x_shape, w_shape : sequence of int
        Shapes of the input and the filters; the filters' tell whether it is 1-D, 2-D or 3-D.
    dtype : dtype
    device : {"cpu", "cuda"}, optional
        "cuda" where there is one, unless given. "cpu" means the backend chosen for NumPy arrays
        (see `use_backend`).
    **options
        Those of `conv2d`, except `out`.

    Returns
    -------
    list of Candidate
        For each family: `algo`, `supported`, `reason` (why not), `workspace_bytes`, `cost`
        (estimated seconds on a nominal device: only the order matters), `variant` (the kernel that
        would run) and `status` (where that kernel has been run: "cpu", "emulated only", or the
        device).

    Raises
    ------
    ValueError, TypeError
        As `conv2d`.
    cuconv.CudaUnavailableError
        For device "cuda" where there is none.

    Examples
    --------
    >>> import cuconv
    >>> found = cuconv.algorithms((8, 64, 56, 56), (64, 64, 3, 3), "float32", device="cpu")
    >>> [c.algo for c in found if c.supported]
    ['direct', 'im2col', 'winograd', 'fft']
    """
    rank = len(arguments.shape("w_shape", w_shape)) - 2
    if rank not in (1, 2, 3):
        raise ValueError(f"w_shape must have 3, 4 or 5 axes, got {rank + 2}: {tuple(w_shape)}")
    convolution = convolution_of(rank, x_shape, w_shape, dtype, dict(options))
    return backend_of(read_device(device)).conv_candidates(
        "forward", convolution.call.problem, convolution.options
    )
