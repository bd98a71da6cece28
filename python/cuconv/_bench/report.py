"""One HTML page of records: pictures and tables inside, nothing fetched."""

from __future__ import annotations

import html
from collections.abc import Sequence

from cuconv import _pages
from cuconv._bench import pictures, sweep
from cuconv._bench.compare import Comparison
from cuconv._bench.run import faults
from cuconv._bench.statistics import Ratio
from cuconv._bench.summary import Row, compared, facts, groups_of, label, lines, notes

STYLE = """
  .wide { overflow-x: auto; }
  .wide img { min-width: 640px; }
  .wide table { font-size: .85rem; white-space: nowrap; }
  .alarm { border: 2px solid #D55E00; border-left-width: .6rem; padding: .5rem 1rem; }
  .note { border-left: .4rem solid #767676; padding: .25rem 1rem; }
  h3 { font-size: 1.15rem; margin: 2rem 0 .25rem; }
  code { overflow-wrap: anywhere; }
  @media (max-width: 700px) { body { padding: 1rem .75rem 3rem; font-size: 15px; }
                              h1 { font-size: 1.5rem; } }
"""
Files = dict[str, bytes]  # PNG files by name
Section = list[str]


class Page:
    """HTML, and the pictures that are in it."""

    def __init__(self) -> None:
        self.body: list[str] = []
        self.files: Files = {}

    def text(self, tag: str, words: str, kind: str = "") -> None:
        mark = f' class="{kind}"' if kind else ""
        self.body.append(f"<{tag}{mark}>{html.escape(words)}</{tag}>")

    def items(self, words: Sequence[str]) -> None:
        self.body.append("<ul>" + "".join(f"<li>{html.escape(w)}</li>" for w in words) + "</ul>")

    def picture(self, name: str, png: bytes | None, title: str) -> None:
        if png is not None:
            self.files[name] = png
            self.body.append(f'<div class="wide">{_pages.picture(png, title)}</div>')

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> None:
        """All columns from `numbers` on are numbers."""
        marks = ["" if i < numbers else ' class="number"' for i in range(len(head))]
        cells = "".join(f"<th{m}>{html.escape(h)}</th>" for m, h in zip(marks, head, strict=True))
        self.body.append(f'<div class="wide"><table><tr>{cells}</tr>')
        for row in rows:
            cells = "".join(
                f"<td{m}>{html.escape(c)}</td>" for m, c in zip(marks, row, strict=True)
            )
            self.body.append(f"<tr>{cells}</tr>")
        self.body.append("</table></div>")

    def alarms(self, words: Sequence[str]) -> None:
        if words:
            self.body.append('<div class="alarm"><b>Not to be believed</b>')
            self.items(words)
            self.body.append("</div>")


def report(records: dict[str, Row]) -> tuple[bytes, Files]:
    """By the names of their files: the page, and its pictures once more by name."""
    page = Page()
    for name, record in records.items():
        stem = name.removesuffix(".json")
        page.text("h2", name)
        page.body.append(f'<p class="facts">{"<br>".join(map(html.escape, facts(record)))}</p>')
        page.body.append(f"<p><code>{html.escape(record['command'])}</code></p>")
        page.alarms(faults(record))
        for warning in notes(record):
            page.text("p", warning, "note")
        if record["purpose"] == "sweep":
            sweep_sections(page, stem, record)
        else:
            run_sections(page, stem, record)
        page.text("h3", "Method")
        page.text("p", record["method"])
    return _pages.page("cuconv bench", page.body, STYLE), page.files


def run_sections(page: Page, stem: str, record: Row) -> None:
    rows = record["rows"]
    if compared(rows):
        page.text("h3", "Geometric means")
        page.text("p", "Of ratios, with the interval that the noise in the rows comes to.")
        page.picture(f"{stem}-means.png", pictures.mean_picture(rows, ""), "geometric means")
    for group, some in groups_of(rows).items():
        page.text("h3", f"{group}")
        page.items(lines(some))
        for number, png in enumerate(pictures.ratio_pictures(some, title_of(record, group)), 1):
            mark = "" if number == 1 else f"-{number}"
            page.picture(f"{stem}-{group}{mark}.png", png, f"ratios of {group}")
    roof = pictures.roofline_picture(record)
    if roof:
        page.text("h3", "Roofline")
        page.text(
            "p",
            "The lines are what a large matrix product and copying and reading of large arrays "
            "reached in this very run. Work is counted by the direct form, so hollow marks, which "
            "stand for algorithms with fewer operations, may lie above the flat line.",
        )
        page.picture(f"{stem}-roofline.png", roof, "roofline")
    page.text("h3", "Errors against float64")
    page.text(
        "p",
        "The largest error of the elements checked, by the root mean square of the result; none is "
        "drawn at 1e-9.",
    )
    page.picture(f"{stem}-errors.png", pictures.error_picture(rows), "errors")
    page.text("h3", "All rows")
    page.table(HEAD, [cells(row) for row in rows], 3)


def title_of(record: Row, group: str) -> str:
    return f"{record['device']['model']}: {group}"


HEAD = ("row", "form", "beside", "ratio", "ms", "peer ms", "of roofline", "error", "peer's error")


def cells(row: Row) -> list[str]:
    if "sides" not in row:
        reason = row.get("failed") or row.get("skipped") or ""
        word = "FAILED: " if "failed" in row else "left out: "
        return [f"{row['group']}: {label(row)}", word + reason, *[""] * (len(HEAD) - 2)]
    ours, beside = row["sides"][row["ours"]], row.get("beside")
    theirs = row["sides"].get(beside, {})
    ratio = Ratio.of(row)
    of = ours.get("of_roofline")
    return [
        f"{row['group']}: {label(row)}",
        row.get("variant") or row.get("algo") or "",
        beside or "",
        str(ratio) if ratio else "",
        f"{ours['ms']:.3f}",
        f"{theirs['ms']:.3f}" if theirs else "",
        "" if of is None else f"{100 * of:.0f}%",
        error_of(row, row["ours"]),
        error_of(row, beside),
    ]


def error_of(row: Row, name: str | None) -> str:
    found = row.get("errors", {}).get(name)
    return f"{found['largest']:.1e}" if found else ""


def sweep_sections(page: Page, stem: str, record: Row) -> None:
    page.text(
        "p",
        "Exponents are slopes of logarithms by least squares, with Student's 95% interval: "
        "it holds the noise, and whatever departs from a power.",
    )
    for one in record["sweeps"]:
        page.text("h3", f"{one['vary']} varied")
        png = pictures.sweep_picture(record, one)
        page.picture(f"{stem}-{one['vary']}.png", png, f"time over {one['vary']}")
        found = sweep.fits(record, one)
        page.items([f"{name}: time ~ {one['vary']}^{fit}" for name, fit in found.items()])
    page.table(HEAD, [cells(row) for row in record["rows"]], 3)


# ---- two records ----

CHANGE = "time before / time now: right of 1 it became faster"


def change_picture(comparison: Comparison) -> bytes:
    bars = sorted(
        ((label(change.row), change.ratio) for change in comparison.changes),
        key=pictures.by_value,
    )
    reach = pictures.reach_of(bars)
    return pictures.ratio_picture(bars, "second record against the first", CHANGE, reach)


def comparison_page(names: Sequence[str], comparison: Comparison) -> bytes:
    page = Page()
    page.text("h2", f"{names[0]}, then {names[1]}")
    page.items(comparison_lines(comparison))
    page.picture("compare.png", change_picture(comparison), "changes")
    rows = [
        [f"{c.row['group']}: {label(c.row)}", c.beside, str(c.ratio)]
        for c in sorted(comparison.changes, key=lambda c: c.ratio.value)
    ]
    page.table(("row", "by", "change"), rows, 2)
    return _pages.page("cuconv bench compare", page.body, STYLE)


def comparison_lines(comparison: Comparison) -> list[str]:
    ratios = [change.ratio for change in comparison.changes]
    slower = sum(ratio.high < 1 for ratio in ratios)
    faster = sum(ratio.low > 1 for ratio in ratios)
    found = [
        f"geometric mean of {len(ratios)} rows: {comparison.mean}; above 1 the second is faster",
        f"slower in {slower} rows, faster in {faster}, the others undecided (intervals hold 1)",
        *comparison.warnings,
    ]
    if comparison.apart:
        found.append(f"only in one of the two: {len(comparison.apart)} rows")
    return found
