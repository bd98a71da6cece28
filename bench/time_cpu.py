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
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
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
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Table

    import cuconv
    from cuconv import config
except ImportError as missing:
    fail(f"needs cuconv with its extra cli ({missing})")

SCHEMA = 1
ROOT = HERE.parent
GROUPS = ("networks", "images", "depthwise", "pooling")
NETWORKS = {  # group in layers.json: how its rows are called here, and which of them
    "lavin_winograd_vgg_e": ("VGG-16", ""),
    "resnet50_v1_5": ("ResNet-50", ""),
    "googlenet_v1": ("GoogLeNet", "3a/"),
    "alexnet_owt": ("AlexNet", ""),
}
DEPTHWISE = [(64, 56, 3), (96, 56, 7), (384, 14, 7), (64, 32, 31), (384, 14, 31)]
IMAGE, IMAGE_TAPS = 2048, (3, 15, 63)
POOLED = [(64, 112), (192, 28)]  # channels, side
WINDOWS = [  # function, window, stride, padding
    ("max_pool2d", (3, 2, 1)),
    ("max_pool2d", (3, 1, 1)),
    ("max_pool2d", (2, 2, 0)),
    ("avg_pool2d", (3, 1, 1)),
    ("relu", ()),
]
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


@dataclass(frozen=True)
class Case:
    group: str
    name: str
    of: str  # "conv", or the function of cuconv
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict, hash=False)  # of a convolution
    window: tuple[int, ...] = ()  # of a pool

    def __str__(self) -> str:
        return f"{self.name} n{self.x_shape[0]}"

    @property
    def plain_3x3(self) -> bool:
        """What Winograd's algorithm is for."""
        stride = self.options.get("stride", 1)
        return self.of == "conv" and self.w_shape[2:] == (3, 3) and stride in (1, (1, 1))


@dataclass
class Bench:
    """A case made ready: what is timed, what it must equal, and what a record says of it."""

    sides: Sides
    exact: np.ndarray
    checked_against: str
    facts: dict[str, Any]
    skipped: dict[str, str] = field(default_factory=dict)


def network_cases(batch: int) -> Iterator[Case]:
    data = json.loads((HERE / "data" / "layers.json").read_text(encoding="utf-8"))
    rows_of = {group["name"]: group["rows"] for group in data["groups"]}
    for group, (network, prefix) in NETWORKS.items():
        seen = set()
        for row in rows_of[group]:
            case = network_case(network, batch, row)
            if row.get("id", "").startswith(prefix) and case.name not in seen:
                seen.add(case.name)
                yield case


def network_case(network: str, batch: int, row: dict[str, Any]) -> Case:
    x, w = (batch, *(row[n] for n in "CHW")), (row["K"], row["C"], row["R"], row["S"])
    pairs = {"stride": "stride", "padding": "pad", "dilation": "dil"}
    options = {name: (row[f"{key}_h"], row[f"{key}_w"]) for name, key in pairs.items()}
    name = f"{network} {w[1]}x{x[2]}x{x[3]} {w[0]}x{w[2]}x{w[3]}"
    name += f"/{row['stride_h']}" if row["stride_h"] > 1 else ""
    return Case("networks", name, "conv", x, w, options)


def image_cases(batch: int) -> Iterator[Case]:
    """One image, whatever the batch."""
    for taps in IMAGE_TAPS:
        shapes = (1, 1, IMAGE, IMAGE), (1, 1, taps, taps)
        name = f"image {IMAGE}x{IMAGE} {taps}x{taps}"
        yield Case("images", name, "conv", *shapes, {"padding": taps // 2})


def depthwise_cases(batch: int) -> Iterator[Case]:
    for c, side, taps in DEPTHWISE:
        shapes = (batch, c, side, side), (c, 1, taps, taps)
        name = f"depthwise {c}x{side}x{side} {taps}x{taps}"
        yield Case("depthwise", name, "conv", *shapes, {"padding": taps // 2, "groups": c})


def pooling_cases(batch: int) -> Iterator[Case]:
    for c, side in POOLED:
        for function, window in WINDOWS:
            words = f" {window[0]}x{window[0]}/{window[1]}" if window else ""
            name = f"{function}{words} {c}x{side}x{side}"
            yield Case("pooling", name, function, (batch, c, side, side), window=window)


CASES = {
    "networks": network_cases,
    "images": image_cases,
    "depthwise": depthwise_cases,
    "pooling": pooling_cases,
}


def cases_of(group: str, batches: list[int], limit: int | None) -> list[Case]:
    """The batches of a layer lie together, so that a limit or Ctrl-C leaves whole layers."""
    batches = [1] if group == "images" else batches
    by_batch = [list(CASES[group](batch)) for batch in batches]
    return [case for row in zip(*by_batch, strict=True) for case in row][:limit]


def drawn(case: Case) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(case.x_shape, np.float32)
    return x, rng.standard_normal(case.w_shape, np.float32)


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


def wide_console() -> Console:
    """A file or pipe has no width that a table must fit into."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def show(console: Console, rows: list[dict[str, Any]]) -> None:
    for group in GROUPS:
        if mine := [row for row in rows if row["group"] == group]:
            console.print(table(group, mine))
            for line in summary(mine):
                console.print(line, highlight=False)


def label(row: dict[str, Any]) -> str:
    return f"{row['name']} n{row['x_shape'][0]}"


def table(group: str, rows: list[dict[str, Any]]) -> Table:
    found = Table("row", title=group)
    for name in ("ms", "beside ms", "ratio"):
        found.add_column(name, justify="right", no_wrap=True)
    found.add_column("beside")
    found.add_column("variant")
    for row in rows:
        found.add_row(label(row), *cells(row))
    return found


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    if "failed" in row:
        return "", "", "failed", row["failed"], row.get("variant", "")
    ours = f"{row['sides'][row['ours']]['ms']:.3f}"
    if row["ratio"] is None:
        return ours, "", "", "nothing installed", row["variant"]
    low, high = row["interval"]
    theirs = f"{row['sides'][row['beside']]['ms']:.3f}"
    ratio = f"{row['ratio']:.2f} ({low:.2f}-{high:.2f})"
    return ours, theirs, ratio, row["beside"], row["variant"] or row["algo"]


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """Geometric means, the worst row, and what failed."""
    lines = []
    good = [row for row in rows if row.get("ratio")]
    for words, some in [("all rows", good), ("3x3 stride 1", [r for r in good if r["plain_3x3"]])]:
        if some:
            mean = statistics.geometric_mean(row["ratio"] for row in some)
            lines.append(f"  geometric mean of {words}: {mean:.2f} ({len(some)} rows)")
    if good:
        worst = min(good, key=lambda row: row["ratio"])
        lost = sum(row["ratio"] < 1 for row in good)
        lines.append(f"  worst: {worst['ratio']:.2f}, {label(worst)}; slower in {lost} rows")
    if failed := [label(row) for row in rows if "failed" in row]:
        lines.append(f"  failed: {', '.join(failed)}")
    return lines


def draw_all(folder: Path, rows: list[dict[str, Any]]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for group in GROUPS:
            if mine := [row for row in rows if row["group"] == group and row.get("ratio")]:
                draw(folder / f"cpu-{group}.png", group, mine)
    except OSError as error:
        raise click.ClickException(f"cannot write pictures to {folder}: {error.strerror}") from None


def draw(path: Path, group: str, rows: list[dict[str, Any]]) -> None:
    """Bars start at 1: a loss is as long to the left as the same gain is to the right."""
    from matplotlib.figure import Figure

    rows = sorted(rows, key=lambda row: row["ratio"])
    families = sorted({row["algo"] for row in rows})
    figure = Figure(figsize=(9, 1.6 + 0.24 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for number, family in enumerate(families):
        some = [(at, row) for at, row in enumerate(rows) if row["algo"] == family]
        widths = [row["ratio"] - 1 for _, row in some]
        axes.barh([at for at, _ in some], widths, left=1, color=f"C{number}", label=family)
    for at, row in enumerate(rows):
        axes.plot(row["interval"], (at, at), color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{label(r)}   {r['ratio']:.2f}" for r in rows], fontsize=8)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    finish(axes, group, rows)
    figure.savefig(path, dpi=130)


def finish(axes: Any, group: str, rows: list[dict[str, Any]]) -> None:
    """As far to the left of 1 as to the right, so that no side looks better than it is."""
    reach = 1.15 * max(max(row["interval"][1], 1 / row["interval"][0]) for row in rows)
    axes.set_xscale("log")
    axes.set_xlim(1 / reach, reach)
    ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 5, 10, 20) if 1 / reach < t < reach]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.axvline(1, color="black", linewidth=1)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("time of the fastest peer / time of cuconv: right of 1 cuconv is faster")
    axes.set_title(f"CPU, float32: {group}", fontsize=10)
    axes.legend(title="cuconv's algorithm", fontsize=8, loc="lower right")


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
