"""HTML pages that are one file: style and pictures inside, nothing fetched."""

from __future__ import annotations

import base64
import html

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


def page(heading: str, body: list[str], style: str = "") -> bytes:
    """`heading` is text, `body` is lines of HTML, `style` what comes on top of STYLE."""
    text = (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(heading)}</title>\n<style>{STYLE}{style}</style></head>\n<body>\n"
        + "\n".join([f"<h1>{html.escape(heading)}</h1>", *body])
        + "\n</body>\n</html>\n"
    )
    return text.encode("utf-8", errors="xmlcharrefreplace")


def picture(png: bytes, title: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'
