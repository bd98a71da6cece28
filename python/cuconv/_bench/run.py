"""One run: device and peers opened, every case made ready, checked, timed, and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cuconv
from cuconv._bench import memory, record, roofline
from cuconv._bench.cases import KINDS, Case, cases_of
from cuconv._bench.devices import CpuDevice, Device
from cuconv._bench.exact import Check, WrongResult, make_check
from cuconv._bench.peers import KNOWN, Peer, find_peers
from cuconv._bench.settings import Settings
from cuconv._bench.sides import (
    Buffers,
    Side,
    Skipped,
    failure,
    first_line,
    make_buffers,
    own_sides,
    poison,
)
from cuconv._bench.statistics import paired_ratio
from cuconv._bench.sweep import Sweep, sweeps_of
from cuconv._bench.timing import timed

LIMIT_TIMES = 8


class Broken(Exception):
    """A call of cuconv has raised what it should not."""


@dataclass
class Lab:
    """What cases are measured with."""

    device: Device
    settings: Settings
    peers: dict[str, Peer] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def open_device(settings: Settings) -> Device:
    """Raises cuconv.CudaUnavailableError."""
    if settings.device == "cpu":
        return CpuDevice(settings.threads)
    from cuconv._backends.cuda import missing

    if what := missing():
        raise cuconv.CudaUnavailableError(what)
    import cupy

    from cuconv._bench.gpu import CudaDevice

    return CudaDevice(cupy)


def open_lab(settings: Settings, stack: ExitStack) -> Lab:
    device = open_device(settings)
    stack.enter_context(device.open())
    peers, missing = find_peers(settings.peers, device, settings.as_json(), stack)
    return Lab(device, settings, peers, missing)


# ---- one case ----


def measured(case: Case, lab: Lab) -> dict[str, Any]:
    """A row of the record: with `sides` where it was timed, else `failed` or `skipped`."""
    row = case.facts()
    try:
        buffers = make_buffers(case, lab.device, lab.settings.cold)
        return row | measured_with(buffers, lab)
    except (WrongResult, Broken) as error:
        return row | {"failed": str(error)}
    except cuconv.UnsupportedError as error:
        return row | {"skipped": f"not supported: {error}"}
    except MemoryError as error:
        return row | {"skipped": f"not enough memory: {error}".rstrip(": ")}


def measured_with(buffers: Buffers, lab: Lab) -> dict[str, Any]:
    row: dict[str, Any] = {
        "buffer_sets": buffers.count,
        "operand_bytes": buffers.operand_bytes,
        "result_bytes": buffers.result_bytes,
        "cold": buffers.cold,
    }
    check = make_check(buffers)
    row |= {"checked_against": check.how, "errors": {}, "skipped_sides": {}, "wrong": {}}
    own, *more = own_sides(buffers, lab.settings.algos)
    if isinstance(own, Skipped):
        raise cuconv.UnsupportedError(own.reason)
    row["ours"] = own.name
    row |= {name: own.facts.get(name) for name in ("algo", "variant", "workspace_bytes")}
    with own_calls():
        began = time.perf_counter()
        own.call(0)
        lab.device.synchronize()
        row["first_call_ms"] = 1e3 * (time.perf_counter() - began)
        row["errors"][own.name] = checked(own, check, lab.device)
    ready = [own]
    for side in [*more, *peer_sides(buffers, lab)]:
        if isinstance(side, Skipped):
            row["skipped_sides"][side.name] = side.reason
        elif counts(side, check, row, lab.device):
            ready.append(side)
    if lab.device.name == "cpu" and buffers.case.of == "conv":
        with own_calls():
            row |= memory.of_plan(buffers, lab.settings.algos[0])
    settings = lab.settings
    found, dropped = timed(ready, lab.device, buffers.count, settings.seconds, settings.rounds)
    if own.name in dropped:
        raise Broken(f"while it was timed: {dropped[own.name]}")
    row["skipped_sides"] |= dropped
    ready = [side for side in ready if side.name not in dropped]
    with own_calls():
        checked(own, check, lab.device)
    again = "after it was timed: "
    ready = [own, *(side for side in ready[1:] if counts(side, check, row, lab.device, again))]
    plain = ("algo", "variant", "workspace_bytes")
    row["sides"] = {
        side.name: {
            **found[side.name].facts(),
            "peer": side.peer,
            "clock": side.clock,
            "rotates_result": side.rotates_result,
            **{name: side.facts[name] for name in plain if name in side.facts},
        }
        for side in ready
    }
    ours = found[own.name].ms
    ratios = {side.name: paired_ratio(found[side.name].ms, ours) for side in ready[1:]}
    row["ratios"] = {
        name: {"ratio": ratio.value, "interval": [ratio.low, ratio.high]}
        for name, ratio in ratios.items()
    }
    return row | beside_fastest(row)


@contextmanager
def own_calls() -> Iterator[None]:
    """What they raise fails a row, and not the run; only a CUDA error ends that."""
    try:
        yield
    except (cuconv.CudaError, cuconv.UnsupportedError, MemoryError, WrongResult):
        raise
    except Exception as error:
        raise Broken(f"a call raises {type(error).__name__}: {first_line(error)}") from error


def peer_sides(buffers: Buffers, lab: Lab) -> list[Side | Skipped]:
    found: list[Side | Skipped] = []
    for name, peer in lab.peers.items():
        try:
            found += peer.sides(buffers)
        except Exception as error:
            found.append(Skipped(name, failure(error)))
    return found


def checked(side: Side, check: Check, device: Device) -> dict[str, float]:
    """The errors of a second call: from then on a CPU plan uses the filters it has transformed,
    as it does when it is timed."""
    side.call(0)
    poison(side, device)
    return check.errors(side.canonical(side.call(0)), side.peer)


def counts(side: Side, check: Check, row: dict[str, Any], device: Device, when: str = "") -> bool:
    """Whether a side does. The row has its errors then, else why not."""
    try:
        row["errors"][side.name] = checked(side, check, device)
    except WrongResult as error:
        row["wrong"][side.name] = f"{when}wrong: {error}"
    except cuconv.CudaError:  # later calls would fail as well
        raise
    except Exception as error:
        row["skipped_sides"][side.name] = when + failure(error)
    else:
        return True
    return False


def beside_fastest(row: dict[str, Any]) -> dict[str, Any]:
    """The peer of smallest median, of those on the same clock."""
    sides = row["sides"]
    others = [n for n in row["ratios"] if sides[n]["peer"] and sides[n]["clock"] == "device"]
    if not others:
        return {"beside": None, "ratio": None, "interval": None}
    fastest = min(others, key=lambda name: sides[name]["ms"])
    return {"beside": fastest, **row["ratios"][fastest]}


# ---- all cases ----

Tell = Callable[[Case, int, int], None]  # which case begins, its number, how many there are


def nothing(case: Case, number: int, total: int) -> None: ...


def cases_in(content: dict[str, Any], settings: Settings) -> list[Case]:
    """What a record is to hold."""
    if content["purpose"] == "sweep":
        return [case for one in sweeps_of(content) for case in one.cases()]
    return cases_of(settings.choice)


@dataclass
class Run:
    """A record that grows. `measure` returns when all is measured, when the time is over, or raises
    KeyboardInterrupt; the file is valid at any moment."""

    settings: Settings
    path: Path
    content: dict[str, Any]
    cases: list[Case]

    @classmethod
    def begin(
        cls, settings: Settings, path: Path, command: str, sweeps: Sequence[Sweep] = ()
    ) -> Run:
        """With sweeps it is these that are measured."""
        content = record.new("sweep" if sweeps else "run", settings.as_json(), command)
        if sweeps:
            content["sweeps"] = [one.as_json() for one in sweeps]
        return cls(settings, path, content, cases_in(content, settings))

    @classmethod
    def resume(cls, path: Path, purpose: str = "run") -> Run:
        content = record.read(path)
        if content["purpose"] != purpose:
            raise record.RecordError(
                f"{path} is a {content['purpose']}: cuconv bench {content['purpose']} --resume "
                "goes on with it"
            )
        settings = Settings.from_json(content["settings"])
        if content["commit"] != record.commit():
            raise record.RecordError(
                f"{path} is of commit {content['commit'][:12]}, this is "
                f"{record.commit()[:12]}: their rows are not mixed"
            )
        running = cls(settings, path, content, cases_in(content, settings))
        if content["complete"] and not running.missing_cases():
            raise record.RecordError(f"{path} is complete: there is nothing to go on with")
        content.setdefault("resumed", []).append(record.now())
        return running

    def missing_cases(self) -> list[Case]:
        done = {row["key"] for row in self.content["rows"]}
        return [case for case in self.cases if str(case) not in done]

    def write(self) -> None:
        self.content["complete"] = not self.missing_cases()
        roofline.judge(self.content)
        record.write(self.path, self.content)

    def open(self, lab: Lab) -> None:
        facts = lab.device.facts()
        model = self.content["device"].get("model")
        if model and model != facts["model"]:
            raise record.RecordError(
                f"{self.path} was measured on {model}, this is {facts['model']}: not mixed"
            )
        versions = record.versions()
        for peer in lab.peers.values():
            versions |= peer.versions
        if lab.device.name == "cuda":
            versions["cupy"] = str(lab.device.xp.__version__)
        if self.content["rows"]:
            refuse_other_versions(self.path, self.content["versions"], versions)
        self.content["device"], self.content["versions"] = facts, versions
        self.content["missing"] = lab.missing
        if not self.content["state_before"]:
            self.content["state_before"] = lab.device.state()
        self.content["planned"] = len(self.cases)
        self.write()  # a place that cannot be written to is known before the work

    def measure(self, tell: Tell = nothing, minutes: float | None = None) -> None:
        began = time.monotonic()
        with ExitStack() as stack:
            lab = open_lab(self.settings, stack)
            self.open(lab)
            self.measure_roofline(lab, LIMIT_TIMES)
            left = self.missing_cases()
            try:
                for number, case in enumerate(left):
                    if minutes and time.monotonic() - began > 60 * minutes:
                        break
                    tell(case, number, len(left))
                    self.content["rows"].append(measured(case, lab))
                    self.write()  # at once: what follows may be interrupted
                    lab.device.release()
                    if lab.device.shares:
                        self.measure_roofline(lab, 2)
                        self.write()
                self.measure_roofline(lab, LIMIT_TIMES)
            finally:
                self.content["state_after"] = lab.device.state()
                self.write()

    def measure_roofline(self, lab: Lab, times: int) -> None:
        """The best of all times in a run counts."""
        kinds = [kind for kind in KINDS if kind in {case.kind for case in self.cases}]
        new = roofline.measure(lab.device, kinds, times)
        self.content["roofline"] = roofline.merged(self.content["roofline"], new)


def refuse_other_versions(path: Path, old: dict[str, str], new: dict[str, str]) -> None:
    """Rows of two versions of a library are not mixed, nor rows with a peer and without."""
    changed = [
        f"{name} {old.get(name, 'not there')}, now {new.get(name, 'not there')}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    if changed:
        raise record.RecordError(f"{path} was measured with {'; '.join(changed)}: not mixed")


def faults(content: dict[str, Any]) -> list[str]:
    """What nobody may overlook: wrong results, and sides faster than the machine."""
    found = []
    for row in content["rows"]:
        if "failed" in row:
            found.append(f"{row['key']}: {row['failed']}")
        found += [f"{row['key']}: {name} {why}" for name, why in row.get("wrong", {}).items()]
        found += [f"{row['key']}: {flag}" for flag in row.get("flags", [])]
    return found


def all_peers(device: str) -> tuple[str, ...]:
    return tuple(KNOWN[device])
