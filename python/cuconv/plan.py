"""Plans: everything about a convolution decided once; and the list of what could run it."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from cuconv import _arguments as arguments
from cuconv._arrays import Operands
from cuconv._backends import device_backend, host_backend, is_cuda_available, is_cupy
from cuconv._backends._protocol import Array, Backend, Candidate, ConvExecutor, Direction
from cuconv._conv import (
    HOW_OPTIONS,
    SHAPE_OPTIONS,
    Convolution,
    Options,
    check_shape,
    conv_operands,
    conv_options,
    how_options,
    shape_options,
)
from cuconv._docstrings import documented
from cuconv._explain import explanation
from cuconv._problem import conv_call, transposed_call
from cuconv._quick import QuickCall, quick_call
from cuconv._timing import SECONDS
from cuconv.autotune import asked

DEVICES = ("cpu", "cuda")

_PLAN = """A <rank>-D convolution with all checks and choices made once, and its gradients.

    Parameters
    ----------
    x_shape, w_shape : sequence of int
        Shapes of the input and the filters.
    dtype : dtype
    device : {"cpu", "cuda"}, optional
        What `algo`, `workspace_bytes` and `explain` tell about; "cuda" where there is one, unless
        given. Calls go by their arrays.
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
    input_grad, weight_grad : plans
        Of `conv<rank>d_input_grad` and `conv<rank>d_weight_grad` with the same options, decided
        when first used: `plan.input_grad(grad_out, w)`, `plan.weight_grad(grad_out, x)`. Each has
        the attributes and methods of this plan.

    Raises
    ------
    ValueError, TypeError, cuconv.UnsupportedError, cuconv.CudaUnavailableError
        As `conv<rank>d`, when the plan is made; a call raises for arrays that are not as planned.

    Notes
    -----
    A call computes what `conv<rank>d` does, to the same bits. Threads may share a plan.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> x, w = np.ones((2, 3, <sizes>), "float32"), np.ones((4, 3, <kernel>), "float32")
    >>> plan = cuconv.Conv<rank>dPlan(x.shape, w.shape, "float32", padding=1, device="cpu")
    >>> y = plan(x, w)
    >>> y.shape
    (2, 4, <sizes>)
    >>> plan.input_grad(y, w).shape == x.shape, plan.weight_grad(y, x).shape == w.shape
    (True, True)
    """

_TRANSPOSED_PLAN = """A <rank>-D transposed convolution with all checks and choices made once.

    Parameters
    ----------
    x_shape, w_shape : sequence of int
        Shapes of the input and the filters, as `conv_transpose<rank>d` takes them.
    dtype : dtype
    device : {"cpu", "cuda"}, optional
        As in `Conv<rank>dPlan`.
    **options
        Those of `conv_transpose<rank>d`, except `out`; and `workspace_limit`.

    Attributes
    ----------
    algo, variant, workspace_bytes
        As in `Conv<rank>dPlan`.

    Raises
    ------
    ValueError, TypeError, cuconv.UnsupportedError, cuconv.CudaUnavailableError
        As `conv_transpose<rank>d`, when the plan is made.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> x, w = np.ones((2, 3, <half>), "float32"), np.ones((3, 5, <kernel>), "float32")
    >>> plan = cuconv.ConvTranspose<rank>dPlan(
    ...     x.shape, w.shape, "float32", stride=2, padding=1, output_padding=1, device="cpu")
    >>> plan(x, w).shape
    (2, 5, <sizes>)
    """


def read_device(device: Any) -> str:
    if device is None:
        return "cuda" if is_cuda_available() else "cpu"
    return str(arguments.choice("device", device, DEVICES))


def read_dtype(dtype: Any) -> np.dtype:
    if dtype is None:
        raise TypeError("dtype must be given, got None")  # which NumPy takes for float64
    return arguments.dtype("dtype", dtype)


def backend_of(device: str) -> Backend:
    return device_backend(0) if device == "cuda" else host_backend()


def convolution_of(
    rank: int, x_shape: Any, w_shape: Any, dtype: Any, options: Options
) -> Convolution:
    kind = read_dtype(dtype)
    how = {name: options.pop(name) for name in HOW_OPTIONS if name in options}
    x_shape, w_shape = arguments.shape("x_shape", x_shape), arguments.shape("w_shape", w_shape)
    call = conv_call(rank, kind, x_shape, w_shape, x_name="x_shape", w_name="w_shape", **options)
    return Convolution("forward", call, conv_options(kind, **how))


class _Plan:
    """One direction of a convolution, decided."""

    _operand_names: tuple[str, str] = ("x", "w")

    def __init__(self, convolution: Convolution, backend: Backend) -> None:
        self._convolution = convolution
        self._executors: dict[Backend, ConvExecutor] = {}
        self._quick: dict[bool, QuickCall | None] = {}  # for CuPy arrays, and for others
        self._backend = backend
        if not self._tuned_later:
            self._executor(backend)

    @property
    def _tuned_later(self) -> bool:
        return self._convolution.options.algo == "autotune"

    def _executor(self, backend: Backend) -> ConvExecutor:
        if backend not in self._executors:
            self._keep(backend, self._convolution.executor(backend))
        return self._executors[backend]

    def _keep(self, backend: Backend, executor: ConvExecutor) -> None:
        self._executors[backend] = executor
        self._quick[backend.device == "cuda"] = quick_call(self._convolution, backend, executor)

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
        call, names = self._convolution.call, self._operand_names
        a_shape, b_shape, _ = call.shapes(self._convolution.direction)
        return (
            f"{type(self).__name__.lstrip('_')}({names[0]} {a_shape}, {names[1]} {b_shape}, "
            f"{call.problem.dtype}: {self.algo}, {self.workspace_bytes} bytes of workspace)"
        )

    def _call(self, a: Any, b: Any, bias: Any, out: Any) -> Array:
        if out is None:
            quick = self._quick.get(is_cupy(a))
            if quick is not None and (result := quick(a, b, bias)) is not None:
                return result
        inputs = self._operands(a, b, bias, out)
        if self._tuned_later and inputs.backend not in self._executors:
            self._tune(inputs, again=False)
        return self._convolution.run(inputs, out, self._executor(inputs.backend))

    def _autotune(self, a: Any, b: Any, seconds: float, cold: bool) -> str:
        with asked(seconds=seconds, cold=cold):
            return self._tune(self._operands(a, b, None, None), again=True)

    def _tune(self, inputs: Operands, again: bool) -> str:
        convolution = self._convolution
        a, b = convolution.canonical(*inputs.arrays[:2])
        target = inputs.backend.empty(convolution.result_shape, inputs.dtype)
        executor = convolution.tuned(
            inputs.backend, lambda e: convolution.apply(e, a, b, None, target), again
        )
        self._keep(inputs.backend, executor)
        return executor.algo

    def _operands(self, a: Any, b: Any, bias: Any, out: Any) -> Operands:
        names, call = self._operand_names, self._convolution.call
        inputs = conv_operands((names[0], a), (names[1], b), bias, out)
        if inputs.dtype != call.problem.dtype:
            raise TypeError(
                f"{names[0]} is {inputs.dtype}, but the plan is for {call.problem.dtype}"
            )
        shapes = call.shapes(self._convolution.direction)
        for name, array, shape in zip(names, inputs.arrays, shapes, strict=False):
            check_shape(name, array.shape, shape, "for this plan")
        return inputs

    def explain(self) -> None:
        """Prints what could compute this, what each is estimated to take, and what decided."""
        print(explanation(repr(self), self._convolution, self._backend, self.algo))


class _ForwardPlan(_Plan):
    """One that has a bias: a convolution, or a transposed one."""

    def __call__(self, x: Any, w: Any, bias: Any = None, out: Array | None = None) -> Array:
        return self._call(x, w, bias, out)

    def autotune(self, x: Any, w: Any, *, seconds: float = SECONDS, cold: bool = False) -> str:
        """Times the families that can do this on these arrays, now, and uses the fastest.

        Each takes at most about `seconds`; with `cold`, its operands are out of the caches whenever
        it begins. Returns its name. The answer is kept for later plans and calls with
        `algo="autotune"`.
        """
        return self._autotune(x, w, seconds, cold)


class _GradientPlan(_Plan):
    """Of the input, from grad_out and w; or of the weight, from grad_out and x."""

    def __init__(self, forward: _Plan, direction: Direction) -> None:
        self._operand_names = ("grad_out", "w" if direction == "input_grad" else "x")
        options = replace(forward._convolution.options, activation=None, conjugate=True)
        convolution = Convolution(direction, forward._convolution.call, options)
        super().__init__(convolution, forward._backend)

    def __call__(self, grad_out: Any, other: Any, /, out: Array | None = None) -> Array:
        return self._call(grad_out, other, None, out)

    def autotune(
        self, grad_out: Any, other: Any, /, *, seconds: float = SECONDS, cold: bool = False
    ) -> str:
        return self._autotune(grad_out, other, seconds, cold)


class _ConvPlan(_ForwardPlan):
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
        options = {
            **shape_options(stride, padding, dilation, groups, padding_mode, layout, flip_kernel),
            **how_options(precision, algo, workspace_limit, activation),
        }
        convolution = convolution_of(self.rank, x_shape, w_shape, dtype, options)
        super().__init__(convolution, backend_of(read_device(device)))

    @cached_property
    def input_grad(self) -> _GradientPlan:
        return _GradientPlan(self, "input_grad")

    @cached_property
    def weight_grad(self) -> _GradientPlan:
        return _GradientPlan(self, "weight_grad")


class Conv1dPlan(_ConvPlan):
    rank = 1


class Conv2dPlan(_ConvPlan):
    rank = 2


class Conv3dPlan(_ConvPlan):
    rank = 3


class _ConvTransposePlan(_ForwardPlan):
    rank: ClassVar[int]

    def __init__(
        self,
        x_shape: Any,
        w_shape: Any,
        dtype: Any,
        *,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
        layout: str | None = None,
        activation: str | None = None,
        precision: str = "ieee",
        algo: str = "auto",
        workspace_limit: int | None = None,
        device: str | None = None,
    ) -> None:
        kind = read_dtype(dtype)
        call = transposed_call(
            self.rank,
            kind,
            arguments.shape("x_shape", x_shape),
            arguments.shape("w_shape", w_shape),
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            groups=groups,
            dilation=dilation,
            layout=layout,
        )
        options = conv_options(kind, **how_options(precision, algo, workspace_limit, activation))
        super().__init__(Convolution("input_grad", call, options), backend_of(read_device(device)))


class ConvTranspose1dPlan(_ConvTransposePlan):
    rank = 1


class ConvTranspose2dPlan(_ConvTransposePlan):
    rank = 2


class ConvTranspose3dPlan(_ConvTransposePlan):
    rank = 3


for _rank, _plan in enumerate((Conv1dPlan, Conv2dPlan, Conv3dPlan), 1):
    documented(_PLAN, _rank)(_plan)
for _rank, _transposed in enumerate(
    (ConvTranspose1dPlan, ConvTranspose2dPlan, ConvTranspose3dPlan), 1
):
    documented(_TRANSPOSED_PLAN, _rank)(_transposed)


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
        (estimated seconds, on a GPU of one image: only the order matters), `variant` (the kernel
        that would run), `status` (where that kernel has been run: "cpu", "emulated only", or the
        device), `parts` (of the cost: what for, and seconds) and `not_for_auto` (why "auto" leaves
        a family alone that could do it).

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
    known = (*SHAPE_OPTIONS, *HOW_OPTIONS)
    for name in options:
        if name not in known:
            raise TypeError(f"algorithms has no option {name!r}; it takes {', '.join(known)}")
    rank = len(arguments.shape("w_shape", w_shape)) - 2
    if rank not in (1, 2, 3):
        raise ValueError(f"w_shape must have 3, 4 or 5 axes, got {rank + 2}: {tuple(w_shape)}")
    convolution = convolution_of(rank, x_shape, w_shape, dtype, dict(options))
    return backend_of(read_device(device)).conv_candidates(
        "forward", convolution.call.problem, convolution.request
    )
