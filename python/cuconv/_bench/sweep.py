"""How cost grows: one size of a convolution varied, the others fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cuconv._bench.cases import DIRECTIONS, KINDS, LAYOUTS, Case, conv_case
from cuconv._bench.layers import Layer
from cuconv._bench.record import RecordError
from cuconv._bench.settings import among, as_tuple, is_count
from cuconv._bench.statistics import Growth, growth

# Each from where a call's own cost no longer hides the work, to where it takes some tenths of a
# second on a CPU.
VALUES = {
    "N": (1, 2, 4, 8, 16),
    "C": (16, 32, 64, 128, 256),
    "K": (16, 32, 64, 128, 256),
    "H": (14, 28, 56, 112),
    "R": (1, 3, 5, 7, 9, 11),
    "stride": (1, 2, 3, 4),
}
FIXED = {"N": 1, "C": 64, "K": 64, "H": 56, "R": 3, "stride": 1}


@dataclass(frozen=True)
class Sweep:
    """The image is square, so is the filter; C and K go together unless K is given."""

    vary: str
    values: tuple[int, ...]
    fixed: tuple[tuple[str, int], ...] = ()
    kind: str = "float32"
    direction: str = "forward"
    layout: str = "NCHW"

    def case(self, value: int) -> Case:
        sizes = FIXED | dict(self.fixed) | {self.vary: value}
        if self.vary == "C" and "K" not in dict(self.fixed):
            sizes["K"] = value
        layer = Layer(
            sizes["N"], sizes["C"], sizes["H"], sizes["H"], sizes["K"], sizes["R"], sizes["R"],
            stride=(sizes["stride"],) * 2, padding=(sizes["R"] // 2,) * 2,
        )  # fmt: skip
        case = conv_case(f"{self.vary} varied", f"{self.vary}={value}: {layer}", layer)
        return replace(case, kind=self.kind, direction=self.direction, layout=self.layout)

    def cases(self) -> list[Case]:
        return [self.case(value) for value in self.values]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Sweep:
        made = cls(**{name: as_tuple(value) for name, value in found.items()})
        fixed = tuple((str(name), value) for name, value in made.fixed)
        return replace(made, fixed=fixed)

    def wrong(self) -> list[str]:
        """Names of what no sweep can go by, in a record that was edited."""
        values, sizes = self.values, dict(self.fixed)
        right = {
            "vary": among((self.vary,), VALUES),
            "values": isinstance(values, tuple) and bool(values) and all(map(is_count, values)),
            "fixed": among(tuple(sizes), FIXED) and all(map(is_count, sizes.values())),
            "kind": among((self.kind,), KINDS),
            "direction": among((self.direction,), DIRECTIONS),
            "layout": among((self.layout,), LAYOUTS),
        }
        return [name for name, good in right.items() if not good]


def sweeps_of(record: dict[str, Any]) -> list[Sweep]:
    """Raises RecordError."""
    try:
        found = [Sweep.from_json(one) for one in record["sweeps"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"no sweeps to go on with ({error})") from None
    if wrong := [name for one in found for name in one.wrong()]:
        raise RecordError(f"no sweeps to go on with ({', '.join(wrong)} is wrong)")
    return found


def points(record: dict[str, Any], sweep: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """(size, milliseconds) by the name of a side."""
    found: dict[str, list[tuple[int, float]]] = {}
    prefix = f"{sweep['vary']}="
    for row in record["rows"]:
        if row["group"] == f"{sweep['vary']} varied" and "sides" in row:
            value = int(row["name"].removeprefix(prefix).partition(":")[0])
            for name, side in row["sides"].items():
                found.setdefault(name, []).append((value, side["ms"]))
    return found


def fits(record: dict[str, Any], sweep: dict[str, Any]) -> dict[str, Growth]:
    """By the name of a side. A stride is no size of anything, but its exponent says as much."""
    found = {}
    for name, pairs in points(record, sweep).items():
        fit = growth([size for size, _ in pairs], [ms for _, ms in pairs])
        if fit is not None:
            found[name] = fit
    return found


def lines(record: dict[str, Any]) -> list[str]:
    text = []
    for sweep in record["sweeps"]:
        word = "two sizes at the most: no exponent"
        some = fits(record, sweep)
        values: Sequence[int] = sweep["values"]
        text.append(f"{sweep['vary']} = {', '.join(map(str, values))}")
        text += [f"  {name}: time ~ {sweep['vary']}^{fit}" for name, fit in some.items()]
        text += [] if some else [f"  {word}"]
    return text
