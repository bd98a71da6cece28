"""Two records, row by row: has the time changed?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cuconv._bench.record import RecordError
from cuconv._bench.statistics import FEWEST_ROUNDS, Ratio, geometric_mean, quotient, unpaired_ratio
from cuconv._bench.summary import Row, few_rounds

BY = ("time", "peer")


@dataclass(frozen=True)
class Change:
    """`ratio` above 1: the second record is the faster one."""

    row: Row  # of the second
    ratio: Ratio
    beside: str  # the peer that both are measured by, or ""


@dataclass(frozen=True)
class Comparison:
    changes: list[Change]
    apart: list[str]  # keys that one of them alone has a time for
    by: str
    warnings: list[str]

    @property
    def mean(self) -> Ratio:
        return geometric_mean([change.ratio for change in self.changes])


def compare(a: Row, b: Row, by: str = "") -> Comparison:
    """By times, or by the times of a peer that both rows have (which takes out what the machine's
    speed changed in between). Records of schema 1 have no single times: those go by peers."""
    by = by or ("time" if all("each_ms" in side for side in all_sides(a, b)) else "peer")
    first, second = timed_rows(a), timed_rows(b)
    both = [key for key in second if key in first]
    if not both:
        raise RecordError("the two records have no row in common")
    changes = []
    for key in both:
        changed = by_time(first[key], second[key]) if by == "time" else by_peer(first, second, key)
        if changed:
            changes.append(changed)
    if not changes:
        missing = f"times of {FEWEST_ROUNDS} rounds" if by == "time" else "a peer in common"
        raise RecordError(f"no row of the two records has {missing}")
    return Comparison(changes, sorted(set(first) ^ set(second)), by, warnings(a, b, by))


def timed_rows(record: Row) -> dict[str, Row]:
    return {row["key"]: row for row in record["rows"] if "sides" in row}


def all_sides(*records: Row) -> list[Row]:
    rows = [row for record in records for row in timed_rows(record).values()]
    return [row["sides"][row["ours"]] for row in rows]


def by_time(a: Row, b: Row) -> Change | None:
    before, after = (row["sides"][row["ours"]].get("each_ms") for row in (a, b))
    if not before or not after or min(len(before), len(after)) < FEWEST_ROUNDS:
        return None
    return Change(b, unpaired_ratio(before, after), "")


def by_peer(first: dict[str, Row], second: dict[str, Row], key: str) -> Change | None:
    a, b = first[key], second[key]
    peers = [name for name in (b.get("beside"), a.get("beside")) if name]
    common = [name for name in peers if name in a["ratios"] and name in b["ratios"]]
    if not common:
        return None
    before, after = (Ratio.of(row["ratios"][common[0]]) for row in (a, b))
    assert before is not None, "a ratio of a record is never none"
    assert after is not None, "a ratio of a record is never none"
    return Change(b, quotient(after, before), common[0])


def differences(a: Row, b: Row) -> list[str]:
    """How the two were measured, as far as both say so: a driver, threads, caches, seconds."""
    pairs = [(n, a["device"][n], b["device"][n]) for n in a["device"] if n in b["device"]]
    pairs += [
        (n, a["settings"][n], b["settings"][n])
        for n in ("cold", "algos", "seconds", "rounds", "heuristics")
        if n in a["settings"] and n in b["settings"]
    ]
    return [
        f"{name.replace('_', ' ')} was {told(old)}, then {told(new)}"
        for name, old, new in pairs
        if name != "model" and told(old) != told(new)
    ]


def told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def warnings(a: Row, b: Row, by: str) -> list[str]:
    found = []
    if by == "time" and (few := few_rounds([*a["rows"], *b["rows"]])):
        found.append(f"rows of fewer than {FEWEST_ROUNDS} rounds are left out: {few}")
    if a["device"]["model"] != b["device"]["model"]:
        models = f"{a['device']['model']} and {b['device']['model']}"
        found.append(f"the two were measured on different devices: {models}")
    found += differences(a, b)
    for name in sorted(set(a["versions"]) & set(b["versions"])):
        if a["versions"][name] != b["versions"][name] and name != "cuconv":
            found.append(f"{name} was {a['versions'][name]}, then {b['versions'][name]}")
    if by == "time":
        found.append(
            "times of two runs are compared: what else the machine did, or its clock, is in them"
        )
    return found
