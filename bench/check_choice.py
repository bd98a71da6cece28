"""How good is algo="auto" on the CPU: its choice beside the fastest algorithm, row by row.

    python bench/check_choice.py --group resnet50 --group vgg-a

Every algorithm that can do a layer of cuconv bench is timed, in turns, by the rules of
autotune (docs/autotune.md), and what `auto` chose is divided by the fastest. Layers are those of
one image, with smaller sides where they would take too long; channels and filters stay. A row
beyond 10 % is timed once more at the end, and the fastest of both times counts: on a busy machine
one bad moment is no miss. Beside other work threads of BLAS can take thirty times what they should,
every time: there, set OPENBLAS_NUM_THREADS=1, which is a question of its own. The record is written
after every row, so Ctrl-C keeps what there is.

Exit code 0: no row is beyond --factor. 1: some are. 130: interrupted.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

try:
    import click
    from rich.console import Console
    from rich.table import Table

    import cuconv
    from cuconv import config
    from cuconv._backends._cpu import threads
    from cuconv._bench.layers import NAMES
    from cuconv._bench.record import commit
    from cuconv._cli._progress import progress_bar
    from cuconv._cli._tune_problems import DIRECTIONS, Problem, layer_problems
    from cuconv._clocks import HostClock
    from cuconv._problem import conv_call
    from cuconv._timing import SECONDS, measure
except ImportError as missing:
    raise SystemExit(f"check_choice.py: needs cuconv with its extra cli ({missing})") from None

SCHEMA = 1
GROUPS = (
    "resnet50",
    "vgg-a",
    "googlenet",
    "alexnet",
    "convnext-tiny",
    "depthwise-sweep",
    "flashfftconv",
)
MOST_WORK = 150_000_000  # multiply-adds of a row
NEAR = 1.1
WORST = 10  # rows shown


@dataclass
class Row:
    """A layer, what each algorithm took, and what was chosen."""

    group: str
    direction: str
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    options: dict[str, Any]
    chosen: str
    variant: str
    seconds: dict[str, float]
    failed: dict[str, str]

    @property
    def best(self) -> str:
        return min(self.seconds, key=lambda name: self.seconds[name])

    @property
    def factor(self) -> float:
        """Infinite where the choice could not even be timed."""
        return self.seconds.get(self.chosen, math.inf) / self.seconds[self.best]


# ---- the layers ----


def shorter(problem: Problem) -> Problem:
    """With sides such that it has at most MOST_WORK multiply-adds, if a window allows."""
    call = conv_call(2, problem.dtype, problem.x_shape, problem.w_shape, **problem.options)
    of = call.problem
    work = math.prod(of.y_shape) * math.prod(of.w_shape[1:])
    if work <= MOST_WORK:
        return problem
    n, c, *sides = problem.x_shape
    scale = math.sqrt(MOST_WORK / work)
    reach = [d * (r - 1) + 1 for r, d in zip(problem.w_shape[2:], of.dilation[1:], strict=True)]
    cut = [min(size, max(r, round(size * scale))) for size, r in zip(sides, reach, strict=True)]
    return replace(problem, x_shape=(n, c, *cut))


def problems_of(groups: Iterable[str], directions: tuple[str, ...]) -> list[tuple[str, Problem]]:
    found, seen = [], set()
    for group in groups:
        for problem in layer_problems(group, directions, "float32", None, batch=1):
            short = shorter(problem)
            if repr(short) not in seen:
                seen.add(repr(short))
                found.append((group, short))
    return found


# ---- timing ----


def timed(group: str, problem: Problem, seconds: float) -> Row:
    """Every algorithm by an executor of its own, as a plan's calls are."""
    from cuconv._backends import host_backend
    from cuconv._conv import Convolution, conv_options

    backend, rng = host_backend(), np.random.default_rng(0)
    call = conv_call(2, problem.dtype, problem.x_shape, problem.w_shape, **problem.options)
    options = conv_options(problem.dtype, conjugate=problem.direction != "forward")
    convolution = Convolution(problem.direction, call, options)  # type: ignore[arg-type]
    shapes = {
        "forward": (call.x_shape, call.w_shape),
        "input_grad": (call.y_shape, call.w_shape),
        "weight_grad": (call.y_shape, call.x_shape),
    }[problem.direction]
    a, b = convolution.canonical(*(rng.random(s, np.float32) - np.float32(0.5) for s in shapes))
    out = backend.empty(convolution.result_shape, problem.dtype)
    executors = {
        c.algo: backend.conv(problem.direction, call.problem, replace(options, algo=c.algo))
        for c in backend.conv_candidates(problem.direction, call.problem, options)
        if c.supported
    }
    runs = {
        name: lambda executor=executor: convolution.apply(executor, a, b, None, out)
        for name, executor in executors.items()
    }
    measured = measure(runs, HostClock(), seconds)
    auto = backend.conv(problem.direction, call.problem, options)
    return Row(
        group,
        problem.direction,
        problem.x_shape,
        problem.w_shape,
        problem.options,
        auto.algo,
        auto.variant,
        measured.seconds,
        measured.failed,
    )


def measured_rows(todo: list[tuple[str, Problem]], seconds: float) -> Iterator[list[Row]]:
    """All so far, after each; at the end again those that seem to be misses."""
    rows: list[Row] = []
    with progress_bar() as bar:
        task = bar.add_task("", total=len(todo))
        for group, problem in todo:
            bar.update(task, description=str(problem))
            rows.append(timed(group, problem, seconds))
            bar.advance(task)
            yield rows
        missed = [number for number, row in enumerate(rows) if row.factor > NEAR]
        bar.update(task, description="misses again", total=len(missed), completed=0)
        for number in missed:
            again = timed(*todo[number], 2 * seconds).seconds
            old = rows[number].seconds
            for name in old.keys() & again.keys():
                old[name] = min(old[name], again[name])
            bar.advance(task)
            yield rows


# ---- the record ----


def environment() -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        "commit": commit(),
        "cpu": config.processor(),
        "cores": os.cpu_count(),
        "threads": threads.count(),
        "versions": {
            "cuconv": cuconv.__version__,
            "numpy": np.__version__,
            "blas": config.blas(),
        },
        "load_before": list(os.getloadavg()),
    }


def write(path: Path, record: dict[str, Any], rows: list[Row], complete: bool) -> None:
    from cuconv._atomic import replace_file

    listed = [{**asdict(row), "best": row.best, "factor": round(row.factor, 4)} for row in rows]
    whole = {**record, "load_after": list(os.getloadavg()), "complete": complete, "rows": listed}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(whole, indent=1) + "\n").encode())
    except OSError as error:
        raise click.ClickException(f"cannot write the record {path}: {error.strerror}") from None


def show(rows: list[Row], factor: float) -> None:
    ranked = sorted(rows, key=lambda row: -row.factor)
    near = sum(row.factor <= NEAR for row in rows)
    within = sum(row.factor <= factor for row in rows)
    right = sum(row.chosen == row.best for row in rows)
    mean = math.exp(sum(math.log(row.factor) for row in rows) / len(rows))
    click.echo(
        f"{len(rows)} rows: the fastest was chosen in {right}, one within 10 % of it in {near}, "
        f"within {factor:g} times in {within}; geometric mean of the factors {mean:.3f}"
    )
    table = Table(title="The worst", title_justify="left")
    for name in ("layer", "direction", "chosen", "fastest", "factor"):
        table.add_column(name, justify="right" if name == "factor" else "left")
    for row in ranked[:WORST]:
        x, w = ("x".join(map(str, shape)) for shape in (row.x_shape, row.w_shape))
        stride = row.options["stride"]
        steps = f" s{stride[0]}x{stride[1]}" if max(stride) > 1 else ""
        sides = [f"{n} {row.seconds.get(n, math.inf) * 1e3:.3g} ms" for n in (row.chosen, row.best)]
        table.add_row(f"{x} * {w}{steps}", row.direction, *sides, f"{row.factor:.2f}")
    Console(highlight=False, width=120).print(table)


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--group",
    "groups",
    type=click.Choice(list(NAMES)),
    multiple=True,
    default=GROUPS,
    help="Of the layers of cuconv bench; repeat.",
)
@click.option(
    "--direction",
    "directions",
    multiple=True,
    type=click.Choice(DIRECTIONS),
    default=("forward",),
    show_default=True,
)
@click.option("--limit", type=click.IntRange(1), help="So many rows, drawn (seed 0).")
@click.option(
    "--seconds",
    type=click.FloatRange(1e-3, 60),
    default=SECONDS,
    show_default=True,
    help="Of an algorithm.",
)
@click.option("--factor", type=float, default=2.0, show_default=True, help="What a miss is.")
@click.option("--out", type=click.Path(path_type=Path), help="Where the record goes (JSON).")
@click.pass_context
def main(
    context: click.Context,
    groups: tuple[str, ...],
    directions: tuple[str, ...],
    limit: int | None,
    seconds: float,
    factor: float,
    out: Path | None,
) -> None:
    todo = problems_of(groups, directions)
    if limit is not None and limit < len(todo):
        chosen = sorted(random.Random(0).sample(range(len(todo)), limit))
        todo = [todo[number] for number in chosen]
    record, rows, complete = environment(), [], False
    try:
        for rows in measured_rows(todo, seconds):
            if out is not None:
                write(out, record, rows, False)
        complete = True
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
    if not rows:
        context.exit(130)
    if out is not None:
        write(out, record, rows, complete)
    show(rows, factor)
    misses = any(row.factor > factor for row in rows)
    context.exit(130 if not complete else 1 if misses else 0)


if __name__ == "__main__":
    main()
