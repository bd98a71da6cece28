"""`cuconv bench` as a user has it: what it prints, writes, and says of mistakes."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import cuconv
import cuconv._cli as _cli
from bench_helpers import settings, tiny, tiny_cases  # noqa: F401
from cli_helpers import assert_one_line, run
from cuconv._bench import cases, pictures, record
from cuconv._bench.run import Run
from cuconv._bench.sweep import Sweep
from cuconv._cli import _bench_options

pytestmark = pytest.mark.usefixtures("tiny")
SWEEP = ("--quick", "--peer", "none", "--seconds", "0.0001")
QUICK = (*SWEEP, "--group", "mixed")


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pictures, "DPI", 20)
    return tmp_path


def test_from_measurement_to_page(capsys, here):
    first = run(capsys, "bench", *QUICK, "--out", "a.json")
    assert first.code == 0, first.err
    assert "Record: a.json" in first.out
    assert "plain: 3x9x7 4x3x2" in first.out
    assert run(capsys, "bench", "run", *QUICK, "--out", "b.json").code == 0
    made = run(capsys, "bench", "report", "a.json", "b.json", "--out", "r.html", "--pictures", "p")
    assert made.code == 0, made.err
    assert {p.name for p in here.iterdir()} == {"a.json", "b.json", "r.html", "p"}
    assert list((here / "p").iterdir())
    compared = run(capsys, "bench", "compare", "a.json", "b.json", "--out", "c.html")
    assert compared.code == 0, compared.err
    assert "geometric mean of 2 rows" in compared.out
    assert (here / "c.html").is_file()
    table = run(capsys, "bench", "table", "a.json")
    assert table.out.startswith("# The CPU, measured\n")
    assert "cuconv bench table bench/results/a.json" in table.out


def test_a_page_replaces_no_record(capsys, here):
    assert run(capsys, "bench", *QUICK, "--limit", "1", "--out", "a.json").code == 0
    before = (here / "a.json").read_bytes()
    (here / "link").symlink_to("a.json")
    for command in (
        ("report", "a.json", "--out", "./a.json"),
        ("report", "a.json", "--out", "link"),
        ("compare", "a.json", "a.json", "--out", "a.json"),
    ):
        assert_one_line(run(capsys, "bench", *command), "one of the records")
    assert (here / "a.json").read_bytes() == before


def test_the_record_has_a_name_and_replaces_none(capsys, here):
    for count in (1, 2):
        assert run(capsys, "bench", *QUICK, "--limit", "1").code == 0
        assert len(list(here.glob("cuconv-bench-cpu-*.json"))) == count
    name = str(next(here.iterdir()).name)
    assert_one_line(run(capsys, "bench", *QUICK, "--out", name), "exists", "--resume")


@pytest.fixture
def ctrl_c(monkeypatch):
    """The user presses it in the second row of the one run that this is given to."""
    measure = Run.measure

    def interrupted(self, tell, minutes):
        def stop(case, number, total):
            tell(case, number, total)
            if number == 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(Run, "measure", measure)
        measure(self, stop, minutes)

    return lambda: monkeypatch.setattr(Run, "measure", interrupted)


def test_ctrl_c_and_resume(capsys, ctrl_c, here):
    ctrl_c()
    stopped = run(capsys, "bench", *QUICK, "--out", "a.json")
    assert stopped.code == 130
    assert "interrupted: 1 of 2 rows are kept" in stopped.err
    assert "cuconv bench run --resume a.json" in stopped.err
    again = run(capsys, "bench", "--resume", "a.json")
    assert again.code == 0, again.err
    assert record.read(here / "a.json")["complete"]
    assert_one_line(run(capsys, "bench", "--resume", "a.json"), "complete")


def test_a_wrong_result_ends_in_exit_code_1(capsys, monkeypatch):
    call = cuconv.Conv2dPlan.__call__
    monkeypatch.setattr(cuconv.Conv2dPlan, "__call__", lambda *a, **o: call(*a, **o) + 1)
    outcome = run(capsys, "bench", *QUICK, "--limit", "1", "--out", "a.json")
    assert outcome.code == 1
    assert "NOT TO BE BELIEVED: mixed plain" in outcome.err
    assert "failed" in outcome.out


def test_a_sweep(capsys, here):
    how = ("--vary", "C", "--values", "2,4,8", "--fix", "H=6", "--fix", "K=2")
    outcome = run(capsys, "bench", "sweep", *SWEEP, *how)
    assert outcome.code == 0, outcome.err
    assert "time ~ C^" in outcome.out
    (path,) = here.glob("cuconv-sweep-cpu-*.json")
    assert run(capsys, "bench", "report", path.name).code == 0
    assert path.with_suffix(".html").is_file()
    again = "cuconv bench sweep --resume"
    assert_one_line(run(capsys, "bench", "--resume", path.name), "is a sweep", again)
    assert_one_line(run(capsys, "bench", "sweep", "--resume", path.name), "complete")


def test_ctrl_c_before_the_first_row_names_no_record(capsys, monkeypatch, here):
    """Libraries take seconds to import."""

    def interrupt(self, tell, minutes):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "measure", interrupt)
    for command in ((*QUICK,), ("sweep", *SWEEP, "--vary", "N")):
        stopped = run(capsys, "bench", *command, "--out", "a.json")
        assert stopped.code == 130
        assert stopped.err == "interrupted before anything was measured: there is no record\n"
        assert "a.json" not in stopped.out
    assert not list(here.iterdir())


def test_ctrl_c_in_a_sweep_and_resume(capsys, ctrl_c, here):
    how = ("--vary", "N", "--vary", "C", "--fix", "H=6", "--fix", "C=2", "--fix", "K=2")
    ctrl_c()
    stopped = run(capsys, "bench", "sweep", *SWEEP, *how, "--out", "a.json")
    assert stopped.code == 130
    assert "interrupted: 1 of 6 rows are kept" in stopped.err
    assert "cuconv bench sweep --resume a.json" in stopped.err
    (kept,) = record.read(here / "a.json")["rows"]
    again = run(capsys, "bench", "sweep", "--resume", "a.json")
    assert again.code == 0, again.err
    assert "time ~ N^" in again.out
    assert "time ~ C^" in again.out
    found = record.read(here / "a.json")
    assert found["complete"]
    assert found["rows"][0]["sides"] == kept["sides"]
    assert len({row["key"] for row in found["rows"]}) == len(found["rows"]) == 6
    assert_one_line(run(capsys, "bench", "sweep", "--resume", "a.json"), "complete")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"vary": "Q"}, "vary"),
        ({"values": []}, "values"),
        ({"values": [1, 0]}, "values"),
        ({"values": "1"}, "values"),
        ({"fixed": [["Q", 1]]}, "fixed"),
        ({"fixed": [["N", "1"]]}, "fixed"),
        ({"fixed": [[["N"], 1]]}, "fixed"),
        ({"fixed": [1]}, "sweeps"),
        ({"kind": ["float32"]}, "kind"),
        ({"direction": "back"}, "direction"),
        ({"layout": None}, "layout"),
        ({"more": 1}, "more"),
    ],
)
def test_edited_sweeps_are_one_line(capsys, here, changes, word):
    content = record.new("sweep", settings(groups=()).as_json(), "cuconv bench sweep")
    content["device"] = {"device": "cpu", "model": ""}
    content["sweeps"] = [Sweep("N", (1, 2)).as_json() | changes]
    record.write(here / "a.json", content)
    said = run(capsys, "bench", "sweep", "--resume", "a.json")
    assert_one_line(said, "no sweeps to go on with", word)


def test_groups_are_listed_with_their_rows(capsys, here):
    outcome = run(capsys, "bench", "--list", "--group", "vgg", "--batch", "1")
    assert outcome.code == 0
    assert all(group in outcome.out for group in cases.GROUPS)
    assert "1509.09308" in outcome.out
    assert "9 rows are chosen, on the cpu" in outcome.out
    assert not list(here.iterdir())


def test_rows_that_there_are_none_of_are_told(capsys):
    how = ("--group", "pooling", "--group", "vgg", "--group", "inception", "--batch", "1")
    said = run(
        capsys, "bench", "--list", *how, "--direction", "forward", "--direction", "input_grad"
    )
    assert said.code == 0
    told = "left out: pooling, inception without input_grad: only convolutions have them\n"
    assert said.err == told
    assert run(capsys, "bench", "--list", *how, "--dtype", "float16").err == ""


@pytest.mark.parametrize("group", [g for g in cases.GROUPS if g != "mixed"])
def test_every_group_has_rows_with_names_of_their_own(group):
    found = cases.cases_of(cases.Choice((group,), batches=(1, 8)))
    assert found
    assert len({str(case) for case in found}) == len(found)
    assert cases.source_of(group)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--group", "vgg17"), ("vgg17", "resnet50")),
        (("--dtype", "tf32"), ("tensor cores",)),
        (("--batch", "0"), ("batch",)),
        (("--seconds", "0"), ("seconds",)),
        (("--seconds", "nan"), ("--seconds", "no amount")),
        (("--seconds", "inf"), ("--seconds", "no amount")),
        (("--minutes", "nan"), ("--minutes", "no amount")),
        (("--group", "pooling", "--direction", "input_grad"), ("only convolutions",)),
        (("--algo", "fastest"), ("fastest", "winograd")),
        (("--peer", "cudnn"), ("cudnn", "torch")),
        (("--peer", "none", "--peer", "torch"), ("alone",)),
        (("--device", "cuda"), ("cuconv info",)),
        (("--resume", "nothing.json"), ("cannot read nothing.json",)),
        (("--resume", "nothing.json", "--group", "vgg"), ("leave out --group",)),
        (("sweep", "--resume", "nothing.json"), ("cannot read nothing.json",)),
        (("sweep", "--resume", "nothing.json", "--vary", "C"), ("leave out --vary",)),
        (("run", "more"), ("more",)),
        (("report",), ("FILES",)),
        (("report", "nothing.json"), ("cannot read nothing.json",)),
        (("report", "a/x.json", "b/x.json"), ("same name",)),
        (("table", "nothing.json"), ("cannot read",)),
        (("compare", "nothing.json"), ("AFTER",)),
        (("sweep", "--vary", "X"), ("'X'",)),
        (("sweep", "--values", "1,2"), ("one --vary",)),
        (("sweep", "--vary", "C", "--values", "1,x"), ("1,x",)),
        (("sweep", "--vary", "C", "--fix", "C=1"), ("fixed and varied",)),
        (("sweep", "--fix", "Q=1"), ("Q=1",)),
        (("sweep", "--dtype", "float32", "--dtype", "float64"), ("one --dtype",)),
    ],
)
def test_mistakes_are_one_line(capsys, monkeypatch, arguments, fragments, here):
    monkeypatch.setattr(cuconv, "is_cuda_available", lambda: False)
    assert_one_line(run(capsys, "bench", *arguments), *fragments)
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"threads": "2"}, "threads"),
        ({"seconds": None}, "seconds"),
        ({"seconds": "1"}, "seconds"),
        ({"rounds": True}, "rounds"),
        ({"device": ["cpu"]}, "device"),
        ({"peers": ["numpy"]}, "peers"),
        ({"algos": [1]}, "algos"),
        ({"cold": 1}, "cold"),
        ({"choice": {"groups": ["no"]}}, "groups"),
        ({"choice": {"groups": ["mixed"], "batches": 8}}, "batches"),
        ({"choice": {"groups": ["mixed"], "kinds": [[]]}}, "kinds"),
        ({"choice": 1}, "settings"),
    ],
)
def test_edited_settings_are_one_line(capsys, here, changes, word):
    content = record.new("run", settings().as_json(), "cuconv bench")
    content["device"] = {"device": "cpu", "model": ""}
    content["settings"] |= changes
    record.write(here / "a.json", content)
    assert_one_line(run(capsys, "bench", "--resume", "a.json"), "no settings to go on with", word)


def test_what_cannot_be_read_as_json_is_one_line(capsys, here):
    (here / "deep.json").write_text("[" * 100_000)
    os.mkfifo(here / "pipe")
    for name, words in (("deep.json", "nested too deeply"), ("pipe", "not a regular file")):
        assert_one_line(run(capsys, "bench", "table", name), name, words)


def test_a_test_backend_is_not_measured(capsys, monkeypatch):
    monkeypatch.setenv("CUCONV_BACKEND", "reference")
    assert_one_line(run(capsys, "bench", *QUICK), "reference", "mean nothing")


def test_a_place_that_cannot_be_written_to_is_one_line(capsys, here):
    (here / "file").write_text("")
    outcome = run(capsys, "bench", *QUICK, "--out", "file/a.json")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "cannot write" in outcome.err


def test_folders_of_this_machine_stay_out_of_the_record(capsys, monkeypatch, here):
    monkeypatch.setattr(sys, "argv", ["cuconv", "bench", *QUICK, f"--out={here}/a.json"])
    assert run(capsys, "bench", *QUICK, "--limit", "1", "--out", here / "a.json").code == 0
    text = (here / "a.json").read_text()
    assert str(here) not in text
    assert json.loads(text)["command"].endswith("--out=a.json")


SCRIPT = Path(__file__).resolve().parents[1] / "bench" / "run.py"


@pytest.mark.skipif(not SCRIPT.exists(), reason="only a clone has it")
def test_the_script_of_a_clone_records_the_whole_command(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "run", "--quick"])
    monkeypatch.setattr(_cli, "main", lambda: told.append(_bench_options.command_line()))
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert told == ["cuconv bench run --quick"]


def test_measuring_needs_no_more_than_numpy():
    """Drawing and the command line have their extra; the measuring itself does not need it."""
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(cuconv.__file__).resolve().parents[1])!r})\n"
        "for name in ('click', 'rich', 'matplotlib', 'cv2', 'scipy', 'torch'):\n"
        "    sys.modules[name] = None\n"
        "import cuconv._bench.run, cuconv._bench.report, cuconv._bench.compare\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tiny_layers_are_odd():
    assert len({case.layer for case in tiny_cases()}) == 4
