"""Write one HTML page with the table, the picture and how it was measured; it needs no network."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Sequence

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #666; --bad: #b03020; }
@media (prefers-color-scheme: dark) { :root { --faint: #aaa; --bad: #ff8a7a; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.units { color: var(--faint); margin-top: .5rem; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .45rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
figure { background: #fff; border-radius: .5rem; margin: 1.5rem 0; padding: .5rem; }
figure svg { height: auto; width: 100%; }
dl { display: grid; gap: .2rem 1rem; grid-template-columns: max-content 1fr; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
.bad { color: var(--bad); }
"""


def write(
    path: Path,
    *,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    picture: str,
    facts: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> None:
    """Write the page.

    Args:
        path: the file.
        title: the heading.
        columns: of the table.
        rows: likewise.
        caption: the units.
        picture: an SVG element.
        facts: what was measured and where, as names and values.
        notes: what a reader must not miss.
    """
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>" for row in rows
    )
    listed = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts
    )
    warnings = "".join(f'<p class="bad">{html.escape(note)}</p>' for note in notes)
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{_STYLE}</style></head>
<body><h1>{html.escape(title)}</h1>
{warnings}
<div class="scroll"><table>
<thead><tr>{heads}</tr></thead><tbody>
{body}
</tbody></table></div>
<p class="units">{html.escape(caption)}</p>
<figure>{picture}</figure>
<dl>{listed}</dl>
</body></html>
"""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
