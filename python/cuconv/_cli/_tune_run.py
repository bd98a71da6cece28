"""`cuconv tune run`: times problems before they are needed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
from click.core import ParameterSource

import cuconv
from cuconv import _answers, autotune
from cuconv import _arguments as arguments
from cuconv._answers import Entry
from cuconv._bench.layers import NAMES
from cuconv._cli import _tune_problems as problems
from cuconv._cli._device import Device, device_option, open_device
from cuconv._cli._errors import CliError
from cuconv._cli._progress import progress_bar
from cuconv._cli._tune_problems import Problem
from cuconv._cli._tune_table import show_entries

INTERRUPTED = 130
OF_ONE = ("x", "w", "stride", "padding", "dilation", "groups")  # options
OF_GROUP = ("batch",)


@dataclass(frozen=True)
class Outcome:
    """What became of a problem; neither entry nor failure where one algorithm alone can do it."""

    problem: Problem
    entry: Entry | None = None
    known: bool = False  # before
    failure: str = ""


@click.command(short_help="Time a convolution, or the layers of a network.")
@click.option("--x", metavar="N,C,H,W", help="Shape of the input; 1-D and 3-D likewise.")
@click.option("--w", metavar="K,C,R,S", help="Shape of the filters.")
@click.option("--stride", default="1", show_default=True, metavar="S", help="As 1, or 1,2.")
@click.option(
    "--padding",
    default="0",
    show_default=True,
    metavar="P",
    help="As 1; 1,2; 0:1,0:1 (before and after); or valid, same, same_lower, full.",
)
@click.option("--dilation", default="1", show_default=True, metavar="D", help="As 1, or 1,2.")
@click.option("--groups", default=1, show_default=True, help="Groups of channels.")
@click.option(
    "--group",
    type=click.Choice(list(NAMES)),
    help="Instead of one convolution: the layers of a network.",
)
@click.option("--batch", type=click.IntRange(1), help="Images.  [default: the network's own]")
@click.option(
    "--dtype",
    type=click.Choice([d.name for d in arguments.DTYPES]),
    default="float32",
    show_default=True,
)
@click.option("--layout", help="NHWC and its kin have channels last.  [default: first]")
@click.option(
    "--direction",
    "directions",
    type=click.Choice([*problems.DIRECTIONS, "all"]),
    multiple=True,
    default=("forward",),
    show_default=True,
    help="May be repeated.",
)
@click.option(
    "--precision", type=click.Choice(arguments.PRECISIONS), default="ieee", show_default=True
)
@click.option("--workspace-limit", type=click.IntRange(0), help="Most bytes of temporary memory.")
@device_option
@click.option(
    "--seconds",
    type=float,
    default=autotune.SECONDS,
    show_default=True,
    help="Most time of each algorithm.",
)
@click.option("--cold", is_flag=True, help="Empty the caches before each call.")
@click.option("--again", is_flag=True, help="Time also what is known.")
@click.pass_context
def run(
    context: click.Context,
    group: str | None,
    directions: tuple[str, ...],
    precision: str,
    workspace_limit: int | None,
    device_name: str,
    seconds: float,
    cold: bool,
    again: bool,
    **of_problem: Any,
) -> None:
    """Time the algorithms for a convolution, or for each layer of a group, and keep the answers.

    Calls with algo="autotune" of the same problem then take the fastest at once. Every answer is
    kept as soon as it is found: Ctrl-C loses the one that is being found, and what is known is not
    timed again.

    Exit code 0: all was timed. 1: something could not be. 130: interrupted.

    \b
    Example:
      cuconv tune run --x 8,64,56,56 --w 64,64,3,3 --padding 1 --direction all
      cuconv tune run --group resnet50 --batch 1 --device cpu
    """
    wrong = OF_GROUP if group is None else OF_ONE
    for name in wrong:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise CliError(f"--{name} does not go {'with' if group else 'without'} --group")
    wanted = problems.DIRECTIONS if "all" in directions else tuple(dict.fromkeys(directions))
    make = problems.one_problem if group is None else partial(problems.layer_problems, group)
    todo = list(make(directions=wanted, **of_problem))
    how = {"precision": precision, "workspace_limit": workspace_limit}
    device = open_device(device_name)
    try:
        asked = partial(autotune.asked, again, seconds, cold)
        with asked():
            pass
    except ValueError as error:
        raise CliError(f"--{error}") from None

    outcomes: list[Outcome] = []
    interrupted = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            for outcome in tuned(todo, device, how, asked):
                outcomes.append(outcome)
        except KeyboardInterrupt:
            interrupted = True
    failed = [outcome for outcome in outcomes if outcome.failure]
    if failed and len(todo) == 1:
        raise CliError(failed[0].failure)
    report(outcomes)
    for message in [f"{o.problem}: {o.failure}" for o in failed] + [str(w.message) for w in caught]:
        click.echo(f"cuconv: {' '.join(message.split())}", err=True)
    if interrupted:
        click.echo("cuconv: interrupted; what was timed is kept", err=True)
        context.exit(INTERRUPTED)
    context.exit(1 if failed else 0)


def tuned(
    todo: list[Problem], device: Device, how: dict[str, Any], asked: Any
) -> Iterator[Outcome]:
    with progress_bar() as bar:
        task = bar.add_task("", total=len(todo))
        for problem in todo:
            bar.update(task, description=str(problem))
            yield tune_one(problem, device, how, asked())
            bar.advance(task)


def tune_one(
    problem: Problem,
    device: Device,
    how: dict[str, Any],
    asked: AbstractContextManager[autotune.Asked],
) -> Outcome:
    try:
        with asked as found:
            problem.call(device, how)
    except (ValueError, TypeError, MemoryError, cuconv.UnsupportedError) as error:
        return Outcome(problem, failure=str(error) or type(error).__name__)
    for entry in found.found:
        return Outcome(problem, entry)
    for entry in found.known:
        return Outcome(problem, entry, known=True)
    return Outcome(problem)


def report(outcomes: list[Outcome]) -> None:
    entries = [outcome.entry for outcome in outcomes if outcome.entry]
    if entries:
        show_entries(entries, f"Answers in {_answers.cache_file()}")
    known = sum(outcome.known for outcome in outcomes)
    if known:
        click.echo(f"{known} of {len(entries)} known before; --again times them again")
    for outcome in outcomes:
        if outcome.entry is None and not outcome.failure:
            click.echo(f"{outcome.problem}: one algorithm alone can do this")
