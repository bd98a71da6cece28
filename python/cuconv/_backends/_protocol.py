"""What a backend is: the one interface between the public functions and the code that computes.

Every array a backend sees is *canonical*: a strided channels-first view with three spatial axes.

======== ======================== =====================================
array    shape                    meaning
======== ======================== =====================================
x        (N, C, D, H, W)          input
w        (K, C/groups, T, R, S)   filter, always as cross-correlation
y        (N, K, Z, P, Q)          output
bias     (K,)
======== ======================== =====================================

1-D problems have D = H = 1 and 2-D problems D = 1. Layouts, missing batch axes and flipped kernels
are gone by then: they are views with other strides (negative ones too). A backend writes its result
into the array it is given, which may be any strided view whose elements do not overlap, and which
never shares memory with an input (element-wise functions excepted: there `out` may be the input).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cuconv._problem import ConvCall, ConvProblem, PoolProblem

Array = Any  # numpy.ndarray or cupy.ndarray
Direction = Literal["forward", "input_grad", "weight_grad"]


@dataclass(frozen=True, slots=True)
class ConvOptions:
    """What to compute besides the bare product, and how.

    activation : applied after the bias (forward; input_grad when it serves a transposed one).
    conjugate : multiply by the complex conjugate of the second operand (true gradients do,
        transposed convolution does not). No effect on real dtypes.
    channels_last : the layout of the call. What arrays a backend then gets may have any strides,
        but a kernel that wants neighbouring channels is worth choosing.
    """

    activation: str | None = None
    conjugate: bool = False
    precision: str = "ieee"
    channels_last: bool = False
    algo: str = "auto"
    workspace_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One algorithm family's answer to "could you do this problem?"."""

    algo: str
    supported: bool
    reason: str  # why not; empty when supported
    workspace_bytes: int
    cost: float  # estimated seconds, on a GPU of one image; only the order matters
    variant: str  # the kernel that would run
    status: str  # "cpu", "emulated only", or the recorded device run
    parts: tuple[tuple[str, float], ...] = ()  # of the cost: what for, and seconds
    not_for_auto: str = ""  # why "auto" leaves it alone all the same


class ConvExecutor(Protocol):
    """A convolution with everything decided; calling it computes.

    =========== ============= ============ =========
    direction   a             b            out
    =========== ============= ============ =========
    forward     x             w            y
    input_grad  grad of y     w            grad of x
    weight_grad grad of y     x            grad of w
    =========== ============= ============ =========

    `bias` has as many elements as `out` has channels; None for weight_grad.
    """

    @property
    def algo(self) -> str: ...

    @property
    def variant(self) -> str: ...

    @property
    def workspace_bytes(self) -> int: ...

    def __call__(self, a: Array, b: Array, bias: Array | None, out: Array) -> None: ...

    def quick(self, call: ConvCall) -> Callable[[Array, Array, Array | None], Array | None] | None:
        """The shortest way from the caller's two operands and bias to a new result, to the bits of
        a call; None if there is none. The operands have the shapes, dtype and kind planned for, any
        strides; it gives None for those that it does not take. Not for calls with a border."""
        ...


@dataclass(frozen=True, slots=True)
class ConvPart:
    """One of several forward convolutions: y = act(bias + w * x), or with `pool` of maxpool(x).

    `problem` is that of the convolution; with `pool` its kernel has one tap at stride 1, and it
    reads the pooled array.
    """

    problem: ConvProblem
    options: ConvOptions
    x: Array
    w: Array
    bias: Array | None
    y: Array
    pool: PoolProblem | None = None


class Backend(Protocol):
    name: str
    device: Literal["cpu", "cuda"]

    def empty(self, shape: Sequence[int], dtype: Any) -> Array: ...

    def conv_candidates(
        self, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> list[Candidate]: ...

    def conv(
        self, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> ConvExecutor:
        """Decide. Raises UnsupportedError when options.algo cannot do the problem."""
        ...

    def conv_together(self, parts: Sequence[ConvPart]) -> None:
        """Forward convolutions that do not depend on each other, in as few launches as can be."""
        ...

    def bias_grad(self, gy: Array, gb: Array) -> None:
        """gb[k] = sum of gy over all axes but the second."""
        ...

    def max_pool(self, problem: PoolProblem, x: Array, y: Array, indices: Array | None) -> None:
        """indices: int64, flat position in the unpadded D*H*W plane of the first maximum; the first
        NaN wins over everything."""
        ...

    def max_pool_grad(
        self, problem: PoolProblem | None, gy: Array, indices: Array, gx: Array
    ) -> None:
        """With `problem`, each index lies in its own window; without, anywhere."""
        ...

    def avg_pool(self, problem: PoolProblem, x: Array, y: Array) -> None: ...

    def avg_pool_grad(self, problem: PoolProblem, gy: Array, gx: Array) -> None: ...

    # Element-wise functions and softmax take arrays of any one shape, any strides.
    def relu(self, x: Array, y: Array) -> None: ...

    def relu_grad(self, gy: Array, y: Array, gx: Array) -> None:
        """gx = 0 where y <= 0, else gy (so where y is NaN the gradient passes)."""
        ...

    def sigmoid(self, x: Array, y: Array) -> None: ...

    def softmax(self, x: Array, axis: int, y: Array) -> None: ...
