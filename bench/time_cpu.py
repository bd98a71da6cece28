"""Times cuconv on the CPU beside PyTorch, SciPy and OpenCV, pair by pair in one run.

    python bench/time_cpu.py --group networks --batch 1

Every result is compared with one in float64 before it is timed. Milliseconds are of this run and
this machine; what can be kept is the ratio: a peer's time over that of cuconv's plan, taken round
by round, above 1 where cuconv is the faster one. The record is written after every row, so Ctrl-C
keeps what there is.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import random
import shlex
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _cpu_cases import GROUPS, Case, cases_of, drawn
from _peers import (
    Call,
    Peers,
    Sides,
    find_peers,
    image_sides,
    installed,
    torch_conv,
    torch_pool,
    torch_relu,
)
from _timing import HERE, fail, output_of

try:
    import click
    from _cpu_report import draw_all, show, wide_console
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    import cuconv
    from cuconv import config
except ImportError as missing:
    fail(f"needs cuconv with its extra cli ({missing})")

SCHEMA = 1
ROOT = HERE.parent
PLAN, ONE_SHOT, FUNCTION = "cuconv plan", "cuconv one-shot", "cuconv"  # PLAN or FUNCTION first
MOST_ERROR = {"conv": 1e-4, "avg_pool2d": 1e-6, "max_pool2d": 0.0, "relu": 0.0}
ROUND_SECONDS = 0.02  # a side's turn is at least so long, whatever a call takes
FEWEST_ROUNDS, MOST_ROUNDS = 5, 200
FEW_ROUNDS_OF_SLOW = 3
# Seconds between sides: BLAS's threads and OpenMP's spin for some hundredths after their work, and
# would take a core from whoever comes next.
PAUSE = 0.1
RESAMPLES = 2000
BUSY = 0.7  # load average
METHOD = (
    "A round times every side, in random order, each by the mean of as many calls as fill 20 ms. "
    "Threads of BLAS and PyTorch spin after their work, so a tenth of a second passes between "
    "sides; PyTorch keeps its defaults. A ratio is the median over rounds of the other side's over "
    "cuconv's plan (its function, where there is no plan), its interval a 95% bootstrap of that "
    "median; `ratio` is beside the peer of smallest median. Convolutions and pools allocate their "
    "results, cuconv's and others'; cuconv's relu has out=. The plan keeps its filters; PyTorch's "
    "function takes them anew. `peak_bytes` is what tracemalloc sees of a new plan's first call "
    "with out=, `kept_bytes` what the plan holds after its second."
)


class WrongResult(Exception):
    """A side is too far from the result in float64."""


@dataclass
class Bench:
    """A case made ready: what is timed, what it must equal, and what a record says of it."""

    sides: Sides
    exact: np.ndarray
    checked_against: str
    facts: dict[str, Any]
    skipped: dict[str, str] = field(default_factory=dict)


def ready(case: Case, peers: Peers) -> Bench:
    if case.of == "conv":
        return ready_conv(case, peers)
    return ready_relu(case, peers) if case.of == "relu" else ready_pool(case, peers)


def ready_conv(case: Case, peers: Peers) -> Bench:
    x, w = drawn(case)
    plan = plan_of(case)
    sides: Sides = {
        PLAN: lambda: plan(x, w),
        ONE_SHOT: lambda: cuconv.conv2d(x, w, **case.options),
    }
    if case.group == "images":
        others, skipped = image_sides(peers, x[0, 0], w[0, 0])
    else:
        others, skipped = torch_conv(peers, x, w, case.options), {}
    facts = {
        "algo": plan.algo,
        "variant": plan.variant,
        "workspace_bytes": plan.workspace_bytes,
        **conv_memory(case, x, w),
    }
    return Bench(sides | others, *exact_conv(case, peers, x, w), facts, skipped)


def plan_of(case: Case) -> cuconv.Conv2dPlan:
    return cuconv.Conv2dPlan(case.x_shape, case.w_shape, "float32", device="cpu", **case.options)


def exact_conv(case: Case, peers: Peers, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, str]:
    """In float64. PyTorch would unfold a large image into many gigabytes: SciPy does those."""
    x, w = x.astype("f8"), w.astype("f8")
    if case.group == "images" and peers.scipy:
        image = peers.scipy.signal.oaconvolve(x[0, 0], w[0, 0, ::-1, ::-1], mode="same")
        return image[None, None], "scipy.signal.oaconvolve in float64"
    if case.group != "images" and peers.torch:
        conv2d, tensors = peers.torch.nn.functional.conv2d, map(peers.torch.from_numpy, (x, w))
        return conv2d(*tensors, **case.options).numpy(), "PyTorch in float64"
    return cuconv.conv2d(x, w, algo="direct", **case.options), "cuconv direct in float64"


def ready_pool(case: Case, peers: Peers) -> Bench:
    x, _ = drawn(case)
    pool = getattr(cuconv, case.of)
    out = pool(x, *case.window)
    if peers.torch:
        theirs = getattr(peers.torch.nn.functional, case.of)
        exact = theirs(peers.torch.from_numpy(x.astype("f8")), *case.window).numpy()
    else:
        exact = pool(x.astype("f8"), *case.window)
    facts = {**no_plan(case), "peak_bytes": peak_bytes(lambda: pool(x, *case.window, out=out))}
    sides: Sides = {FUNCTION: lambda: pool(x, *case.window)}
    others = torch_pool(peers, case.of, x, case.window)
    who = "PyTorch in float64" if peers.torch else "cuconv in float64"
    return Bench(sides | others, exact, who, facts)


def ready_relu(case: Case, peers: Peers) -> Bench:
    x, _ = drawn(case)
    out = np.empty_like(x)
    facts = {**no_plan(case), "peak_bytes": peak_bytes(lambda: cuconv.relu(x, out=out))}
    sides: Sides = {FUNCTION: lambda: cuconv.relu(x, out=out)}
    exact = np.maximum(x.astype("f8"), 0)
    return Bench(sides | torch_relu(peers, x), exact, "NumPy in float64", facts)


def no_plan(case: Case) -> dict[str, Any]:
    return {"algo": case.of, "variant": "", "workspace_bytes": None, "kept_bytes": None}


def peak_bytes(call: Call) -> int:
    """Most memory that NumPy and Python held at a time because of a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def conv_memory(case: Case, x: np.ndarray, w: np.ndarray) -> dict[str, int]:
    """Of a new plan, because one that has been called has its buffers already."""
    plan = plan_of(case)
    out = plan(x, w)  # what the process makes once is made
    plan = plan_of(case)
    tracemalloc.start()
    try:
        plan(x, w, out=out)
        peak = tracemalloc.get_traced_memory()[1]
        plan(x, w, out=out)  # from the second call on the filters are kept
        return {"peak_bytes": peak, "kept_bytes": tracemalloc.get_traced_memory()[0]}
    finally:
        tracemalloc.stop()


def errors(case: Case, bench: Bench) -> dict[str, float]:
    """Each side's largest error relative to the largest output, or WrongResult."""
    found = {}
    for name, call in bench.sides.items():
        got = np.asarray(call())
        found[name] = relative_error(got.reshape(bench.exact.shape), bench.exact)
        if not found[name] <= MOST_ERROR[case.of]:
            raise WrongResult(
                f"{name} is off by {found[name]:.2g} of the largest output, beside "
                f"{bench.checked_against}; at most {MOST_ERROR[case.of]:.0e} is taken"
            )
    return found


def relative_error(got: np.ndarray, exact: np.ndarray) -> float:
    """One image at a time: differences in float64 are large. NaN stays NaN."""
    largest = max(float(np.max(np.abs(exact))), 1e-300)
    worst = [np.max(np.abs(a - b)) for a, b in zip(got, exact, strict=True)]
    return float(np.max(worst)) / largest


@dataclass(frozen=True)
class Turn:
    """How often a side is called in a round, and in how many rounds it takes part."""

    calls: int
    rounds: int


def turn_of(call: Call, seconds: float) -> Turn:
    """Of a side that has been called before. One that takes longer than it may gets few rounds."""
    once = max(milliseconds(call, 1) / 1e3, 1e-7)
    if once > seconds:
        return Turn(1, FEW_ROUNDS_OF_SLOW)
    once = max(milliseconds(call, 1) / 1e3, 1e-7)
    calls = max(1, math.ceil(min(ROUND_SECONDS, seconds) / once))
    rounds = math.ceil(seconds / (calls * once))
    return Turn(calls, min(MOST_ROUNDS, max(FEWEST_ROUNDS, rounds)))


def timed(sides: Sides, seconds: float) -> tuple[dict[str, Turn], dict[str, list[float]]]:
    """Milliseconds a call, round by round."""
    turns = {name: turn_of(call, seconds) for name, call in sides.items()}
    found: dict[str, list[float]] = {name: [] for name in sides}
    order = random.Random(0)
    for number in range(max(turn.rounds for turn in turns.values())):
        present = [name for name in sides if number < turns[name].rounds]
        order.shuffle(present)
        for name in present:
            time.sleep(PAUSE)
            found[name].append(milliseconds(sides[name], turns[name].calls))
    return turns, found


def milliseconds(call: Call, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls * 1e3


def ratio_of(theirs: list[float], ours: list[float]) -> dict[str, Any]:
    """Of rounds that both took part in."""
    both = min(len(theirs), len(ours))
    ratios = np.array(theirs[:both]) / np.array(ours[:both])
    draws = np.random.default_rng(0).integers(0, both, (RESAMPLES, both))
    low, high = np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))
    return {"ratio": float(np.median(ratios)), "interval": [float(low), float(high)]}


def measured(case: Case, peers: Peers, seconds: float) -> dict[str, Any]:
    """A row of the record; one with `failed` where a result is wrong."""
    row = {**asdict(case), "plain_3x3": case.plain_3x3}
    try:
        bench = ready(case, peers)
        row |= {**bench.facts, "checked_against": bench.checked_against, "skipped": bench.skipped}
        row["errors"] = errors(case, bench)
    except (WrongResult, MemoryError, RuntimeError) as error:
        return row | {"failed": str(error) or type(error).__name__}
    turns, found = timed(bench.sides, seconds)
    row["sides"] = {
        name: {"ms": statistics.median(times), "best_ms": min(times), **asdict(turns[name])}
        for name, times in found.items()
    }
    row["ours"], *others = found
    row["ratios"] = {name: ratio_of(found[name], found[row["ours"]]) for name in others}
    return row | beside_fastest(row)


def beside_fastest(row: dict[str, Any]) -> dict[str, Any]:
    others = [name for name in row["ratios"] if name != ONE_SHOT]
    if not others:
        return {"beside": None, "ratio": None, "interval": None}
    fastest = min(others, key=lambda name: row["sides"][name]["ms"])
    return {"beside": fastest, **row["ratios"][fastest]}


def environment(peers: Peers) -> dict[str, Any]:
    changed = "+changes" if output_of("git", "status", "--porcelain", "-uno") else ""
    commit = output_of("git", "rev-parse", "HEAD")
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        "commit": os.environ.get("CUCONV_COMMIT") or (commit + changed if commit else "unknown"),
        "command": shlex.join(["python", "bench/time_cpu.py", *map(without_folders, sys.argv[1:])]),
        "method": METHOD,
        "cpu": config.processor(),
        "cores": os.cpu_count(),
        "threads": peers.threads,
        "versions": {
            "python": sys.version.split()[0],
            "cuconv": cuconv.__version__,
            "numpy": np.__version__,
            "blas": config.blas(),
            **peers.versions(),
        },
        "load_before": load_average(),
        "load_after": None,
        "complete": False,
        "rows": [],
    }


def without_folders(argument: str) -> str:
    """Folders of this machine are nobody's business; those of the repository stay."""
    option, equals, value = argument.rpartition("=")
    path = Path(value)
    if not path.is_absolute():
        return argument
    inside = path.is_relative_to(ROOT)
    return option + equals + (str(path.relative_to(ROOT)) if inside else path.name)


def load_average() -> list[float] | None:
    return [round(n, 2) for n in os.getloadavg()] if hasattr(os, "getloadavg") else None


def warn_of_load(load: list[float] | None) -> None:
    """Threads that wait for each other, as PyTorch's do, lose most to a busy core: a ratio taken
    beside other work can be many times too good for cuconv."""
    if load and load[0] > BUSY:
        click.echo(
            f"load average {load[0]}: other work runs here, which slows PyTorch many times more "
            "than cuconv; such ratios are not to be kept",
            err=True,
        )


def write(path: Path, record: dict[str, Any]) -> None:
    """At once or not at all."""
    record["load_after"] = load_average()
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise click.ClickException(f"cannot write the record {path}: {error.strerror}") from None


def unused_path() -> Path:
    """A record of the same day stays."""
    day = datetime.date.today().isoformat()
    names = (f"cpu-{day}{f'-{n}' if n > 1 else ''}.json" for n in range(1, 10_000))
    return next(p for p in (HERE / "results" / name for name in names) if not p.exists())


def measure_all(
    cases: list[Case], peers: Peers, seconds: float, keep: Callable[[dict[str, Any]], None]
) -> bool:
    """Whether every case was measured; Ctrl-C stops between two that are kept."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    quiet = not console.is_terminal
    columns = (*columns, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("", total=len(cases))
        try:
            for case in cases:
                bar.update(task, description=str(case))
                keep(measured(case, peers, seconds))
                bar.advance(task)
        except KeyboardInterrupt:
            return False
    return True


def limit_threads(threads: int, stack: ExitStack, say: Callable[[str], None]) -> None:
    threadpoolctl = installed("threadpoolctl")
    if threadpoolctl is None:
        say("threadpoolctl is not installed: cuconv and BLAS use what threads they find")
    else:
        np.ones((2, 2)) @ np.ones((2, 2))
        stack.enter_context(threadpoolctl.threadpool_limits(threads))


POSITIVE = click.IntRange(min=1)


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--group",
    "groups",
    type=click.Choice([*GROUPS, "all"]),
    multiple=True,
    default=["all"],
    show_default=True,
    help="What to time; can be given several times.",
)
@click.option(
    "--batch",
    "batches",
    type=POSITIVE,
    multiple=True,
    default=[1, 8],
    show_default=True,
    help="Images at a time; can be given several times.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Time for each side of a row.",
)
@click.option("--limit", type=POSITIVE, help="Rows of each group; all unless given.")
@click.option(
    "--threads", type=POSITIVE, default=2, show_default=True, help="For cuconv and for each peer."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The record, replaced if there is one; a new bench/results/cpu-DATE.json unless given.",
)
@click.option(
    "--pictures",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder for bar charts of the ratios, cpu-GROUP.png.",
)
def main(
    groups: tuple[str, ...],
    batches: tuple[int, ...],
    seconds: float,
    limit: int | None,
    threads: int,
    out: Path | None,
    pictures: Path | None,
) -> None:
    chosen = [group for group in GROUPS if group in groups or "all" in groups]
    cases = [case for group in chosen for case in cases_of(group, list(batches), limit)]
    path = out or unused_path()
    with ExitStack() as stack:
        peers = find_peers(threads, stack, lambda line: click.echo(line, err=True))
        limit_threads(threads, stack, lambda line: click.echo(line, err=True))
        record = environment(peers)
        warn_of_load(record["load_before"])
        write(path, record)  # a place that cannot be written to is known before the work

        def keep(row: dict[str, Any]) -> None:
            record["rows"].append(row)
            write(path, record)

        record["complete"] = measure_all(cases, peers, seconds, keep)
    write(path, record)
    show(wide_console(), record["rows"])
    if pictures:
        draw_all(pictures, record["rows"])
    click.echo(f"record: {path}", err=True)
    if not record["complete"]:
        click.echo(f"stopped after {len(record['rows'])} of {len(cases)} rows", err=True)
        raise SystemExit(130)


if __name__ == "__main__":
    main()
