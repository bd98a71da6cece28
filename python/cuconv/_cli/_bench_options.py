"""What `cuconv bench run` and `sweep` have in common: options, the record's place, the ending."""

from __future__ import annotations

import datetime
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

import cuconv
from cuconv._backends import cuda, current_choice
from cuconv._bench import roofline
from cuconv._bench.cases import DIRECTIONS, KINDS, LAYOUTS, Case, Choice
from cuconv._bench.peers import KNOWN
from cuconv._bench.run import Run, faults
from cuconv._bench.settings import Settings
from cuconv._bench.sides import ALGOS
from cuconv._cli._device import device_option
from cuconv._cli._errors import CliError
from cuconv._cli._progress import progress_bar

INTERRUPTED = 130
QUICK_SECONDS, QUICK_ROUNDS = 0.05, 6
SECONDS, ROUNDS = 1.0, 9
CPU_KINDS = ("float32", "float16", "bfloat16", "float64")
FILE = click.Path(dir_okay=False, path_type=Path)
POSITIVE = click.IntRange(min=1)


class Amount(click.FloatRange):
    """A positive number of seconds or minutes. FloatRange lets NaN pass, and infinity."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: Any, context: Any) -> float:
        found = float(super().convert(value, param, context))
        if not math.isfinite(found):
            self.fail(f"{value!r} is no amount of time", param, context)
        return found


Decorator = Callable[[Any], Any]


def several(name: str, dest: str, choices: Sequence[str], what: str) -> Decorator:
    return click.option(
        name, dest, type=click.Choice(list(choices)), multiple=True, help=f"{what} (repeatable)."
    )


def how_options(function: Any) -> Any:
    """Options of what is timed how: the first written is the first shown."""
    options = [
        device_option,
        several("--dtype", "kinds", list(KINDS), "Element type; tf32 is float32 in that precision"),
        several("--direction", "directions", DIRECTIONS, "What to compute"),
        several("--layout", "layouts", LAYOUTS, "Order of axes"),
        several(
            "--peer",
            "peers",
            [*dict.fromkeys(name for known in KNOWN.values() for name in known), "none"],
            "Beside whom; all that are installed unless given",
        ),
        click.option(
            "--algo",
            "algos",
            multiple=True,
            help="Family, autotune, or a GPU kernel variant by name (repeatable); ratios are "
            "of the first.  [default: auto]",
        ),
        click.option(
            "--seconds",
            type=Amount(),
            help=f"Time for each side of a row.  [default: {SECONDS:g}]",
        ),
        click.option(
            "--threads", type=POSITIVE, default=2, show_default=True,
            help="For cuconv and for each peer, on the CPU.",
        ),
        click.option(
            "--cold/--warm", default=True, show_default=True,
            help="Whether operands rotate so that no cache holds them.",
        ),
        click.option(
            "--cudnn-heuristics", "heuristics", is_flag=True,
            help="Let cuDNN choose without trying (PyTorch's cudnn.benchmark off).",
        ),
        click.option("--quick", is_flag=True, help="A first look: few layers, little time."),
        click.option(
            "--out",
            type=FILE,
            help="The record.  [default: cuconv-bench-DEVICE-DATE.json, cuconv-sweep- of a sweep]",
        ),
        click.option(
            "--resume", type=FILE, help="Go on with an unfinished record, as it was begun."
        ),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def settings_for(
    choice: Choice,
    device: str,
    peers: tuple[str, ...],
    algos: tuple[str, ...],
    seconds: float | None,
    threads: int,
    cold: bool,
    heuristics: bool,
    quick: bool,
) -> Settings:
    return Settings(
        choice,
        device,
        threads,
        peers_of(tuple(dict.fromkeys(peers)), device),
        algos_of(tuple(dict.fromkeys(algos)), device),
        seconds or (QUICK_SECONDS if quick else SECONDS),
        QUICK_ROUNDS if quick else ROUNDS,
        cold,
        heuristics,
    )


def device_of(name: str) -> str:
    if current_choice().name not in ("numpy", "cuda"):
        raise CliError(
            f"the backend {current_choice().name!r} is chosen by CUCONV_BACKEND: it is for tests, "
            "times of it mean nothing"
        )
    if name == "auto":
        return "cuda" if cuconv.is_cuda_available() else "cpu"
    if name == "cuda" and not cuconv.is_cuda_available():
        raise CliError("--device cuda: cuconv cannot use a GPU here; `cuconv info` says why")
    return name


def peers_of(names: tuple[str, ...], device: str) -> tuple[str, ...]:
    if not names:
        return tuple(KNOWN[device])
    if "none" in names:
        if len(names) > 1:
            raise CliError("--peer none stands alone")
        return ()
    if wrong := [name for name in names if name not in KNOWN[device]]:
        known = ", ".join(KNOWN[device])
        raise CliError(f"--peer {wrong[0]} is none of the {device}: there are {known}")
    return names


def algos_of(names: tuple[str, ...], device: str) -> tuple[str, ...]:
    known = list(ALGOS)
    if device == "cuda":
        known += sorted({name for name, *_ in cuda.module().conv_variants()})
    if wrong := [name for name in names if name not in known]:
        raise CliError(f"--algo {wrong[0]}: there are {', '.join(known)}")
    return names or ("auto",)


def kinds_of(names: tuple[str, ...], device: str) -> tuple[str, ...]:
    if device == "cpu" and (wrong := [name for name in names if name not in CPU_KINDS]):
        raise CliError(f"--dtype {wrong[0]} is of tensor cores: the CPU has {', '.join(CPU_KINDS)}")
    return names


def new_path(out: Path | None, device: str, purpose: str) -> Path:
    """A record that is there stays."""
    if out is None:
        word = "bench" if purpose == "run" else "sweep"
        day = f"cuconv-{word}-{device}-{datetime.date.today().isoformat()}"
        names = (f"{day}{f'-{n}' if n > 1 else ''}.json" for n in range(1, 10_000))
        return next(path for path in map(Path, names) if not path.exists())
    if out.exists():
        raise CliError(f"{out} exists: go on with it by --resume, or name another file")
    return out


def resumed(context: click.Context, path: Path, allowed: tuple[str, ...] = ()) -> Run:
    """The run or sweep of a record. No other option may stand beside it but those allowed."""
    if more := given(context, ("resume", *allowed)):
        raise CliError(f"--resume goes on as the record was begun: leave out {more[0]}")
    return Run.resume(path, str(context.command.name))


def given(context: click.Context, allowed: tuple[str, ...]) -> list[str]:
    """Options that the user has written."""
    source = click.core.ParameterSource.COMMANDLINE
    return [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in allowed
        and parameter.name is not None
        and context.get_parameter_source(parameter.name) == source
    ]


def command_line() -> str:
    """As it was typed, but folders of this machine are nobody's business."""
    return shlex.join(["cuconv", *map(without_folders, sys.argv[1:])])


def without_folders(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    path = Path(value)
    return option + equals + path.name if path.is_absolute() else argument


def carried_out(run: Run, minutes: float | None, context: click.Context) -> None:
    """Measures with a bar, and tells the end: what is kept, where, and what is wrong with it.
    Exit code 1: something is wrong or impossible. 130: interrupted."""
    interrupted = False
    try:
        with progress_bar(remaining=True) as bar:
            task = bar.add_task("device, peers, limits", total=None)

            def tell(case: Case, number: int, total: int) -> None:
                bar.update(task, description=str(case), completed=number, total=total)

            run.measure(tell, minutes)
    except KeyboardInterrupt:
        if not run.path.exists():
            click.echo("interrupted before anything was measured: there is no record", err=True)
            context.exit(INTERRUPTED)
        interrupted = True
    except cuconv.CudaError as error:
        raise CliError(f"{error}; rows measured before are in {run.path}") from None
    roofline.judge(run.content)
    for reason in run.content["missing"].values():
        click.echo(f"left out: {reason}", err=True)
    for fault in faults(run.content):
        click.echo(f"NOT TO BE BELIEVED: {fault}", err=True)
    click.echo(f"Record: {click.format_filename(run.path)}")
    done, planned = len(run.content["rows"]), run.content["planned"]
    if done < planned:
        word = "interrupted" if interrupted else "the time is over"
        again = f"cuconv bench {run.content['purpose']} --resume {shlex.quote(str(run.path))}"
        click.echo(f"{word}: {done} of {planned} rows are kept; go on with: {again}", err=True)
    if interrupted:
        context.exit(INTERRUPTED)
    if faults(run.content):
        context.exit(1)
