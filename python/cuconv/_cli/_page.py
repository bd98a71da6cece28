"""The demo's HTML page: one file with its pictures inside."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from cuconv import _pages
from cuconv._cli._figures import Section


@dataclass(frozen=True)
class Timing:
    step: str
    work: str  # what was computed, with sizes
    seconds: float


def page_html(
    heading: str,
    facts: Sequence[str],
    parts: Sequence[tuple[Section, bytes]],
    timings: Sequence[Timing],
) -> bytes:
    """The page. `facts` are lines under the heading; each part comes with its PNG file."""
    body = [f'<p class="facts">{"<br>".join(html.escape(fact) for fact in facts)}</p>']
    for section, png in parts:
        body += [
            f"<section><h2>{html.escape(section.title)}</h2>",
            f"<p>{html.escape(section.caption)}</p>",
            _pages.picture(png, section.title),
            "</section>",
        ]
    body += [
        "<section><h2>Timings</h2>",
        "<p>One run each, the first in its process; on a GPU with the loading of kernels.</p>",
        '<table><tr><th>Step</th><th>Work</th><th class="number">Milliseconds</th></tr>',
    ]
    for t in timings:
        cells = f"<td>{html.escape(t.step)}</td><td>{html.escape(t.work)}</td>"
        body.append(f'<tr>{cells}<td class="number">{t.seconds * 1e3:.1f}</td></tr>')
    total = sum(t.seconds for t in timings)
    body.append(f'<tr><th>Total</th><th></th><th class="number">{total * 1e3:.1f}</th></tr>')
    body.append("</table></section>")
    return _pages.page(heading, body)
