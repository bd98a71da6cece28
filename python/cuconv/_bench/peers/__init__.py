"""What cuconv is timed beside, as far as it is installed.

A peer is called as its own documentation would have it: operands in its layout before the clock
runs, as many threads as cuconv has, no other setting touched.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from cuconv._bench.devices import Device
from cuconv._bench.sides import Buffers, Side, Skipped, failure

# Of each device, in the order of importance: the name on the command line, and its module here.
KNOWN = {
    "cpu": {"torch": "torch", "scipy": "filters", "opencv": "opencv"},
    "cuda": {"torch": "torch", "cudnn": "cudnn_frontend", "cupyx": "filters", "jax": "jax"},
}


PIP = {  # by the module that is imported: what a user can install to have it
    "torch": "torch",
    "scipy": "scipy",
    "cv2": "opencv-python-headless",
    "cudnn": "nvidia-cudnn-frontend",
    "jax": "jax[cuda13]",
}


class Missing(Exception):
    """Why a peer cannot be had."""


class Peer(Protocol):
    versions: dict[str, str]

    def sides(self, buffers: Buffers) -> list[Side | Skipped]:
        """What it can do of a case; nothing of a case that it is not meant for."""
        ...


def installed(name: str, package: str) -> Any:
    """A module, or why not. What breaks while it is imported is a reason as well."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        top = name.partition(".")[0]
        if getattr(error, "name", None) == top:
            command = f': pip install "{PIP[top]}"' if top in PIP else ""
            raise Missing(f"{package} is not installed{command}") from None
        raise Missing(f"{package}: {error}") from None
    except (OSError, RuntimeError, AttributeError) as error:
        raise Missing(f"{package} cannot be imported: {error}") from None


def find_peers(
    names: Sequence[str], device: Device, settings: dict[str, Any], stack: ExitStack
) -> tuple[dict[str, Peer], dict[str, str]]:
    """Those that are there, by name, and of the others why not. `stack` undoes what is set for the
    process."""
    found: dict[str, Peer] = {}
    missing: dict[str, str] = {}
    for name in names:
        module = importlib.import_module(f"cuconv._bench.peers.{KNOWN[device.name][name]}")
        try:
            found[name] = module.open_peer(device, settings, stack)
        except Missing as reason:
            missing[name] = str(reason)
        except Exception as error:
            missing[name] = f"{name} {failure(error)}"
    return found, missing
