"""A record in words and numbers: means, what was lost, Markdown tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from cuconv._bench.statistics import FEWEST_ROUNDS, Ratio, geometric_mean

Row = dict[str, Any]
BUSY = 0.35  # load average, by the number of cores


def groups_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """In the order of the rows."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["group"], []).append(row)
    return found


def how_of(row: Row) -> str:
    """What a row is besides a layer: empty for float32 forward NCHW."""
    usual = {"kind": "float32", "direction": "forward", "layout": "NCHW"}
    return " ".join(row[name] for name, value in usual.items() if row[name] != value)


def label(row: Row) -> str:
    return " ".join(filter(None, [row["name"], f"n{row['x_shape'][0]}", how_of(row)]))


def compared(rows: Sequence[Row]) -> list[tuple[Row, Ratio]]:
    """Rows beside a peer, with their ratios; none that is not to be believed."""
    found = ((row, Ratio.of(row)) for row in rows if not row.get("flags"))
    return [(row, ratio) for row, ratio in found if ratio is not None]


def means(rows: Sequence[Row]) -> dict[str, tuple[Ratio, int]]:
    """Geometric means by what rows have in common, and of how many; none that all rows have."""
    kinds: dict[str, list[Row]] = {"all rows": list(rows)}
    kinds["3x3 stride 1"] = [row for row in rows if row.get("plain_3x3")]
    for name in ("kind", "direction", "layout"):
        values = sorted({row[name] for row in rows})
        if len(values) > 1:
            kinds |= {value: [row for row in rows if row[name] == value] for value in values}
    for batch in sorted({row["x_shape"][0] for row in rows}):
        kinds[f"batch {batch}"] = [row for row in rows if row["x_shape"][0] == batch]
    found = {words: [ratio for _, ratio in compared(some)] for words, some in kinds.items()}
    every = len(found["all rows"])
    return {
        words: (geometric_mean(some), len(some))
        for words, some in found.items()
        if some and (words == "all rows" or len(some) < every)
    }


def lines(rows: Sequence[Row]) -> list[str]:
    """Means with intervals, the worst row, and what failed."""
    text = [
        f"geometric mean of {words}: {mean} ({count} rows)"
        for words, (mean, count) in means(rows).items()
    ]
    if good := compared(rows):
        slower = sum(ratio.high < 1 for _, ratio in good)
        faster = sum(ratio.low > 1 for _, ratio in good)
        text.append(
            f"slower in {slower} rows, faster in {faster}, undecided in "
            f"{len(good) - slower - faster} (their intervals hold 1)"
        )
        if told := [(row, ratio) for row, ratio in good if not ratio.noisy]:
            worst, ratio = min(told, key=lambda pair: pair[1].value)
            text.append(f"worst that is told: {ratio.value:.2f}, {label(worst)}")
        if len(told) < len(good):
            text.append(f"too noisy to be told: {len(good) - len(told)} rows")
    if failed := [label(row) for row in rows if "failed" in row]:
        text.append(f"failed: {', '.join(failed)}")
    if flagged := [f"{label(row)} ({flag})" for row in rows for flag in row.get("flags", [])]:
        count = sum(bool(row.get("flags")) for row in rows)
        text.append(f"impossible, and left out above: {count} rows: {', '.join(flagged)}")
    if wrong := [
        f"{label(row)} ({name}: {why})"
        for row in rows
        for name, why in row.get("wrong", {}).items()
    ]:
        text.append(f"wrong: {', '.join(wrong)}")
    left_out = Counter(
        f"{name} ({why})" for row in rows for name, why in row.get("skipped_sides", {}).items()
    )
    if left_out:
        each = (f"{words} in {count} rows" for words, count in left_out.items())
        text.append(f"sides left out: {'; '.join(each)}")
    if skipped := [f"{label(row)} ({row['skipped']})" for row in rows if "skipped" in row]:
        text.append(f"skipped: {', '.join(skipped)}")
    return text


def advice(record: Row) -> str:
    """How to make what was too noisy narrower; empty where nothing was."""
    noisy = [ratio for _, ratio in compared(record["rows"]) if ratio.noisy]
    seconds = record["settings"].get("seconds")
    if not noisy or not seconds:
        return ""
    needed = sorted(ratio.seconds_needed(seconds) for ratio in noisy)[len(noisy) // 2]
    return f"{len(noisy)} rows are too noisy to be told: repeat with --seconds {needed:g}"


def notes(record: Row) -> list[str]:
    """What every page says on top of its numbers."""
    return [words for words in (advice(record), busy(record), narrow(record)) if words]


def busy(record: Row) -> str:
    """Threads that wait for each other, as PyTorch's do, lose most to a busy core: a ratio taken
    beside other work can be many times too good for cuconv."""
    load, cores = record["state_before"].get("load"), record["device"].get("cores") or 1
    if not load or load[0] <= BUSY * cores:
        return ""
    return (
        f"the load average was {load[0]} on {cores} cores when this began: other work ran here, "
        "which slows PyTorch's threads many times more than cuconv; such ratios are not to be kept"
    )


def few_rounds(rows: Sequence[Row]) -> int:
    """Rows whose interval is of fewer rounds than it needs; old records have such."""
    return sum(
        min(side.get("rounds", FEWEST_ROUNDS) for side in row["sides"].values()) < FEWEST_ROUNDS
        for row in rows
        if row.get("sides")
    )


def narrow(record: Row) -> str:
    count = few_rounds(record["rows"])
    if not count:
        return ""
    return (
        f"{count} of {len(record['rows'])} rows have fewer than {FEWEST_ROUNDS} rounds: their "
        "intervals, and those of means with them, cover less than 95%"
    )


def megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.1f}"


def table(rows: Sequence[Row]) -> list[str]:
    text = [
        "| row | N | form | ratio | beside | peak MB | said MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, ratio in compared(rows):
        name = " ".join(filter(None, [row["name"], how_of(row)]))
        text.append(
            f"| {name} | {row['x_shape'][0]} | {row.get('variant') or ''} | {ratio} "
            f"| {row['beside']} | {megabytes(row.get('peak_bytes'))} "
            f"| {megabytes(row.get('workspace_bytes'))} |"
        )
    return text


def facts(record: Row) -> list[str]:
    """What a reader has to know before the numbers."""
    device, before, after = (record[n] for n in ("device", "state_before", "state_after"))
    threads = f", {device['threads']} threads" if "threads" in device else ""
    versions = ", ".join(f"{key} {value}" for key, value in record["versions"].items() if value)
    found = [f"{record['date']}, {device['model']}{threads}; commit {record['commit'][:12]}"]
    found.append(versions)
    if load := before.get("load"):
        found.append(f"load average before {load[0]}, after {after.get('load', ['unknown'])[0]}")
    elif before:
        found.append(f"before: {told(before)}; after: {told(after)}")
    for name, why in record["missing"].items():
        found.append(f"without {name}: {why}")
    if limits := record.get("roofline"):
        rates = limits["multiply_adds_per_s"].items()
        products = ", ".join(f"{kind} {2 * rate / 1e9:,.0f}" for kind, rate in rates if rate)
        found.append(
            f"limits measured in this run: {limits['bytes_per_s'] / 1e9:,.1f} GB/s; products in "
            f"Gflop/s: {products}"
        )
    if not record["complete"]:
        found.append(f"incomplete: {len(record['rows'])} of {record['planned']} rows")
    return found


def told(state: Row) -> str:
    return ", ".join(f"{name} {value}" for name, value in state.items())


def page(record: Row, name: str) -> list[str]:
    """Markdown: how docs/cpu_measured.md is made."""
    text = [
        "# The CPU, measured" if record["device"]["device"] == "cpu" else "# The GPU, measured",
        "",
        f"Made by `cuconv bench table bench/results/{name}`; not to be edited.",
        "",
        f"{'; '.join(facts(record))}. `{record['command']}`",
        "",
        record["method"],
        "",
        "A ratio whose interval is wider than a factor of 1.5 is not told. The interval of a mean "
        "is that of the noise in its rows, noisy ones included.",
    ]
    for words in notes(record):
        text += ["", f"**Note:** {words}."]
    for group, rows in groups_of(record["rows"]).items():
        text += ["", f"## {group}", "", *(f"- {line}" for line in lines(rows)), "", *table(rows)]
    return text
