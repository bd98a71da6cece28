"""`cuconv tune`: tuning, listing and clearing."""

import datetime
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import cuconv
from cli_helpers import assert_one_line, run
from cuconv import _answers, autotune
from cuconv._bench.layers import NAMES, Layer
from cuconv._cli import _tune_problems, _tune_run, _tune_table
from cuconv._problem import conv_call
from cuconv._version import __version__
from tune_entries import PROBLEM, add, entry

SMALL = ("--x", "1,2,9,9", "--w", "2,2,3,3", "--seconds", "0.01", "--device", "cpu")


pytestmark = pytest.mark.usefixtures("nothing_known")


def entries():
    return list(_answers.read_table(_answers.cache_file()).entries.values())


@pytest.mark.parametrize("command", ["run", "list", "clear", "path"])
def test_each_command_helps_with_an_example(capsys, command):
    outcome = run(capsys, "tune", command, "--help")
    assert outcome.code == 0
    assert f"cuconv tune {command}" in outcome.out.partition("Example")[2]


def test_path(capsys, file):
    assert run(capsys, "tune", "path").out == f"{file}\n"


# ---- run ----


def test_a_convolution_is_tuned_and_then_known(capsys):
    outcome = run(capsys, "tune", "run", *SMALL, "--padding", "1", "--direction", "all")
    assert outcome.code == 0, outcome
    assert outcome.err == ""
    found = entries()
    assert [e.problem["direction"] for e in found] == ["forward", "input_grad", "weight_grad"]
    assert {e.problem["pad_low"] for e in found} == {(0, 1, 1)}
    for direction in _tune_problems.DIRECTIONS:
        assert direction in outcome.out
    assert autotune.device_name(cuconv._backends.host_backend()) in outcome.out
    outcome = run(capsys, "tune", "run", *SMALL, "--padding", "1")
    assert "1 of 1 known before; --again times them again" in outcome.out
    assert entries() == found
    assert run(capsys, "tune", "run", *SMALL, "--padding", "1", "--again").code == 0
    assert entries()[-1].seconds != found[0].seconds


def test_calls_take_what_was_tuned(capsys, monkeypatch):
    """The problem is the one that the functions have: no name of a fact is other."""
    options = ("--stride", "1,2", "--padding", "0:1,2:0", "--dtype", "float64", "--layout", "NHWC")
    shapes = ("--x", "1,9,8,4", "--w", "6,3,3,2", "--groups", "2", "--device", "cpu")
    outcome = run(capsys, "tune", "run", *shapes, *options, "--direction", "all", "--cold")
    assert outcome.code == 0, outcome
    assert "cold" in outcome.out
    monkeypatch.setattr(autotune, "measure", None)  # timing would fail
    x, w = np.ones((1, 9, 8, 4)), np.ones((6, 3, 3, 2))
    how = {"stride": (1, 2), "padding": ((0, 1), (2, 0)), "groups": 2, "layout": "NHWC"}
    y = cuconv.conv2d(x, w, algo="autotune", **how)
    cuconv.conv2d_input_grad(y, w, x.shape, algo="autotune", **how)
    cuconv.conv2d_weight_grad(y, x, w.shape, algo="autotune", **how)


@pytest.mark.parametrize(
    ("shapes", "rank"), [(("2,3,30", "4,3,5"), 1), (("1,2,5,6,7", "3,2,2,2,2"), 3)]
)
def test_other_ranks(capsys, shapes, rank):
    x, w = shapes
    outcome = run(capsys, "tune", "run", "--x", x, "--w", w, "--device", "cpu")
    assert outcome.code == 0, outcome
    assert entries()[0].problem["rank"] == rank


SMALL_GROUP = ("--group", "alexnet", "--seconds", "0.01", "--device", "cpu")


@pytest.fixture
def layers(monkeypatch):
    """A function that puts layers in place of a network's."""

    def put(*found):
        monkeypatch.setattr(
            _tune_problems, "layers_of", lambda group, n: [replace(a, n=n or 32) for a in found]
        )

    return put


def layer(h=9, r=3, padding=(1, 1)):
    return Layer(1, 2, h, 8, 3, r, r, padding=padding)


def test_the_layers_of_a_group(capsys, layers):
    layers(layer(), layer(r=1, padding=(0, 0)))
    outcome = run(capsys, "tune", "run", *SMALL_GROUP, "--batch", "2")
    assert outcome.code == 0, outcome
    assert [(e.problem["batch"], e.problem["kernel"]) for e in entries()] == [
        (2, (1, 3, 3)),
        (2, (1, 1, 1)),
    ]
    last = run(capsys, "tune", "run", *SMALL_GROUP, "--batch", "2", "--layout", "NHWC")
    assert last.code == 0, last
    assert [e.problem["layout"] for e in entries()] == ["NCHW"] * 2 + ["NHWC"] * 2


@pytest.mark.parametrize("group", NAMES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_layers_of_every_group_are_legal(group, layout):
    found = list(_tune_problems.layer_problems(group, ("forward",), "float32", layout, 1))
    assert len(found) > 0
    for problem in found:
        assert problem.x_shape[0] == 1
        conv_call(2, problem.dtype, problem.x_shape, problem.w_shape, **problem.options)


def test_the_groups_are_listed_in_the_help(capsys):
    text = " ".join(run(capsys, "tune", "run", "--help").out.split())
    assert "resnet50|vgg|googlenet" in text


def test_what_cannot_be_timed_is_told_and_the_rest_goes_on(capsys, layers):
    layers(layer(h=1, padding=(0, 1)), layer())
    outcome = run(capsys, "tune", "run", *SMALL_GROUP)
    assert outcome.code == 1
    assert re.fullmatch(r"cuconv: 32x2x1x8 .* no output along H: .*\n", outcome.err)
    assert len(entries()) == 1


def test_ctrl_c_keeps_what_was_timed(capsys, layers, monkeypatch):
    layers(*(layer(h=size) for size in (9, 10, 11)))
    tune_one = _tune_run.tune_one
    count = 0

    def stop_in_the_third(*arguments):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return tune_one(*arguments)

    monkeypatch.setattr(_tune_run, "tune_one", stop_in_the_third)
    outcome = run(capsys, "tune", "run", *SMALL_GROUP)
    assert outcome.code == 130
    assert outcome.err == "cuconv: interrupted; what was timed is kept\n"
    assert [e.problem["input"][1] for e in entries()] == [9, 10]
    assert outcome.out.count("32x2x") == 2


def test_a_cache_that_cannot_be_written_is_told(capsys, monkeypatch):
    monkeypatch.setenv("CUCONV_CACHE_DIR", "/sys")
    outcome = run(capsys, "tune", "run", *SMALL)
    assert outcome.code == 0
    assert re.fullmatch(r"cuconv: the autotune cache .* cannot be written: .*\n", outcome.err)
    assert "1x2x9x9" in outcome.out


def test_one_algorithm_alone(capsys, monkeypatch):
    backend = type(cuconv._backends.host_backend())
    listed = backend.conv_candidates

    def one(*arguments):
        return [replace(c, supported=c.algo == "direct") for c in listed(*arguments)]

    monkeypatch.setattr(backend, "conv_candidates", one)
    outcome = run(capsys, "tune", "run", *SMALL)
    assert (outcome.code, outcome.err) == (0, "")
    assert "one algorithm alone can do this" in outcome.out


WRONG = {
    "nothing": ((), "--x and --w"),
    "half": (("--x", "1,2,3"), "--x and --w"),
    "words": (("--x", "1,2,a", "--w", "1,2,3"), "--x 1,2,a"),
    "rank": (("--x", "1,2", "--w", "1,2"), "3, 4 or 5"),
    "channels": (("--x", "1,3,9,9", "--w", "2,2,3,3"), "channels"),
    "negative": (("--x", "1,-2,9,9", "--w", "2,-2,3,3"), "-2"),
    "huge": (("--x", f"{10**30},1,3", "--w", "1,1,3"), str(10**30)),
    "padding": ((*SMALL, "--padding", "1:2:3,4"), "BEFORE:AFTER"),
    "padding word": (
        (*SMALL, "--padding", "some"),
        "--padding some: must be integers with commas between, or one of valid, same",
    ),
    "dtype": ((*SMALL, "--dtype", "int8"), "int8"),
    "layout": ((*SMALL, "--layout", "CHWN"), "layout"),
    "seconds": ((*SMALL, "--seconds", "0"), "--seconds must be positive"),
    "no number": ((*SMALL, "--seconds", "nan"), "--seconds must be positive"),
    "both": ((*SMALL, "--group", "vgg-a"), "--x does not go with --group"),
    "stride of a group": (("--group", "vgg-a", "--stride", "2"), "--stride does not go with"),
    "batch alone": ((*SMALL, "--batch", "2"), "--batch does not go without --group"),
    "no such group": (("--group", "nets"), "'nets' is not one of"),
    "layout of layers": (("--group", "vgg-a", "--layout", "NHW"), "NCHW or NHWC"),
    "an option of no meaning": (("--fast",), "--fast"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line(capsys, name):
    arguments, fragment = WRONG[name]
    assert_one_line(run(capsys, "tune", "run", *arguments), fragment)
    assert entries() == []


def test_cuda_where_there_is_none_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(cuconv, "is_cuda_available", lambda: False)
    assert_one_line(run(capsys, "tune", "run", *SMALL[:6], "--device", "cuda"), "cuconv info")


# ---- list ----


def test_the_list_tells_all(capsys, file):
    hour = datetime.timedelta(hours=1)
    now = datetime.datetime.now(datetime.timezone.utc)
    add(file, entry(7, date=(now - 49 * hour).isoformat(), seconds={"fft": 2.5, "direct": 1e-5}))
    add(file, entry(8, device="another device", date=(now + 2 * hour).isoformat()))
    outcome = run(capsys, "tune", "list")
    assert (outcome.code, outcome.err) == (0, "")
    for text in (
        "7x4x9x9 * 4x4x3x3 p1x1 float32",
        "direct_taps",
        "direct 10 µs",
        "fft 2.5 s",
        "2 d",
        "in the future",
        "a device, cuconv 0.1.0",
        "another device",
        str(file),
    ):
        assert text in outcome.out, text
    assert outcome.out.index("direct 10 µs") < outcome.out.index("fft 2.5 s")
    listed = json.loads(run(capsys, "tune", "list", "--json").out)
    assert [e["problem"]["batch"] for e in listed] == [8, 7]
    assert listed[1]["skipped"] == {"fft": "why not"}


def test_an_empty_list(capsys, file):
    assert run(capsys, "tune", "list").out == f"No answers in {file}\n"
    assert json.loads(run(capsys, "tune", "list", "--json").out) == []


def test_a_damaged_file_is_told(capsys, file):
    file.write_text("{")
    outcome = run(capsys, "tune", "list")
    assert outcome.code == 0
    assert re.fullmatch(r"cuconv: the autotune cache .* is ignored: .*\n", outcome.err)


def test_markup_in_a_file_is_text(capsys, file):
    add(file, entry(1, device="[red]x[/]", variant="[/]"))
    assert "[red]x[/]" in run(capsys, "tune", "list").out


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "1x4x9x9 * 4x4x3x3 p1x1 float32 NCHW forward"),
        ({"stride": (1, 2, 1)}, "1x4x9x9 * 4x4x3x3 s2x1 p1x1 float32 NCHW forward"),
        ({"pad_low": (0, 0, 0), "pad_high": (0, 0, 0)}, "1x4x9x9 * 4x4x3x3 float32 NCHW forward"),
        ({"pad_high": (0, 2, 1)}, "1x4x9x9 * 4x4x3x3 p1:2x1:1 float32 NCHW forward"),
        ({"groups": 2, "dilation": (1, 3, 3)}, "1x4x9x9 * 4x2x3x3 d3x3 p1x1 g2 float32 NCHW"),
        ({"activation": "relu", "precision": "tf32"}, "forward activation=relu precision=tf32"),
        ({"rank": 1}, "1x4x9 * 4x4x3 p1 float32"),
    ],
)
def test_problems_in_words(changes, text):
    found = _tune_table.problem_text({**PROBLEM, "batch": 1, **changes})
    assert text in found


@pytest.mark.parametrize("name", PROBLEM)
def test_a_problem_of_another_making_is_shown_as_it_is(name):
    odd = {k: v for k, v in PROBLEM.items() if k != name}
    for problem in (odd, {**odd, name: 0}, {**odd, name: "x"}, {**odd, name: (1, 2)}):
        assert _tune_table.problem_text(problem)


# ---- clear ----


@pytest.fixture
def four(file):
    now = datetime.datetime.now(datetime.timezone.utc)
    for number, days in enumerate((0, 5, 50, 500)):
        date = (now - datetime.timedelta(days=days, hours=1)).isoformat()
        add(file, entry(number, date=date, device=f"GPU {number % 2}"))
    return file


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ((), []),
        (("--device", "gpu 1"), [0, 2]),
        (("--older-than", "1d"), [0]),
        (("--older-than", "8w"), [0, 1, 2]),
        (("--older-than", "2h"), [0]),
        (("--older-than", "3000s"), []),
        (("--device", "GPU 1", "--older-than", "30d"), [0, 1, 2]),
        (("--device", "none"), [0, 1, 2, 3]),
    ],
)
def test_clear(capsys, four, options, left):
    outcome = run(capsys, "tune", "clear", "--yes", *options)
    assert (outcome.code, outcome.err) == (0, "")
    assert sorted(e.problem["batch"] for e in entries()) == left
    assert f"Forgot {4 - len(left)}" in outcome.out or "Nothing to forget" in outcome.out
    assert four.exists() == bool(left)


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_clear_asks(capsys, four, monkeypatch, answer):
    monkeypatch.setattr("builtins.input", lambda *_: answer)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda *_: answer.strip())
    outcome = run(capsys, "tune", "clear")
    assert outcome.code == 0
    assert "Nothing forgotten" in outcome.out
    assert len(entries()) == 4
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda *_: "y")
    assert "Forgot 4 answers" in run(capsys, "tune", "clear").out
    assert entries() == []


def test_clear_without_anybody_to_ask(four):
    command = [sys.executable, "-m", "cuconv", "tune", "clear"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert len(entries()) == 4


@pytest.mark.parametrize("age", ["3y", "d", "-1d", "1.5h", "9999999d", ""])
def test_an_age_that_is_none(capsys, four, age):
    assert_one_line(run(capsys, "tune", "clear", "--older-than", age), "--older-than")
    assert len(entries()) == 4


def test_an_age_before_all_dates(capsys, four):
    assert "Nothing" in run(capsys, "tune", "clear", "--older-than", "999999w", "--yes").out


def test_a_damaged_file_can_be_cleared(capsys, file):
    file.write_text("{")
    assert run(capsys, "tune", "clear", "--yes").code == 0
    assert not file.exists()


def test_what_cannot_be_cleared_is_one_line(capsys, file):
    file.mkdir()
    assert_one_line(run(capsys, "tune", "clear", "--yes"), str(file))


def test_entries_of_other_versions_stay(capsys, file):
    add(file, entry(1, version="0.0.1"))
    assert run(capsys, "tune", "run", *SMALL).code == 0
    assert sorted(e.version for e in entries()) == ["0.0.1", __version__]
