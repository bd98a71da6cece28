"""OpenCV on the CPU: filter2D of an image of one channel."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from cuconv._bench.devices import Device
from cuconv._bench.peers import installed
from cuconv._bench.peers.filters import as_batch, image_operands
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
        images, taps = image_operands(buffers)
        if not images:
            return []
        border = self.cv2.BORDER_CONSTANT

        def call(i: int) -> Any:
            return self.cv2.filter2D(images[i], -1, taps[i], borderType=border)

        return [Side("cv2.filter2D", call, as_batch)]
