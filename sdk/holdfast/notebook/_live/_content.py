"""Content of live views as JSON. Pure. The browser module shows all of it as text, so nothing is escaped here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from holdfast import wire
from holdfast.notebook._feed._speed import Speed
from holdfast.notebook._feed._tracked import Tracked
from holdfast.notebook._html import _appearance, _table
from holdfast.notebook._html._appearance import VERBS, Appearance, Stillness, amount, duration, size
from holdfast.notebook._live._view import Content

_CURVE_HEIGHT = 14


def card_content(appearance: Appearance, *, can_notify: bool = False) -> Content:
    """Return the content of a card. It is `live` while it can change without a click."""
    content: Content = {
        "view": "card",
        "title": appearance.title,
        "kind": appearance.kind,
        "state": appearance.state,
        "tone": appearance.tone,
        "facts": appearance.facts,
        "speed": appearance.speed,
        "note": appearance.note,
        "hint": appearance.hint,
        "lines": _lines(appearance.lines),
        "error": appearance.error,
        "warning": appearance.warning,
        "verbs": [verb for verb in VERBS if verb in appearance.verbs],
        "over": appearance.is_over,
        "live": not appearance.is_over,
        "bell": can_notify and not appearance.is_over,
        "notify": appearance.notify,
    }
    if appearance.fraction is not None:
        content["fraction"] = round(appearance.fraction, 4)
    return content | _still(appearance.stillness)


def _lines(lines: Any) -> Content:
    return {str(number): text for number, text in lines.items()}


def _still(stillness: Stillness | None) -> Content:
    if stillness is None:
        return {}
    return {
        "since": round(stillness.since, 1),
        "patience": round(stillness.patience, 1),
        "still": stillness.what,
    }


def process_row(tracked: Tracked, info: wire.ProcessInfo) -> Content:
    """Return the row of a process. Names are short because 40 rows change several times a second."""
    appearance = _appearance.process_appearance(info, refusal=tracked.refusal, speed=tracked.speed)
    row: Content = {
        "kind": info.work_type,
        "state": appearance.state,
        "tone": appearance.tone,
        "note": appearance.error.partition("\n")[0] or appearance.note,
        "verbs": [verb for verb in VERBS if verb in tracked.verbs and not tracked.pending_verb],
    }
    if appearance.fraction is not None:
        row["at"] = round(appearance.fraction, 3)
    if tracked.speed.rate is not None and appearance.speed:
        row["speed"] = f"{amount(tracked.speed.rate)}/s"
    if tracked.notify:
        row |= {"notify": True, "over": info.has_ended, "title": info.id, "facts": appearance.facts}
    return row | _curve(tracked.speed) | _still(appearance.stillness)


def upload_row(upload: wire.UploadInfo, speed: Speed | None) -> Content:
    """Return the row of an unfinished upload."""
    done = f"{size(upload.offset)} of {size(upload.length)}" if upload.length is not None else size(upload.offset)
    row: Content = {"name": _table.upload_name(upload), "size": done}
    fraction = _appearance.fraction_of(upload.offset, upload.length)
    if fraction is not None:
        row["at"] = round(fraction, 3)
    if speed is None:
        return row
    if speed.rate:
        left = f" · {duration((upload.length - upload.offset) / speed.rate)} left" if upload.length is not None else ""
        row["speed"] = f"{size(speed.rate)}/s{left}"
    return row | _curve(speed) | _still(_appearance.stillness_of(speed))


def file_row(file: wire.FileInfo) -> Content:
    """Return the row of a file."""
    when = f"{file.modified.astimezone():%Y-%m-%d} {_appearance.clock(file.modified)}"
    row: Content = {"size": size(file.size), "modified": when}
    if file.sha256:
        row["digest"] = f"{file.sha256[:12]}…"
    return row


def _curve(speed: Speed) -> Content:
    """Return the rates of the last seconds as heights of a curve."""
    values = speed.history
    if len(values) < 2:
        return {}
    most = max(values) or 1.0
    return {"curve": [round(_CURVE_HEIGHT * value / most) for value in values]}


def table(rows: Iterable[tuple[str, Content]], left_out: int) -> Content:
    """Return a table: its rows by their keys, their order, and the number of those that do not fit in."""
    found = dict(rows)
    return {"rows": found, "order": list(found), "more": max(0, left_out)}
