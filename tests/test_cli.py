"""The command line as a whole, `info` and `check`."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import cuconv
from cli_helpers import assert_one_line, run
from cuconv import config
from cuconv._cli import _check_cases, check
from cuconv._version import __version__

COMMANDS = ("info", "check", "filter", "demo", "tune", "bench")


def test_help_names_every_command(capsys):
    for arguments in ((), ("--help",), ("-h",)):
        outcome = run(capsys, *arguments)
        assert (outcome.code, outcome.err) == (0, "")
        assert all(re.search(rf"^  {name} ", outcome.out, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_helps_with_an_example(capsys, command):
    outcome = run(capsys, command, "--help")
    assert outcome.code == 0
    assert f"cuconv {command}" in outcome.out.partition("Example")[2]


def test_version(capsys):
    assert run(capsys, "--version").out == f"cuconv, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("fliter",), "No such command 'fliter'"),
        (("--fast",), "--fast"),
        (("info", "--yaml"), "--yaml"),
        (("info", "more"), "more"),
        (("check", "--backend", "tpu"), "tpu"),
        (("check", "--seed", "1"), "--seed"),
    ],
)
def test_wrong_usage_is_one_line(capsys, arguments, fragment):
    assert_one_line(run(capsys, *arguments), fragment)


def test_missing_extras_are_one_line(capsys, monkeypatch):
    for name in ("click", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)
    assert_one_line(run(capsys, "demo"), "click, cv2", 'pip install "cuconv[cli]"')
    outcome = run(capsys, "info")  # needs NumPy alone
    assert outcome.code == 0
    assert __version__ in outcome.out


def test_runs_as_a_module_and_reports_a_full_output():
    command = [sys.executable, "-m", "cuconv", "info"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert __version__ in done.stdout
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert os.strerror(28) in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_output_is_one_line_without_the_extras_too():
    code = "import sys; sys.modules['click'] = None; from cuconv._cli import main; main(['info'])"
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-u", "-c", code]  # -u: the first line already fails
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == f"cuconv: cannot write to the standard output: {os.strerror(28)}\n"


def test_an_ascii_terminal_gets_no_traceback():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    for arguments in (("info",), ("filter", "é.png", "out.png", "-k", "sobel")):
        done = subprocess.run(
            [sys.executable, "-m", "cuconv", *arguments], env=environment, capture_output=True
        )
        assert b"Traceback" not in done.stderr
        assert done.returncode == (0 if arguments == ("info",) else 2)


# ---- info ----


def test_info_shows_the_whole_configuration(capsys):
    outcome = run(capsys, "info")
    assert outcome.code == 0
    for section, values in config.collect().items():
        assert section in outcome.out
        assert all(name in outcome.out for name in values)


def test_info_as_json(capsys):
    outcome = run(capsys, "info", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out) == config.collect()


# ---- check ----


@pytest.fixture
def few(monkeypatch):
    """Two operations, enough to see how check behaves."""
    chosen = [o for o in check.operations() if o.name in ("conv2d", "relu")]
    monkeypatch.setattr(check, "operations", lambda: chosen)


def test_quick_check_passes_on_numpy(capsys):
    outcome = run(capsys, "check", "--quick", "--backend", "numpy")
    assert outcome.code == 0, outcome.out
    operations = check.operations()
    for operation in operations:
        assert re.search(rf"{operation.name} +[│|] +{check.QUICK} ", outcome.out), operation.name
    total = check.QUICK * len(operations)
    assert f"passed; {total} problems agree, 0 differ" in outcome.out


def test_check_covers_every_public_operation():
    functions = {
        name
        for name in cuconv.__all__
        if re.search(r"conv|pool|relu|sigmoid|softmax|nception|Plan", name)
    }
    missing = functions - {o.name for o in check.operations()} - {"InceptionWeights"}
    assert not missing


def test_every_dtype_is_drawn_in_a_quick_check():
    assert all(len(o.dtypes) <= check.QUICK for o in check.operations())


def test_problems_are_the_same_every_time():
    operation = next(o for o in check.operations() if o.name == "conv2d")
    twice = [list(check.draw_cases(operation, 6)) for _ in range(2)]
    assert [c.text for c in twice[0]] == [c.text for c in twice[1]]
    for a, b in zip(*twice, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a.arrays, b.arrays, strict=True))


@pytest.mark.usefixtures("few")
def test_a_wrong_result_fails_the_check(capsys, monkeypatch):
    relu = cuconv.relu
    calls = []

    def wrong_every_second_time(x):  # the reference is asked first
        calls.append(x)
        y = relu(x)
        if len(calls) % 2 == 0:
            y.reshape(-1)[0] += 1
        return y

    monkeypatch.setattr(cuconv, "relu", wrong_every_second_time)
    outcome = run(capsys, "check", "--quick", "--backend", "numpy")
    assert outcome.code == 1
    assert "numpy, relu, first failure:" in outcome.out
    assert "first at (0, 0): got" in outcome.out
    assert "FAILED" in outcome.out


@pytest.mark.usefixtures("few")
def test_an_exception_fails_the_check(capsys, monkeypatch):
    relu = cuconv.relu
    calls = []

    def failing_every_second_time(x):
        calls.append(x)
        if len(calls) % 2 == 0:
            raise cuconv.CudaError("cudaErrorIllegalAddress in relu")
        return relu(x)

    monkeypatch.setattr(cuconv, "relu", failing_every_second_time)
    outcome = run(capsys, "check", "--quick", "--backend", "numpy")
    assert outcome.code == 1
    assert "CudaError: cudaErrorIllegalAddress in relu" in outcome.out


@pytest.mark.usefixtures("few")
def test_a_check_of_nothing_does_not_pass(capsys, monkeypatch):
    def refuse(problem, where, tally):
        tally.unsupported += 1

    monkeypatch.setattr(check, "run_case", refuse)
    outcome = run(capsys, "check", "--quick", "--backend", "numpy")
    assert outcome.code == 1
    assert "not supported" in outcome.out
    assert "nothing checked" in outcome.out


@pytest.mark.usefixtures("few")
def test_an_interrupted_check_shows_what_was_checked(capsys, monkeypatch):
    run_case = check.run_case
    count = 0

    def stop_in_the_second_operation(*arguments):
        nonlocal count
        count += 1
        if count == check.QUICK + 3:
            raise KeyboardInterrupt
        run_case(*arguments)

    monkeypatch.setattr(check, "run_case", stop_in_the_second_operation)
    outcome = run(capsys, "check", "--quick", "--backend", "numpy")
    assert outcome.code == 128 + signal.SIGINT
    assert re.search(rf"conv2d +[│|] +{check.QUICK} ", outcome.out)
    assert re.search(r"relu +[│|] +2 ", outcome.out)
    assert "interrupted" in outcome.err


@pytest.mark.parametrize(
    ("got", "want", "exact", "fragment"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), True, "got float64[2, 3], expected float64[3, 2]"),
        (np.zeros(2, "f4"), np.zeros(2), True, "float32"),
        (np.array([0, np.nan]), np.zeros(2), False, "first at (1,)"),
        (np.array([1 + 2**-50]), np.ones(1), True, "1 of 1 values differ"),
        (np.array([1 + 2**-40]), np.ones(1), False, "1 of 1 values differ"),
        ([np.zeros(1)], [np.zeros(1), np.zeros(1)], True, "expected 2 arrays"),
        ([np.zeros(1), np.ones(1)], [np.zeros(1), np.zeros(1)], True, "first at (0,)"),
    ],
)
def test_differences_are_found(got, want, exact, fragment):
    assert fragment in check.difference(got, want, exact)


@pytest.mark.parametrize(
    ("got", "want", "exact"),
    [
        (np.array([np.nan, np.inf]), np.array([np.nan, np.inf]), True),
        (np.array([1 + 2**-50]), np.ones(1), False),
        ((np.ones(1, complex),), (np.ones(1, complex),), True),
        (np.zeros((0, 3)), np.zeros((0, 3)), True),
    ],
)
def test_equal_results_have_no_difference(got, want, exact):
    assert check.difference(got, want, exact) == ""


def test_cuda_where_there_is_none_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(cuconv, "is_cuda_available", lambda: False)
    for command in (("check", "--backend", "cuda"), ("demo", "--device", "cuda")):
        assert_one_line(run(capsys, *command), "cuconv info")


def test_the_draws_are_small_integers():
    rng = np.random.default_rng(0)
    for dtype in _check_cases.ALL:
        values = _check_cases.integers(rng, (50,), dtype)
        assert values.dtype == dtype
        assert set(np.real(values).astype(float)) == {-2.0, -1.0, 0.0, 1.0, 2.0}
