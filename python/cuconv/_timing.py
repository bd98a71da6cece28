"""Which of several ways to do one thing is the fastest: when each is timed, and when no longer.

Nothing here knows a clock or a device: `Clock` is given, so the rules can be tested without either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

Run = Callable[[], None]

SECONDS = 0.25  # a candidate's time, unless the caller says otherwise
ROUNDS = 8
SLICES = 128  # so much of its time is a slice: repeated calls whose mean is taken
MOST_CALLS = 1000
# First calls pay for what happens once: kernels are loaded, memory is paged in, and a plan keeps
# transformed filters from its second call on. So two do not count.
WARM = 2
# A candidate is given up when none of its first three slices came within 1.5 times the fastest
# slice so far. Disturbances only ever add time, and slices of different candidates alternate: to
# lose the true winner so, three slices apart in time must each be slowed by half or more, while a
# slower candidate has an undisturbed one.
ENOUGH, FAR = 3, 1.5
# It is given up before when it has had its time and takes twenty times what the best takes.
HOPELESS = 20.0


class Clock(Protocol):
    """Seconds a call takes: the mean of so many calls one after the other."""

    one_by_one: bool  # calls must not follow each other: each slice is one call

    def __call__(self, run: Run, calls: int) -> float: ...


@dataclass
class Side:
    """A candidate being timed."""

    first: list[float] = field(default_factory=list)  # calls that do not count
    slices: list[float] = field(default_factory=list)
    spent: float = 0.0

    @property
    def best(self) -> float:
        return min(self.slices, default=math.inf)

    @property
    def seconds(self) -> float:
        """The fastest slice is what the work takes: all that is above it came from elsewhere."""
        return min(self.slices or self.first, default=math.inf)


@dataclass(frozen=True)
class Measured:
    """Seconds of a call by name, and why others have none."""

    seconds: dict[str, float]
    failed: dict[str, str]


def measure(runs: Mapping[str, Run], clock: Clock, seconds: float = SECONDS) -> Measured:
    """Times what is given, in turns.

    A candidate is called twice, and then for at most `seconds` and the rest of a call, but three
    times if it is not hopeless.
    """
    sides = {name: Side() for name in runs}
    failed: dict[str, str] = {}
    live = list(runs)
    for number in range(WARM + ROUNDS):
        if len(live) < 2 and number >= WARM:
            break  # nothing left to compare
        for name in list(live):
            side = sides[name]
            calls = 1
            if number >= WARM and not clock.one_by_one:
                calls = min(max(1, math.ceil(seconds / SLICES / side.seconds)), MOST_CALLS)
            try:
                found = max(clock(runs[name], calls), 1e-9)  # of a clock that stood still
            except Exception as error:  # whatever a candidate does, the others go on
                failed[name] = f"{type(error).__name__}: {error}"
                sides[name] = Side()  # what it took before is nobody's measure
                live.remove(name)
                continue
            if number < WARM:
                side.first.append(found)
            else:
                side.slices.append(found)
                side.spent += found * calls
        best = min((side.seconds for side in sides.values()), default=math.inf)
        live = [name for name in live if may_win(sides[name], best, seconds)]
    return Measured({n: s.seconds for n, s in sides.items() if n not in failed}, failed)


def may_win(side: Side, best: float, seconds: float) -> bool:
    """Whether more calls could make it the fastest; `best` is what the fastest takes so far."""
    if side.seconds > HOPELESS * best and (side.spent or side.seconds) >= seconds:
        return False
    if len(side.slices) < ENOUGH:
        return True
    return side.spent < seconds and side.best <= FAR * best
