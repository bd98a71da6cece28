"""The demo's HTML page: one file with its pictures inside."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

from cuconv._cli._figures import Section

STYLE = """
  body { margin: 0 auto; max-width: 1180px; padding: 2rem 1.25rem 4rem; color: #1b1f24;
         background: #fff; font: 17px/1.55 system-ui, sans-serif; }
  h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5rem; }
  h2 { font-size: 1.45rem; margin: 3rem 0 .25rem; }
  p { max-width: 60rem; margin: .25rem 0 1rem; }
  .facts { color: #57606a; }
  img { display: block; width: 100%; height: auto; }
  table { border-collapse: collapse; margin-top: .5rem; }
  th, td { text-align: left; padding: .35rem 1.5rem .35rem 0; border-bottom: 1px solid #d8dee4; }
  td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
"""


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
    body = [f"<h1>{html.escape(heading)}</h1>"]
    body += [f'<p class="facts">{"<br>".join(html.escape(fact) for fact in facts)}</p>']
    for section, png in parts:
        picture = base64.b64encode(png).decode()
        body += [
            f"<section><h2>{html.escape(section.title)}</h2>",
            f"<p>{html.escape(section.caption)}</p>",
            f'<img alt="{html.escape(section.title)}" src="data:image/png;base64,{picture}">',
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
    page = (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(heading)}</title>\n<style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )
    return page.encode("utf-8", errors="xmlcharrefreplace")
