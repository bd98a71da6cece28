"""What cuconv is timed beside on the CPU: PyTorch, SciPy and OpenCV, as far as they are installed.

A peer is called as its own documentation would have it: tensors converted to their layout before
the clock runs, as many threads as cuconv has, no other setting touched.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

Call = Callable[[], Any]
Sides = dict[str, Call]

LONGEST_NDIMAGE = 15  # taps along a side
LONGEST_TORCH = 15


@dataclass(frozen=True)
class Peers:
    torch: Any  # None where there is none
    scipy: Any
    cv2: Any
    threads: int

    def versions(self) -> dict[str, str | None]:
        found = {"torch": self.torch, "scipy": self.scipy, "opencv": self.cv2}
        return {name: str(of.__version__) if of else None for name, of in found.items()}


def installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def find_peers(threads: int, stack: ExitStack, say: Callable[[str], None]) -> Peers:
    """`stack` undoes what is set for the process; each peer that is missing gets one line."""
    torch, scipy, cv2 = (installed(name) for name in ("torch", "scipy", "cv2"))
    for module, name in [(torch, "PyTorch"), (scipy, "SciPy"), (cv2, "OpenCV")]:
        if module is None:
            say(f"{name} is not installed: left out")
    if torch:
        torch.set_num_threads(threads)
        stack.enter_context(torch.inference_mode())
    if scipy:
        for part in ("fft", "ndimage", "signal"):
            importlib.import_module(f"scipy.{part}")
    if cv2:
        cv2.setNumThreads(threads)
    return Peers(torch, scipy, cv2, threads)


def layouts(peers: Peers, array: np.ndarray) -> dict[str, Any]:
    """The same values as PyTorch's two memory formats."""
    tensor = peers.torch.from_numpy(array)
    last = tensor.contiguous(memory_format=peers.torch.channels_last)
    return {"PyTorch NCHW": tensor, "PyTorch channels_last": last}


def torch_conv(peers: Peers, x: np.ndarray, w: np.ndarray, options: dict[str, Any]) -> Sides:
    if not peers.torch:
        return {}
    xs, ws = layouts(peers, x), layouts(peers, w)
    conv2d = peers.torch.nn.functional.conv2d
    return {name: lambda a=xs[name], b=ws[name]: conv2d(a, b, **options) for name in xs}


def torch_pool(peers: Peers, name: str, x: np.ndarray, window: tuple[int, int, int]) -> Sides:
    if not peers.torch:
        return {}
    pool = getattr(peers.torch.nn.functional, name)
    return {layout: lambda a=a: pool(a, *window) for layout, a in layouts(peers, x).items()}


def torch_relu(peers: Peers, x: np.ndarray) -> Sides:
    """PyTorch's relu takes no `out`; clamp_min is the same and does."""
    if not peers.torch:
        return {}
    sides: Sides = {}
    for layout, a in layouts(peers, x).items():
        out = peers.torch.empty_like(a)
        sides[layout] = lambda a=a: peers.torch.relu(a)
        sides[f"{layout} out="] = lambda a=a, out=out: peers.torch.clamp_min(a, 0.0, out=out)
    return sides


def image_sides(peers: Peers, image: np.ndarray, taps: np.ndarray) -> tuple[Sides, dict[str, str]]:
    """Filters of one image, size kept, zeros outside; and which were left out, and why."""
    sides, skipped = scipy_sides(peers, image, taps) if peers.scipy else ({}, {})
    if peers.cv2:
        border = peers.cv2.BORDER_CONSTANT
        sides["cv2.filter2D"] = lambda: peers.cv2.filter2D(image, -1, taps, borderType=border)
    if peers.torch and len(taps) <= LONGEST_TORCH:
        x, w = (a[None, None] for a in (image, taps))
        sides |= torch_conv(peers, x, w, {"padding": len(taps) // 2})
    elif peers.torch:
        skipped["PyTorch"] = f"not meant for filters above {LONGEST_TORCH}x{LONGEST_TORCH}"
    return sides, skipped


def scipy_sides(peers: Peers, image: np.ndarray, taps: np.ndarray) -> tuple[Sides, dict[str, str]]:
    """SciPy's convolutions flip the filter, which is done beforehand here."""
    signal, ndimage = peers.scipy.signal, peers.scipy.ndimage
    flipped = np.ascontiguousarray(taps[::-1, ::-1])

    def transformed(convolve: Callable[..., Any]) -> Call:
        def call() -> Any:
            with peers.scipy.fft.set_workers(peers.threads):
                return convolve(image, flipped, mode="same")

        return call

    sides = {f"scipy.signal.{f.__name__}": transformed(f) for f in convolvers(signal)}
    if len(taps) > LONGEST_NDIMAGE:
        reason = f"minutes a call above {LONGEST_NDIMAGE}x{LONGEST_NDIMAGE} taps"
        return sides, {"scipy.ndimage.correlate": reason}
    sides["scipy.ndimage.correlate"] = lambda: ndimage.correlate(image, taps, mode="constant")
    return sides, {}


def convolvers(signal: Any) -> tuple[Callable[..., Any], ...]:
    return signal.oaconvolve, signal.fftconvolve
