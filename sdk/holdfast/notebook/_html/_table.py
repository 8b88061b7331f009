"""Tables of processes, uploads and files, as HTML. Pure; everything from a server is escaped."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from html import escape

from holdfast import wire
from holdfast.notebook._feed._speed import Speed
from holdfast.notebook._html._appearance import (
    TONES,
    Appearance,
    amount,
    bar_html,
    clock,
    duration,
    fraction_of,
    size,
    stillness_of,
)

MAX_ROWS = 200
"""Most rows of one table. More rows would slow the browser down."""

_STYLE = """<style>
.holdfast-table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;line-height:1.45}
.holdfast-table th,.holdfast-table td{text-align:left;padding:2px 10px 2px 2px;white-space:nowrap;vertical-align:middle;
border-bottom:1px solid rgba(128,128,128,.25)}
.holdfast-table td:last-child{white-space:normal;overflow-wrap:anywhere;min-width:8em}
.holdfast-table .n{text-align:right}
.holdfast-table .w{width:130px}
.holdfast-table small{opacity:.75}
.holdfast-badge{color:#fff;border-radius:8px;padding:0 7px;font-size:90%;forced-color-adjust:none}
</style>"""

_CELL = "text-align:left;padding:2px 10px 2px 2px;vertical-align:middle"
_NUMBER = "text-align:right;padding:2px 10px 2px 2px;white-space:nowrap"
_INLINE = {
    _STYLE: "",
    'class="holdfast-table"': 'style="border-collapse:collapse;font-variant-numeric:tabular-nums;line-height:1.45"',
    'class="holdfast-badge" style="': 'style="color:#fff;border-radius:8px;padding:0 7px;font-size:90%;',
    "<td>": f'<td style="{_CELL}">',
    'class="n"': f'style="{_NUMBER}"',
    'class="w"': f'style="{_CELL};width:130px"',
    '<th scope="row">': f'<th scope="row" style="{_CELL}">',
    '<th scope="col">': f'<th scope="col" style="{_CELL}">',
}
"""The same look without a style sheet. Texts from a server are escaped, so none of these is in them."""


def standalone(html: str) -> str:
    """Return tables with their style in themselves, for a page that is not ours: a saved notebook."""
    for sheet, own in _INLINE.items():
        html = html.replace(sheet, own)
    return html


def row(*cells: str) -> str:
    """Return a row of these cells."""
    return f"<tr>{''.join(cells)}</tr>"


def cell(html: str) -> str:
    """Return a cell."""
    return f"<td>{html}</td>"


def number(text: str) -> str:
    """Return a right-aligned cell, for a number."""
    return f'<td class="n">{text}</td>'


def bar_cell(html: str) -> str:
    """Return a cell of the width of a bar."""
    return f'<td class="w">{html}</td>'


def head(html: str) -> str:
    """Return the cell that is the header of its row."""
    return f'<th scope="row">{html}</th>'


def badge(state: str, tone: str) -> str:
    """Return a state on a background in its colour."""
    return f'<span class="holdfast-badge" style="background:{TONES[tone]}">{escape(state)}</span>'


def process_row(appearance: Appearance, speed: Speed) -> str:
    """Return a row of the table of processes."""
    percent = "" if appearance.fraction is None else f"{appearance.fraction:.0%}"
    bar = bar_html(
        appearance.fraction, appearance.tone, f"{appearance.kind} {appearance.title}", percent or appearance.state, 8
    )
    still = appearance.stillness.text(time.monotonic()) if appearance.stillness is not None else ""
    rate = still or (f"{amount(speed.rate)}/s" if speed.rate is not None and appearance.speed else "")
    note = escape(appearance.error.partition("\n")[0] or appearance.note)
    name = f"{escape(appearance.title)} <small>{escape(appearance.kind)}</small>"
    line = sparkline(speed.history, TONES[appearance.tone])
    state = cell(badge(appearance.state, appearance.tone))
    return row(state, head(name), bar_cell(bar), number(percent), cell(line), number(rate), cell(note))


def processes_html(rows: Sequence[str], left_out: int) -> str:
    """Return the table of processes."""
    heads = ("State", "Process", "Progress", "", "", ">Rate", "Note")
    return table_html("processes", heads, rows, "no process matches", left_out)


def upload_name(upload: wire.UploadInfo) -> str:
    """Return the name of the file that is uploaded. A partial upload has no name of its own."""
    return upload.name or "part of a file"


def upload_row(upload: wire.UploadInfo, speed: Speed | None) -> str:
    """Return a row of the table of uploads."""
    fraction = fraction_of(upload.offset, upload.length)
    percent = "" if fraction is None else f"{fraction:.0%}"
    done = f"{size(upload.offset)} of {size(upload.length)}" if upload.length is not None else size(upload.offset)
    stillness = stillness_of(speed) if speed is not None else None
    still = stillness.text(time.monotonic()) if stillness is not None else ""
    rate = speed.rate if speed is not None and not still else None
    left = (upload.length - upload.offset) / rate if rate and upload.length is not None else None
    bar = bar_html(fraction, "busy", f"upload of {upload_name(upload)}", percent, 8)
    line = sparkline(speed.history, TONES["busy"]) if speed is not None else ""
    more = "" if left is None else f" · {duration(left)} left"
    speed_text = still if rate is None else f"{size(rate)}/s"
    name = head(escape(upload_name(upload)))
    return row(name, bar_cell(bar), number(percent), cell(line), number(speed_text), cell(done + more))


def uploads_html(rows: Sequence[str], left_out: int) -> str:
    """Return the table of uploads."""
    heads = ("Upload", "Progress", "", "", ">Rate", "Size")
    return table_html("uploads", heads, rows, "no upload is going on", left_out)


def file_row(file: wire.FileInfo) -> str:
    """Return a row of the table of files."""
    when = f"{file.modified.astimezone():%Y-%m-%d} {clock(file.modified)}"
    digest = f"{file.sha256[:12]}…" if file.sha256 else ""
    return row(head(escape(file.name)), number(size(file.size)), cell(when), cell(digest))


def files_html(rows: Sequence[str], left_out: int) -> str:
    """Return the table of files."""
    return table_html("files", ("File", ">Size", "Modified", "SHA-256"), rows, "no file matches", left_out)


def table_html(label: str, heads: Iterable[str], rows: Sequence[str], empty_text: str, left_out: int) -> str:
    """Return a table with a label, and under it the number of rows that were left out."""
    if not rows:
        return f"{_STYLE}<div><small>{empty_text}</small></div>"
    top = "".join(map(_head, heads))
    more = f"<div><small>and {left_out:,} more: narrow the filter</small></div>" if left_out > 0 else ""
    return (
        f'{_STYLE}<table class="holdfast-table" aria-label="{label}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>{more}"
    )


def _head(name: str) -> str:
    """Return the header of a column. `>` before the name aligns a column of numbers to the right."""
    if not name:
        return cell("")
    return f'<th scope="col" class="n">{name[1:]}</th>' if name.startswith(">") else f'<th scope="col">{name}</th>'


def sparkline(values: Collection[float], colour: str) -> str:
    """Return a curve of the values, the newest on the right; empty for fewer than two values."""
    if len(values) < 2:
        return ""
    most = max(values) or 1.0
    step = 60 / (len(values) - 1)
    points = " ".join(f"{i * step:.0f},{15 - 14 * value / most:.0f}" for i, value in enumerate(values))
    return (
        '<svg width="60" height="16" viewBox="0 0 60 16" aria-hidden="true" style="display:block">'
        f'<polygon points="0,16 {points} 60,16" fill="{colour}" fill-opacity=".25"/>'
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/></svg>'
    )
