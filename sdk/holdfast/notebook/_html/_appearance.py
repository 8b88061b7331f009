"""Content of a card at one moment, as values, as HTML and as text. No widget and no request.

Everything from a server is escaped here, because ipywidgets inserts HTML into the page unchanged. The colours work on
light and dark pages: text has the page's colour, and coloured text has a background of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Protocol

from holdfast import wire
from holdfast.notebook._feed._speed import Speed
from holdfast.wire import State, Verb

Unit = Callable[[float], str]
VERBS: tuple[Verb, ...] = ("pause", "resume", "cancel")
"""Verbs that have a button."""

TONES = {"busy": "#1565c0", "waiting": "#8a5a00", "good": "#2e7d32", "bad": "#c62828", "over": "#5f6368"}
"""Background colours. White text has a contrast of at least 4.5 on them, and they are visible on white and on black."""

TONE_OF: dict[State, str] = {
    State.QUEUED: "waiting",
    State.RUNNING: "busy",
    State.PAUSING: "waiting",
    State.PAUSED: "waiting",
    State.CANCELLING: "over",
    State.CANCELLED: "over",
    State.FAILED: "bad",
    State.SUCCEEDED: "good",
}
_TRANSFER_VERBS: dict[str, frozenset[Verb]] = {
    "running": frozenset({"pause", "cancel"}),
    "paused": frozenset({"resume", "cancel"}),
    "failed": frozenset({"resume", "cancel"}),
    "cancelled": frozenset(),
    "succeeded": frozenset(),
}
_TONE_OF_TRANSFER = {
    "running": "busy",
    "paused": "waiting",
    "failed": "bad",
    "cancelled": "over",
    "succeeded": "good",
}
_WAITING_FOR: dict[State, str] = {
    State.QUEUED: "waits for a free slot",
    State.PAUSING: "stops at its next yield",
    State.CANCELLING: "stops at its next yield, then rolls back",
}
_RESULT_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Stillness:
    """Time at which something moved last, by the monotonic clock. Within `patience` seconds it counts as moving."""

    since: float
    patience: float = 0.0
    what: str = "no progress"

    def text(self, now: float) -> str:
        """Return for how long it has not moved, or an empty text while the rate is still true."""
        age = now - self.since
        return "" if age < self.patience else f"{self.what} for {whole_duration(age)}"


@dataclass(frozen=True, slots=True)
class Appearance:
    """Content of a card, as plain text. `fraction` is from 0 to 1, or None if it is unknown.

    `speed` is true only as long as it moves: `pace` replaces it by its age.
    """

    title: str
    kind: str
    state: str
    tone: str
    fraction: float | None = None
    facts: str = ""
    speed: str = ""
    stillness: Stillness | None = None
    note: str = ""
    lines: Mapping[int, str] = field(default_factory=dict)
    error: str = ""
    warning: str = ""
    hint: str = ""
    verbs: frozenset[Verb] = field(default_factory=frozenset)
    notify: bool = False
    is_over: bool = False

    def pace(self, now: float | None = None) -> str:
        """Return rate and time left, or since when it has not moved."""
        still = self.stillness.text(time.monotonic() if now is None else now) if self.stillness is not None else ""
        return still or self.speed


class TransferStatus(Protocol):
    """The parts of a transfer that a card shows."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def progress(self) -> TransferAmounts: ...
    @property
    def error(self) -> BaseException | None: ...


class TransferAmounts(Protocol):
    """Bytes that are done, bytes in all, and bytes a second."""

    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int | None: ...
    @property
    def rate(self) -> float | None: ...


# -- content of cards


def process_appearance(
    info: wire.ProcessInfo,
    *,
    speed: Speed | None = None,
    lines: Mapping[int, str] | None = None,
    offline: str = "",
    offline_since: float | None = None,
    warning: str = "",
    pending_verb: str = "",
    refusal: str = "",
    hint: str = "",
    verbs: frozenset[Verb] = frozenset(),
    notify: bool = False,
) -> Appearance:
    """Return the card of a process.

    `speed` is in the unit of the work, a second. `offline` is the reason why there is no connection, since
    `offline_since` by the monotonic clock. `verbs` are those that are legal now.
    """
    progress = info.progress
    fraction = fraction_of(progress.done, progress.total)
    if fraction is None and info.state is State.SUCCEEDED:
        fraction = 1.0
    facts = facts_of(progress.done, progress.total, fraction, amount)
    rate, stillness = None, None
    if offline:
        stillness = Stillness(offline_since, what="server unreachable") if offline_since is not None else None
    elif info.state is State.RUNNING and speed is not None:
        rate, stillness = speed.rate, stillness_of(speed)
    if info.started is not None and info.ended is not None:
        facts.append(f"took {duration((info.ended - info.started).total_seconds())}")
    if info.state is State.QUEUED and info.retry_at is not None:
        facts.append(f"next attempt at {clock(info.retry_at)}")
    elif info.state in _WAITING_FOR:
        facts.append(_WAITING_FOR[info.state])
    if info.attempt > 1:
        facts.append(f"attempt {info.attempt}")
    if info.state is State.SUCCEEDED and info.result is not None:
        facts.append(f"result {shorten(repr(info.result), _RESULT_LENGTH)}")
    errors = [refusal, error_text(info.error)]
    if info.stalled and info.state is State.RUNNING:
        errors.append("stalled: it has not yielded for a long time. kill() ends it, if its place allows that")
    return Appearance(
        title=info.id,
        kind=info.work_type,
        state="reconnecting" if offline else str(info.state),
        tone="waiting" if offline else TONE_OF[info.state],
        fraction=fraction,
        facts=" · ".join(facts),
        speed=speed_text(progress.done, progress.total, rate, amount),
        stillness=stillness,
        note=info.progress.note,
        lines=lines or {},
        error="\n".join(filter(None, errors)),
        warning=offline or warning,
        hint=_request_hint(pending_verb) or hint,
        verbs=frozenset() if pending_verb else verbs,
        notify=notify,
        is_over=info.has_ended,
    )


def unknown_process_appearance(id: str, url: str, missing: bool, offline: str) -> Appearance:
    """Return the card of a process that the server does not have, or of which nothing is known yet."""
    if offline:
        return Appearance(id, "process", "reconnecting", "waiting", warning=offline)
    if missing:
        return Appearance(id, "process", "gone", "over", error=f"{url} has no process {id!r}")
    return Appearance(id, "process", "loading", "waiting")


def transfer_appearance(
    transfer: TransferStatus, *, pending_verb: str = "", refusal: str = "", hint: str = "", speed: Speed | None = None
) -> Appearance:
    """Return the card of an upload or a download. Amounts are in bytes."""
    state, progress, error = transfer.state, transfer.progress, transfer.error
    fraction = fraction_of(progress.done, progress.total)
    is_running = state == "running"
    errors = [refusal, f"{type(error).__name__}: {error}" if error is not None else ""]
    return Appearance(
        title=transfer.name,
        kind=transfer.kind,
        state=str(state),
        tone=_TONE_OF_TRANSFER[state],
        fraction=fraction,
        facts=" · ".join(facts_of(progress.done, progress.total, fraction, size)),
        speed=speed_text(progress.done, progress.total, progress.rate if is_running else None, size),
        stillness=stillness_of(speed) if is_running and speed is not None else None,
        error="\n".join(filter(None, errors)),
        hint=_request_hint(pending_verb) or ("" if state in ("succeeded", "cancelled") else hint),
        verbs=frozenset() if pending_verb else _TRANSFER_VERBS[state],
        is_over=state in ("succeeded", "cancelled"),
    )


def stillness_of(speed: Speed) -> Stillness | None:
    """Return since when it has not moved; None before its first movement."""
    return None if speed.moved_at is None else Stillness(speed.moved_at, speed.patience)


def _request_hint(verb: str) -> str:
    return f"requesting {verb}…" if verb else ""


def fraction_of(done: float | None, total: float | None) -> float | None:
    """Return how much is done, from 0 to 1; None if it is unknown."""
    if done is None or total is None or not math.isfinite(done) or not math.isfinite(total):
        return None
    return min(1.0, max(0.0, done / total)) if total > 0 else 1.0


def facts_of(done: float | None, total: float | None, fraction: float | None, unit: Unit) -> list[str]:
    """Return percentage and amounts, as far as they are known."""
    facts = []
    if fraction is not None:
        facts.append(f"{fraction:.0%}")
    if done is not None:
        facts.append(f"{unit(done)} of {unit(total)}" if total is not None else unit(done))
    return facts


def speed_text(done: float | None, total: float | None, rate: float | None, unit: Unit) -> str:
    """Return rate and time left, as far as they are known."""
    if rate is None or rate <= 0:
        return ""
    if done is None or total is None or total <= done:
        return f"{unit(rate)}/s"
    return f"{unit(rate)}/s · {duration((total - done) / rate)} left"


def error_text(error: wire.ErrorInfo | None) -> str:
    """Return an error as text, empty for None."""
    if error is None:
        return ""
    text = f"{error.type}: {error.message}"
    return f"{text}\nand its rollback failed: {error.rollback}" if error.rollback else text


# -- HTML


def head_html(appearance: Appearance) -> str:
    """Return state, name and kind. A screen reader reads them aloud when the state changes."""
    badge = (
        f'<span style="background:{TONES[appearance.tone]};color:#fff;border-radius:9px;padding:1px 9px;'
        f'font-size:90%;forced-color-adjust:none">{escape(appearance.state)}</span>'
    )
    return (
        f'<div role="status" style="line-height:1.6;overflow-wrap:anywhere">{badge} '
        f'<b>{escape(appearance.title)}</b> <span style="opacity:.75">{escape(appearance.kind)}</span></div>'
    )


def meter_html(appearance: Appearance) -> str:
    """Return the bar, and under it amounts, rate, note and hint."""
    value = ", ".join(filter(None, [appearance.facts, appearance.note])) or appearance.state
    parts = (appearance.facts, appearance.pace(), appearance.note, appearance.hint)
    text = " · ".join(escape(part) for part in parts if part)
    return (
        f"{bar_html(appearance.fraction, appearance.tone, f'{appearance.kind} {appearance.title}', value)}"
        '<div style="line-height:1.5;min-height:1.5em;padding-top:2px;font-variant-numeric:tabular-nums;'
        f'overflow-wrap:anywhere">{text}</div>'
    )


def bar_html(fraction: float | None, tone: str, label: str, value: str, height: int = 10) -> str:
    """Return a bar, with name and value for screen readers (WAI-ARIA 1.2, progressbar)."""
    known = "" if fraction is None else f' aria-valuenow="{100 * fraction:.0f}"'
    return (
        f'<div role="progressbar" aria-label="{escape(label)}" aria-valuemin="0" aria-valuemax="100"{known} '
        f'aria-valuetext="{escape(value)}" style="height:{height}px;border-radius:{height // 2}px;overflow:hidden;'
        f'background:rgba(128,128,128,.25);box-shadow:inset 0 0 0 1px rgba(128,128,128,.4)">'
        f'<div style="height:100%;width:{100 * (fraction or 0):.2f}%;background:{TONES[tone]};'
        f'forced-color-adjust:none"></div></div>'
    )


def lines_html(appearance: Appearance) -> str:
    """Return the last log lines, or an empty text."""
    if not appearance.lines:
        return ""
    text = "\n".join(map(escape, appearance.lines.values()))
    return (
        '<pre aria-label="log" tabindex="0" style="margin:0;padding:4px 8px;max-height:9em;overflow:auto;'
        f'font-size:90%;line-height:1.4;background:rgba(128,128,128,.12);color:inherit">{text}</pre>'
    )


def alerts_html(appearance: Appearance) -> str:
    """Return the error and the warning, or an empty text."""
    return box_html(appearance.error, "bad") + box_html(appearance.warning, "waiting")


def box_html(text: str, tone: str) -> str:
    """Return a highlighted text that screen readers read aloud (role `alert`); empty for an empty text."""
    if not text:
        return ""
    return (
        f'<div role="alert" style="border-left:4px solid {TONES[tone]};padding:2px 8px;line-height:1.5;'
        f'white-space:pre-wrap;overflow-wrap:anywhere;background:{TONES[tone]}22">{escape(text)}</div>'
    )


def static_html(appearance: Appearance, at: datetime) -> str:
    """Return the whole card without widgets, for saved notebooks, print and pages without a kernel."""
    parts = (
        head_html(appearance),
        meter_html(appearance),
        lines_html(appearance),
        alerts_html(appearance),
        at_html(at),
    )
    return f'<div style="max-width:44em">{"".join(parts)}</div>'


def at_html(at: datetime) -> str:
    """Return the time of the content. It is shown because a saved card does not change any more."""
    return f'<div style="font-size:85%;opacity:.75">as of {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC</div>'


def plain(appearance: Appearance) -> str:
    """Return the whole card as text."""
    bar = "" if appearance.fraction is None else f"[{'#' * round(20 * appearance.fraction):.<20}] "
    first = f"{appearance.kind} {appearance.title}: {appearance.state}"
    second = bar + " · ".join(filter(None, [appearance.facts, appearance.pace(), appearance.note, appearance.hint]))
    return "\n".join(filter(None, [first, second, *appearance.lines.values(), appearance.error, appearance.warning]))


# -- numbers


def amount(value: float) -> str:
    """Return a number without a unit, in about four characters: 950, 14.1 k, 31.1 M."""
    return _scaled(value, 1000, ("", " k", " M", " G", " T", " P"))


def size(value: float) -> str:
    """Return a number of bytes: 950 B, 14.1 kB, 31.1 MB."""
    return _scaled(value, 1000, (" B", " kB", " MB", " GB", " TB", " PB"))


def _scaled(value: float, step: float, units: Sequence[str]) -> str:
    if not math.isfinite(value):
        return str(value)
    sign, value = ("-", -value) if value < 0 else ("", value)
    for unit in units:
        if value < 0.9995 * step or unit == units[-1]:
            break
        value /= step
    text = f"{value:.0f}" if value >= 99.95 else f"{value:.1f}".removesuffix(".0")
    return f"{sign}{text}{unit}"


def duration(seconds: float) -> str:
    """Return a duration: 0.3 s, 45 s, 12 min 5 s, 3 h 20 min, 2 d 4 h."""
    if not math.isfinite(seconds):
        return "a long time"
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    for name, length, lesser, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length} {name}" + (f" {rest} {lesser}" if rest else "")
    return f"{whole} s"


def whole_duration(seconds: float) -> str:
    """Return a duration without parts of a second."""
    return f"{max(0, int(seconds))} s" if seconds < 60 else duration(int(seconds))


def clock(time: datetime) -> str:
    """Return the time of day, in the time zone of the kernel."""
    return time.astimezone().strftime("%H:%M:%S")


def shorten(text: str, most: int) -> str:
    """Return at most `most` characters of the text."""
    return text if len(text) <= most else text[: most - 1] + "…"
