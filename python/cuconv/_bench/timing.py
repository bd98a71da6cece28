"""Times of several sides, in turns, so that whatever disturbs the machine disturbs all of them."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import cuconv
from cuconv._bench.devices import Device, host_milliseconds
from cuconv._bench.sides import Side, failure
from cuconv._bench.statistics import FEWEST_ROUNDS

MOST_ROUNDS = 200
MOST_CALLS = {"cpu": 1_000_000, "cuda": 10}  # the host must have queued a GPU's in time
HOST_TURN_MS = 20.0  # of a side that is timed by the host's clock


@dataclass(frozen=True)
class Turn:
    """How often a side is called in a round, and in how many rounds it takes part."""

    calls: int
    rounds: int


@dataclass
class Timed:
    turn: Turn
    ms: list[float] = field(default_factory=list)  # a call, round by round

    def facts(self) -> dict[str, Any]:
        ordered = sorted(self.ms)
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else sum(ordered[middle - 1 : middle + 1]) / 2
        return {"ms": median, "best_ms": ordered[0], "each_ms": self.ms, **asdict(self.turn)}


class Stopwatch:
    """Times one side, set of buffers after set."""

    def __init__(self, side: Side, device: Device, sets: int) -> None:
        self.side, self.device, self.sets = side, device, sets
        self.next = 0

    def __call__(self, calls: int) -> float:
        numbers = [(self.next + i) % self.sets for i in range(calls)]
        self.next = (self.next + calls) % self.sets
        if self.side.clock == "device":
            return self.device.milliseconds(self.side.call, numbers)
        self.device.synchronize()
        return host_milliseconds(self.side.call, numbers, self.side.facts["wait"])

    def turn(self, seconds: float, fewest: int) -> Turn:
        """One call longer than a side may take in all gets as few rounds as an interval needs."""
        self(1)
        once = min(self.undisturbed(), self.undisturbed())
        if once > seconds * 1e3:
            return Turn(1, FEWEST_ROUNDS)
        once = min(once, self.undisturbed())
        host = self.side.clock == "host"
        least = min(HOST_TURN_MS if host else self.device.turn_ms, seconds * 1e3)
        most = MOST_CALLS["cpu" if host else self.device.name]
        calls = min(most, max(1, math.ceil(least / once)))
        rounds = math.ceil(seconds * 1e3 / (calls * once))
        return Turn(calls, min(MOST_ROUNDS, max(FEWEST_ROUNDS, fewest, rounds)))

    def undisturbed(self) -> float:
        """One call, after the pause in which other sides' threads come to rest."""
        time.sleep(self.device.pause_s)
        return max(self(1), 1e-6)


def timed(
    sides: list[Side], device: Device, sets: int, seconds: float, fewest: int
) -> tuple[dict[str, Timed], dict[str, str]]:
    """By the names of the sides, and why others dropped out: a library may refuse, or find no
    memory, in any call. A round has every side once, in random order."""
    watches = {side.name: Stopwatch(side, device, sets) for side in sides}
    found: dict[str, Timed] = {}
    dropped: dict[str, str] = {}

    def attempt(name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except cuconv.CudaError:  # later calls would fail as well
            raise
        except Exception as error:
            found.pop(name, None)
            dropped[name] = failure(error)

    def begin(name: str) -> None:
        found[name] = Timed(watches[name].turn(seconds, fewest))

    def take_turn(name: str) -> None:
        time.sleep(device.pause_s)
        found[name].ms.append(watches[name](found[name].turn.calls))

    for name in watches:
        attempt(name, partial(begin, name))
    order = random.Random(0)
    for number in range(max((one.turn.rounds for one in found.values()), default=0)):
        present = [name for name, one in found.items() if number < one.turn.rounds]
        order.shuffle(present)
        for name in present:
            attempt(name, partial(take_turn, name))
    return found, dropped
