"""Prints a record of `time_cpu.py` as Markdown tables: docs/cpu_measured.md is made by this.

python bench/table_cpu.py bench/results/cpu-2026-11-25.json > docs/cpu_measured.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from _cpu_report import summary
from _timing import fail


def megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.1f}"


def table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| row | N | form | ratio | beside | peak MB | said MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.get("ratio") is None:
            continue
        low, high = row["interval"]
        lines.append(
            f"| {row['name']} | {row['x_shape'][0]} | {row.get('variant') or ''} "
            f"| {row['ratio']:.2f} ({low:.2f} to {high:.2f}) | {row['beside']} "
            f"| {megabytes(row.get('peak_bytes'))} | {megabytes(row.get('workspace_bytes'))} |"
        )
    return lines


def page(record: dict[str, Any], name: str) -> list[str]:
    versions = ", ".join(f"{key} {value}" for key, value in record["versions"].items())
    lines = [
        "# The CPU, measured",
        "",
        f"Made by `python bench/table_cpu.py bench/results/{name}`; not to be edited.",
        "",
        f"{record['date']}, {record['cpu']}, {record['threads']} threads; commit "
        f"{record['commit'][:12]}; {versions}; load average before {record['load_before'][0]}, "
        f"after {record['load_after'][0]}. `{record['command']}`",
        "",
        record["method"],
    ]
    for group in dict.fromkeys(row["group"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["group"] == group]
        means = [f"- {line.strip()}" for line in summary(rows)]
        lines += ["", f"## {group}", "", *means, "", *table(rows)]
    return lines


def main() -> None:
    if len(sys.argv) != 2:
        fail("takes one record: bench/results/cpu-DATE.json")
    path = Path(sys.argv[1])
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fail(f"cannot read {path}: {error}")
    print("\n".join(page(record, path.name)))


if __name__ == "__main__":
    main()
