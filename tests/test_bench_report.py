"""Pages and tables are made of records alone: self-contained, complete, and the committed ones."""

import copy
import html.parser
import json
import re
from pathlib import Path

import numpy as np
import pytest

from bench_helpers import settings, tiny  # noqa: F401
from cuconv._bench import pictures, record, report, summary, sweep
from cuconv._bench.compare import compare
from cuconv._bench.run import Run
from cuconv._bench.sweep import Sweep

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "bench" / "results" / "cpu-2026-11-25.json"


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(pictures, "DPI", 20)


def side(ms, peer, count=9, **facts):
    times = (ms * np.exp(0.02 * np.random.default_rng(len(facts)).standard_normal(count))).tolist()
    found = {"ms": ms, "best_ms": min(times), "each_ms": times, "calls": 1, "rounds": count}
    return found | {"peer": peer, "clock": "device", "rotates_result": False, **facts}


def a_row(name, ratio, interval=None, **changes):
    """A row as `run` writes it, whose ratio is known."""
    row = {
        "key": f"g {name} n1 float32 NCHW", "group": "g", "name": name, "of": "conv",
        "kind": "float32", "direction": "forward", "layout": "NCHW", "x_shape": [1, 8, 9, 9],
        "w_shape": [8, 8, 3, 3], "window": [], "plain_3x3": True, "multiply_adds": 10**6,
        "buffer_sets": 4, "operand_bytes": 2592, "result_bytes": 2592, "cold": True,
        "errors": {n: {"largest": e, "rms": e / 9} for n, e in (("cuconv plan", 1e-6), ("P", 0.0))},
        "skipped_sides": {}, "wrong": {}, "ours": "cuconv plan", "algo": "im2col",
        "variant": "im2col_first", "workspace_bytes": 10**6, "beside": "P", "ratio": ratio,
        "interval": interval or [0.98 * ratio, 1.02 * ratio],
        "sides": {"cuconv plan": side(1.0, False, algo="im2col"), "P": side(ratio, True)},
    }  # fmt: skip
    row["ratios"] = {"P": {"ratio": ratio, "interval": row["interval"]}}
    return row | changes


def a_record(*rows):
    content = record.new("run", settings(seconds=1.0).as_json(), "cuconv bench")
    content["device"] = {"device": "cpu", "model": "<A & B>", "cores": 2, "threads": 2}
    content["state_before"] = content["state_after"] = {"load": [0.1, 0.1, 0.1]}
    content["roofline"] = {"bytes_per_s": 1e10, "multiply_adds_per_s": {"float32": 1e11}}
    content["rows"] = list(rows)
    content["planned"], content["complete"] = len(rows), True
    return content


ROWS = [a_row("won", 1.5), a_row("lost", 0.5), a_row("even", 1.0), a_row("loud", 1.1, [0.5, 2.0])]


class Reader(html.parser.HTMLParser):
    """What a browser would load, and the text."""

    def __init__(self):
        super().__init__()
        self.loads, self.text, self.open = [], [], []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                self.loads.append(value)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page.decode())
    reader.close()
    assert reader.open == []
    return reader


def test_a_report_is_one_file_that_loads_nothing():
    page, files = report.report({"a.json": a_record(*ROWS)})
    reader = read(page)
    assert len(reader.loads) == len(files)
    assert all(url.startswith("data:image/png;base64,") for url in reader.loads)
    assert b"http" not in page
    assert not re.search(rb"url\(|@import|<script|<link|<iframe", page)
    assert set(files) == {f"a-{name}.png" for name in ("means", "g", "roofline", "errors")}
    assert all(png.startswith(b"\x89PNG") for png in files.values())
    assert "<A & B>" in "".join(reader.text)


def test_a_report_tells_every_row_and_every_fault():
    bad = a_row("bad", 1.0, flags=["P beats the roofline by 2.00: not to be believed"])
    failed = {k: v for k, v in a_row("failed", 1.0).items() if k not in ("sides", "ratio")}
    rows = [*ROWS, bad, {**failed, "failed": "off by nan"}]
    record_ = a_record(*rows)
    record_["missing"] = {"torch": "PyTorch is not installed"}
    text = " ".join(read(report.report({"a.json": record_})[0]).text)
    for word in ("won", "lost", "even", "loud", "bad", "failed"):
        assert f"g: {word} n1" in text
    for words in (
        "Not to be believed",
        "beats the roofline",
        "off by nan",
        "too noisy: 0.50 to 2.00",
        "without torch: PyTorch is not installed",
        "repeat with --seconds",
        "slower in 1 rows, faster in 1, undecided in 2",
        "worst that is told: 0.50, lost n1",
    ):
        assert words in text, words
    assert "1.10 (" not in text  # the ratio that is too noisy


def test_a_busy_machine_is_told():
    busy = a_record(*ROWS)
    busy["state_before"] = {"load": [1.9, 1, 1]}
    assert "load average was 1.9" in summary.busy(busy)
    assert summary.busy(a_record(*ROWS)) == ""


def test_intervals_of_few_rounds_are_said_to_be(tmp_path):
    few = a_row("few", 1.5)
    for one in few["sides"].values():
        one["rounds"], one["each_ms"] = 5, one["each_ms"][:5]
    content = a_record(*ROWS, few)
    words = "1 of 5 rows have fewer than 6 rounds"
    assert words in " ".join(read(report.report({"a.json": content})[0]).text)
    found = compare(content, content)
    assert "few" not in [change.row["name"] for change in found.changes]
    assert "fewer than 6 rounds are left out: 2" in " ".join(found.warnings)
    assert summary.narrow(a_record(*ROWS)) == ""


def test_a_table_tells_what_a_page_tells():
    flagged = a_row("flagged", 9.0, flags=["P beats the roofline by 2.00: not to be believed"])
    wrong = a_row("odd", 1.0, wrong={"Q": "wrong: off by 3"}, skipped_sides={"R": "no engine"})
    content = a_record(*ROWS, flagged, wrong)
    content["state_before"] = {"load": [1.9, 1, 1]}
    text = "\n".join(summary.page(content, "a.json"))
    for words in (
        "**Note:** the load average was 1.9",
        "**Note:** 1 rows are too noisy to be told: repeat",
        "left out above: 1 rows: flagged n1 (P beats",
        "wrong: odd n1 (Q: wrong: off by 3)",
        "sides left out: R (no engine) in 1 rows",
    ):
        assert words in text, words
    mean, count = summary.means([*ROWS, flagged])["all rows"]
    assert (mean, count) == summary.means(ROWS)["all rows"]
    assert "| flagged |" not in text


def test_pictures_are_the_same_every_time_and_losses_as_long_as_gains(monkeypatch):
    first, second = (pictures.ratio_pictures(ROWS, "t") for _ in range(2))
    assert first == second
    assert pictures.reach_of([("a", report.Ratio(0.2, 0.1, 0.3))]) == pytest.approx(12)
    monkeypatch.setattr(pictures, "MOST_BARS", 3)
    assert len(pictures.ratio_pictures([a_row(str(n), 1.0 + n) for n in range(8)], "t")) == 3


NO_PEER = a_row("alone", 1.0) | {"beside": None, "ratio": None}


@pytest.mark.parametrize("rows", [[], ROWS[:1], [NO_PEER]])
def test_any_number_of_rows_makes_a_page(rows):
    assert report.report({"a.json": a_record(*rows)})[0]


in_clone = pytest.mark.skipif(
    not RECORDED.exists(), reason="source distributions leave out the recorded runs"
)


@in_clone
def test_the_committed_page_is_what_the_command_prints():
    made = summary.page(record.read(RECORDED), RECORDED.name)
    committed = (ROOT / "docs" / "cpu_measured.md").read_text(encoding="utf-8")
    assert committed == "\n".join(made) + "\n"


@in_clone
def test_the_recorded_run_of_schema_1_makes_a_page():
    content = record.read(RECORDED)
    assert content["schema"] == record.SCHEMA
    assert len(content["rows"]) == 119
    assert json.loads(RECORDED.read_text())["schema"] == 1
    content["rows"] = [row for row in content["rows"] if row["group"] == "images"]
    page, files = report.report({RECORDED.name: content})
    assert {f"cpu-2026-11-25-{name}.png" for name in ("means", "images", "errors")} == set(files)
    assert b"image 2048x2048 15x15" in page


def test_a_record_survives_writing_and_reading(tmp_path):
    content = json.loads(json.dumps(a_record(*ROWS)))  # which has no tuples
    record.write(tmp_path / "deep" / "r.json", content)
    assert record.read(tmp_path / "deep" / "r.json") == content
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON"),
        ("[1]", "not a record"),
        ('{"schema": 3}', "schema 3"),
        ('{"schema": 2, "rows": []}', "not a record"),
        ('{"a": 1}', "not a record"),
    ],
)
def test_what_is_no_record_is_said(tmp_path, text, words):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(record.RecordError, match=words):
        record.read(tmp_path / "r.json")


def test_a_place_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(record.RecordError, match="cannot write"):
        record.write(tmp_path / "file" / "r.json", a_record())


# ---- two records ----


def faster(content, factor, rows=slice(None)):
    changed = copy.deepcopy(content)
    for row in changed["rows"][rows]:
        ours = row["sides"][row["ours"]]
        ours["each_ms"] = [ms / factor for ms in ours["each_ms"]]
    return changed


def test_a_change_is_found_with_its_interval():
    before = a_record(*ROWS)
    found = compare(before, faster(before, 1.25))
    assert len(found.changes) == 4
    for change in found.changes:
        assert change.ratio.low <= 1.25 <= change.ratio.high
        assert change.ratio.low > 1
    assert found.mean.value == pytest.approx(1.25, rel=0.05)
    same = compare(before, before)
    assert all(change.ratio.low <= 1 <= change.ratio.high for change in same.changes)


def test_records_are_compared_by_a_peer_they_have_in_common():
    before, after = a_record(*ROWS), a_record(a_row("lost", 1.0), a_row("new", 1.0))
    found = compare(before, after, by="peer")
    (change,) = found.changes
    assert (change.row["name"], change.beside) == ("lost", "P")
    assert change.ratio.value == pytest.approx(2)
    assert len(found.apart) == 4


@in_clone
def test_old_records_compare_by_peers():
    content = record.read(RECORDED)
    found = compare(content, content)
    assert found.by == "peer"
    assert found.mean.value == pytest.approx(1)


def test_what_differs_between_two_records_is_told():
    before, after = a_record(*ROWS), a_record(*ROWS)
    after["device"] = {**after["device"], "model": "other"}
    after["versions"] = {**after["versions"], "numpy": "0.1"}
    after["device"] |= {"threads": 4}
    after["settings"] = {**after["settings"], "cold": False, "algos": ["fft"], "seconds": 0.1}
    words = " ".join(compare(before, after).warnings)
    for change in (
        "threads was 2, then 4",
        "cold was True, then False",
        "algos was auto, then fft",
        "seconds was 1.0, then 0.1",
    ):
        assert change in words
    assert "different devices" in words
    assert "numpy was" in words
    page = report.comparison_page(("a", "b"), compare(before, after))
    assert all(url.startswith("data:") for url in read(page).loads)


def test_records_without_a_row_in_common_are_refused():
    with pytest.raises(record.RecordError, match="no row in common"):
        compare(a_record(ROWS[0]), a_record(ROWS[1]))


# ---- sweeps ----


@pytest.mark.usefixtures("tiny")
def test_a_sweep_fits_what_it_measured(tmp_path):
    swept = Sweep("C", (2, 4, 8), (("H", 6), ("N", 2)))
    cases = swept.cases()
    assert [c.x_shape for c in cases] == [(2, n, 6, 6) for n in (2, 4, 8)]
    assert [c.w_shape for c in cases] == [(n, n, 3, 3) for n in (2, 4, 8)]
    Run.begin(settings(), tmp_path / "s.json", "cuconv bench sweep", [swept]).measure()
    found = record.read(tmp_path / "s.json")
    for n, row in zip((2, 4, 8), found["rows"], strict=True):
        row["sides"]["cuconv plan"]["ms"] = 0.5 * n**1.75
    fit = sweep.fits(found, found["sweeps"][0])["cuconv plan"]
    assert fit.exponent == pytest.approx(1.75)
    assert "time ~ C^1.75" in " ".join(sweep.lines(found))
    page, files = report.report({"s.json": found})
    assert set(files) == {"s-C.png"}
    assert b"1.75" in page


def test_every_size_can_be_varied():
    for name, values in sweep.VALUES.items():
        cases = Sweep(name, values).cases()
        assert len({str(case) for case in cases}) == len(values)
        assert all(min(case.y_shape) > 0 for case in cases)
