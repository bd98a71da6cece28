"""OpenCV on the CPU: filter2D of an image of one channel."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from cuconv._bench.devices import Device
from cuconv._bench.peers import installed
from cuconv._bench.peers.filters import as_batch, is_image_filter
from cuconv._bench.sides import Buffers, Side, Skipped


def open_peer(device: Device, settings: dict[str, Any], stack: ExitStack) -> OpenCVPeer:
    cv2 = installed("cv2", "OpenCV")
    before = cv2.getNumThreads()
    stack.callback(cv2.setNumThreads, before)
    cv2.setNumThreads(settings["threads"])
    return OpenCVPeer(cv2)


class OpenCVPeer:
    def __init__(self, cv2: Any) -> None:
        self.cv2 = cv2
        self.versions = {"opencv": str(cv2.__version__)}

    def sides(self, buffers: Buffers) -> list[Side | Skipped]:
        case = buffers.case
        if not is_image_filter(case) or case.kind not in ("float32", "float64"):
            return []
        images = [array.reshape(case.x_shape[2:]) for array in buffers.first]
        taps = [array.reshape(case.w_shape[2:]) for array in buffers.second]
        border = self.cv2.BORDER_CONSTANT

        def call(i: int) -> Any:
            return self.cv2.filter2D(images[i], -1, taps[i], borderType=border)

        return [Side("cv2.filter2D", call, as_batch)]
