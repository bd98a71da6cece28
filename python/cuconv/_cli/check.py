"""`cuconv check`: does everything that this machine can run compute what the reference computes?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click
import ml_dtypes
import numpy as np
from rich.console import Console
from rich.table import Table

import cuconv
from cuconv._cli import _check_cases as conv
from cuconv._cli import _check_layers as layers
from cuconv._cli._check_cases import ALL, REAL, Case, Operation
from cuconv._cli._device import open_device
from cuconv._cli._errors import CliError
from cuconv._cli._progress import progress_bar

SEED = 20240229
QUICK, FULL = 6, 48  # problems an operation; each takes its dtypes in turn
INTERRUPTED = 130


def operations() -> list[Operation]:
    found = []
    for name, dtypes, draw in (
        ("conv{}d", ALL, conv.forward),
        ("conv{}d_input_grad", ALL, conv.input_grad),
        ("conv{}d_weight_grad", ALL, conv.weight_grad),
        ("conv{}d_bias_grad", ALL, conv.bias_grad),
        ("conv_transpose{}d", ALL, conv.transposed),
        ("Conv{}dPlan", ALL, conv.planned),
        ("ConvTranspose{}dPlan", ALL, conv.planned_transposed),
        ("max_pool{}d", REAL, layers.max_pool),
        ("max_pool{}d_grad", REAL, layers.max_pool_grad),
        ("avg_pool{}d", ALL, layers.avg_pool),
        ("avg_pool{}d_grad", ALL, layers.avg_pool_grad),
    ):
        found += [Operation(name.format(r), dtypes, partial(draw, rank=r)) for r in (1, 2, 3)]
    return [
        *found,
        Operation("global_avg_pool", ALL, layers.global_avg_pool),
        Operation("relu", REAL, layers.relu),
        Operation("relu_grad", REAL, layers.relu_grad),
        Operation("sigmoid", REAL, layers.sigmoid),
        Operation("softmax", REAL, layers.softmax),
        Operation("inception_reduce", REAL, layers.inception_reduce),
        Operation("max_pool_project", REAL, layers.max_pool_project),
        Operation("Inception", REAL, layers.inception),
    ]


# ---- targets ----


@dataclass(frozen=True)
class Target:
    """A backend under test: how to select it, and how arrays get to it and back."""

    name: str
    label: str
    select: Callable[[], AbstractContextManager[Any]]
    to_device: Callable[[np.ndarray], Any] = np.asarray
    to_host: Callable[[Any], np.ndarray] = np.asarray


def target(name: str) -> Target:
    """Raises what selecting an unavailable backend raises."""
    if name == "cuda":
        device = open_device("cuda")
        return Target(name, device.label, nullcontext, device.to_device, device.to_host)
    with cuconv.use_backend(name):
        pass  # an emulated backend that was not built says so here
    label = "this CPU" if name == "numpy" else "the CUDA kernels on this CPU"
    return Target(name, label, partial(cuconv.use_backend, name))


def available_targets() -> list[Target]:
    found = []
    for name in ("numpy", "emulated", "cuda"):
        try:
            found.append(target(name))
        except (CliError, ImportError, cuconv.UnsupportedError, cuconv.CudaUnavailableError):
            continue
    return found


# ---- running ----


@dataclass
class Tally:
    """What became of one operation's problems on one target."""

    passed: int = 0
    unsupported: int = 0
    failures: list[str] = field(default_factory=list)


Tallies = dict[str, dict[str, Tally]]  # by operation, then by target


def difference(got: Any, want: Any, exact: bool) -> str:
    """What is wrong with a result; empty if nothing is."""
    if isinstance(want, (tuple, list)):
        if not isinstance(got, (tuple, list)) or len(got) != len(want):
            return f"expected {len(want)} arrays"
        parts = [difference(g, w, exact) for g, w in zip(got, want, strict=True)]
        return next((part for part in parts if part), "")
    if (got.shape, got.dtype) != (want.shape, want.dtype):
        return f"got {got.dtype}{list(got.shape)}, expected {want.dtype}{list(want.shape)}"
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    a, b = got.astype(wide), want.astype(wide)
    tolerance = 0.0
    if not exact:  # a few roundings of numbers of about 1
        tolerance = 8 * float(ml_dtypes.finfo(want.dtype).eps)
    with np.errstate(invalid="ignore"):
        close = np.abs(a - b) <= tolerance * np.maximum(np.abs(b), 1)
    wrong = ~(close | (a == b) | (np.isnan(a) & np.isnan(b)))
    if not wrong.any():
        return ""
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    first = f"first at {index}: got {a[index]}, expected {b[index]}"
    return f"{int(wrong.sum())} of {wrong.size} values differ, {first}"


def run_case(problem: Case, where: Target, tally: Tally) -> None:
    with cuconv.use_backend("reference"):
        want = problem.call(*problem.arrays)
    try:
        with where.select():
            got = problem.call(*(where.to_device(a) for a in problem.arrays))
            got = (
                [where.to_host(g) for g in got]
                if isinstance(want, (tuple, list))
                else where.to_host(got)
            )
    except cuconv.UnsupportedError:
        tally.unsupported += 1
        return
    except Exception as error:  # a self-test reports whatever goes wrong, and goes on
        tally.failures.append(f"{problem.text}: {type(error).__name__}: {error}")
        return
    wrong = difference(got, want, problem.exact)
    if wrong:
        tally.failures.append(f"{problem.text}: {wrong}")
    else:
        tally.passed += 1


def draw_cases(operation: Operation, count: int) -> Iterator[Case]:
    # Seeded by the name: an operation's problems do not depend on which others are checked.
    rng = np.random.default_rng([SEED, *operation.name.encode()])
    for i in range(count):
        yield operation.draw(rng, operation.dtypes[i % len(operation.dtypes)])


# ---- the command ----


@click.command(short_help="Compare everything with the reference; exit code 0 or 1.")
@click.option(
    "--backend",
    "names",
    multiple=True,
    type=click.Choice(["numpy", "emulated", "cuda"]),
    help="Check this one only (may be repeated).  [default: all that can run here]",
)
@click.option("--quick", is_flag=True, help=f"{QUICK} problems an operation instead of {FULL}.")
@click.pass_context
def check(context: click.Context, names: tuple[str, ...], quick: bool) -> None:
    """Compare every operation with the reference implementation, on drawn problems.

    Exit code 0: all agree. 1: something differs. 130: interrupted; what was checked is shown.

    \b
    Examples:
      cuconv check --quick
      cuconv check --backend cuda
    """
    targets = [target(name) for name in dict.fromkeys(names)] if names else available_targets()
    table: Tallies = {}
    count = QUICK if quick else FULL
    interrupted = False
    try:
        check_all(targets, count, table)
    except KeyboardInterrupt:
        interrupted = True
    report(targets, table, count)
    if interrupted:
        click.echo("cuconv: interrupted; the table shows what was checked", err=True)
        context.exit(INTERRUPTED)
    good = all(t.passed and not t.failures for t in totals(targets, table).values())
    context.exit(0 if good else 1)


def check_all(targets: list[Target], count: int, table: Tallies) -> None:
    """Fills `table`, operation by operation."""
    listed = operations()
    with progress_bar() as bar:
        task = bar.add_task("", total=len(listed) * len(targets) * count)
        for operation in listed:
            for where in targets:
                bar.update(task, description=f"{where.name}: {operation.name}")
                tally = table.setdefault(operation.name, {}).setdefault(where.name, Tally())
                for problem in draw_cases(operation, count):
                    run_case(problem, where, tally)
                    bar.advance(task)


def report(targets: list[Target], table: Tallies, count: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    shown = Table(
        title=f"Problems that agree with the reference (seed {SEED})", title_justify="left"
    )
    shown.add_column("operation")
    for where in targets:
        shown.add_column(where.name, justify="right")
    for operation, row in table.items():
        shown.add_row(operation, *(verdict(row.get(t.name)) for t in targets))
    console.print(shown)
    for operation, row in table.items():
        for name, tally in row.items():
            for text in tally.failures[:1]:
                console.print(f"{name}, {operation}, first failure: {text}", markup=False)
    for where in targets:
        total = totals(targets, table)[where.name]
        word = "[green]passed[/]" if total.passed else "[red]nothing checked[/]"
        if total.failures:
            word = "[red]FAILED[/]"
        tail = f", {total.unsupported} not supported" if total.unsupported else ""
        console.print(
            f"{where.name} ({where.label}): {word}; {total.passed} problems agree, "
            f"{len(total.failures)} differ{tail}"
        )


def totals(targets: list[Target], table: Tallies) -> dict[str, Tally]:
    """Each target's tallies, added up."""
    result = {where.name: Tally() for where in targets}
    for row in table.values():
        for name, tally in row.items():
            result[name].passed += tally.passed
            result[name].unsupported += tally.unsupported
            result[name].failures += tally.failures
    return result


def verdict(tally: Tally | None) -> str:
    if tally is None:
        return "not reached"
    total = tally.passed + tally.unsupported + len(tally.failures)
    if tally.failures:
        return f"[red]{len(tally.failures)} of {total} differ[/]"
    if tally.unsupported == total:
        return "[yellow]not supported[/]"
    if tally.unsupported:
        return f"[green]{tally.passed}[/] [yellow]({tally.unsupported} not supported)[/]"
    return f"[green]{tally.passed}[/]"
