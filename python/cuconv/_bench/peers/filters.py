"""SciPy on the CPU and its likeness in CuPy on the GPU: filters of an image of one channel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from cuconv._bench.cases import Case
from cuconv._bench.devices import Call, Device
from cuconv._bench.peers import installed
from cuconv._bench.sides import Buffers, Side, Skipped

LONGEST = {"cpu": 15, "cuda": 63}  # taps along a side, for what goes tap by tap


def open_peer(device: Device, settings: dict[str, Any], stack: ExitStack) -> FilterPeer:
    if device.name == "cuda":
        signal, ndimage = (
            installed(f"cupyx.scipy.{part}", "CuPy") for part in ("signal", "ndimage")
        )
        version = {"cupyx": str(device.xp.__version__)}
        return FilterPeer(device, "cupyx.scipy", signal, ndimage, version)
    scipy = installed("scipy", "SciPy")
    signal, ndimage, fft = (
        installed(f"scipy.{part}", "SciPy") for part in ("signal", "ndimage", "fft")
    )
    peer = FilterPeer(device, "scipy", signal, ndimage, {"scipy": str(scipy.__version__)})
    peer.set_workers = lambda: fft.set_workers(settings["threads"])
    return peer


def is_image_filter(case: Case) -> bool:
    """One channel to one channel, the size kept."""
    of = case.layer
    if case.of != "conv" or of is None or case.direction != "forward":
        return False
    centred = of.padding == (of.r // 2, of.s // 2) and of.r % 2 == of.s % 2 == 1
    plain = of.stride == of.dilation == (1, 1)
    return (of.n, of.c, of.k) == (1, 1, 1) and centred and plain


def image_operands(buffers: Buffers) -> tuple[list[Any], list[Any]]:
    """Images and kernels as such libraries take them; none where the case is no such filter."""
    case = buffers.case
    if not is_image_filter(case) or case.kind not in ("float32", "float64"):
        return [], []
    return (
        [array.reshape(case.x_shape[2:]) for array in buffers.first],
        [array.reshape(case.w_shape[2:]) for array in buffers.second],
    )


class FilterPeer:
    def __init__(
        self, device: Device, label: str, signal: Any, ndimage: Any, versions: dict[str, str]
    ) -> None:
        self.device, self.label, self.signal, self.ndimage = device, label, signal, ndimage
        self.versions = versions
        self.set_workers: Callable[[], AbstractContextManager[Any]] = nullcontext

    def sides(self, buffers: Buffers) -> list[Side | Skipped]:
        """SciPy's convolutions flip the filter, which is done beforehand here."""
        images, taps = image_operands(buffers)
        if not images:
            return []
        flipped = [self.device.xp.ascontiguousarray(t[::-1, ::-1]) for t in taps]

        def transformed(name: str) -> Call:
            convolve = getattr(self.signal, name)

            def call(i: int) -> Any:
                with self.set_workers():
                    return convolve(images[i], flipped[i], mode="same")

            return call

        def correlated(i: int) -> Any:
            return self.ndimage.correlate(images[i], taps[i], mode="constant")

        found: list[Side | Skipped] = [
            Side(f"{self.label}.signal.{name}", transformed(name), as_batch)
            for name in ("oaconvolve", "fftconvolve")
        ]
        name, longest = f"{self.label}.ndimage.correlate", LONGEST[self.device.name]
        if len(taps[0]) > longest:
            return [*found, Skipped(name, f"minutes a call above {longest}x{longest} taps")]
        return [*found, Side(name, correlated, as_batch)]


def as_batch(image: Any) -> Any:
    return image[None, None]
