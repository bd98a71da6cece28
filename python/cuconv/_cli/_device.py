"""Where a command computes: NumPy arrays on the CPU, or CuPy arrays on the GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
import numpy as np

import cuconv
from cuconv._cli._errors import CliError
from cuconv._machine import processor

device_option = click.option(
    "--device",
    "device_name",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto is the GPU if cuconv can use one, else the CPU.",
)


@dataclass(frozen=True)
class Device:
    """How arrays go to a device and come back, and when its work is finished."""

    name: str  # "cpu" or "cuda"
    label: str  # for people: the device's model
    to_device: Callable[[np.ndarray], Any]
    to_host: Callable[[Any], np.ndarray]
    wait: Callable[[], None]


def open_device(name: str) -> Device:
    if name == "cpu" or (name == "auto" and not cuconv.is_cuda_available()):
        return Device("cpu", processor(), np.ascontiguousarray, np.asarray, lambda: None)
    if not cuconv.is_cuda_available():
        raise CliError("--device cuda: cuconv cannot use a GPU here; `cuconv info` says why")
    import cupy

    model = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    return Device(
        "cuda", model, cupy.asarray, cupy.asnumpy, cupy.cuda.get_current_stream().synchronize
    )
