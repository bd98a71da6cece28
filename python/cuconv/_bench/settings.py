"""What a run or a sweep goes by; read back from a record, which may have been edited."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from cuconv._bench import record
from cuconv._bench.cases import DIRECTIONS, GROUPS, KINDS, LAYOUTS, Choice
from cuconv._bench.peers import KNOWN


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run measures; kept in its record, so that it can go on."""

    choice: Choice
    device: str
    threads: int = 2
    peers: tuple[str, ...] = ()
    algos: tuple[str, ...] = ("auto",)
    seconds: float = 1.0
    rounds: int = 9  # of a side at the least
    cold: bool = True
    heuristics: bool = False  # let cuDNN choose without trying

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Settings:
        try:
            rest: dict[str, Any] = {name: as_tuple(value) for name, value in found.items()}
            choice: dict[str, Any] = {k: as_tuple(v) for k, v in rest.pop("choice").items()}
            made = cls(choice=Choice(**choice), **rest)
        except (KeyError, TypeError, AttributeError) as error:
            raise record.RecordError(f"no settings to go on with ({error})") from None
        if wrong := made.wrong():
            raise record.RecordError(f"no settings to go on with ({', '.join(wrong)} is wrong)")
        return made

    def wrong(self) -> list[str]:
        """Names of what no run can go by, in a record that was edited."""
        of = self.choice
        right = {
            "groups": among(of.groups, GROUPS),
            "kinds": among(of.kinds, KINDS),
            "directions": among(of.directions, DIRECTIONS),
            "layouts": among(of.layouts, LAYOUTS),
            "batches": isinstance(of.batches, tuple) and all(map(is_count, of.batches)),
            "limit": of.limit is None or is_count(of.limit),
            "device": self.device in ("cpu", "cuda"),
            "threads": is_count(self.threads),
            "peers": among(self.peers, KNOWN.get(str(self.device), ())),
            "algos": isinstance(self.algos, tuple)
            and bool(self.algos)
            and all(isinstance(name, str) for name in self.algos),
            "seconds": type(self.seconds) in (int, float) and 0 < self.seconds < math.inf,
            "rounds": is_count(self.rounds),
            "cold": isinstance(self.cold, bool),
            "heuristics": isinstance(self.heuristics, bool),
        }
        return [name for name, good in right.items() if not good]


def among(names: Any, known: Iterable[str]) -> bool:
    return isinstance(names, tuple) and all(name in list(known) for name in names)


def is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def as_tuple(value: Any) -> Any:
    """JSON has lists alone."""
    return tuple(value) if isinstance(value, list) else value
