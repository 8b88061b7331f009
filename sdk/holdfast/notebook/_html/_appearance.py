"""What a card shows at one moment, and the same as HTML and as text. Pure: no widget, no request, no clock.

Everything that comes from a server is escaped here, since ipywidgets puts HTML into the page as it is. Colours hold on
light and dark pages: text is the page's own, and what is coloured brings its own background.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from holdfast import wire
from holdfast.wire import State

if TYPE_CHECKING:
    from holdfast._transfers.handles import TransferView

Unit = Callable[[float], str]
Verb = Literal["pause", "resume", "cancel"]
VERBS: tuple[Verb, ...] = ("pause", "resume", "cancel")

LEGAL: dict[State, frozenset[Verb]] = {
    State.QUEUED: frozenset({"pause", "cancel"}),
    State.RUNNING: frozenset({"pause", "cancel"}),
    State.PAUSING: frozenset({"resume", "cancel"}),
    State.PAUSED: frozenset({"resume", "cancel"}),
    State.CANCELLING: frozenset(),
    State.CANCELLED: frozenset(),
    State.FAILED: frozenset({"resume", "cancel"}),
    State.SUCCEEDED: frozenset(),
}
"""What a person may ask for; a test holds it against the server's transition table."""

TONES = {"busy": "#1565c0", "waiting": "#8a5a00", "good": "#2e7d32", "bad": "#c62828", "over": "#5f6368"}
"""Backgrounds on which white text has a contrast of more than 4.5, and that stand out from white and from black."""

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
_LEGAL_FOR_TRANSFER: dict[str, frozenset[Verb]] = {
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
_SO_FAR: dict[State, str] = {
    State.QUEUED: "waits for a free slot",
    State.PAUSING: "stops at its next yield",
    State.CANCELLING: "stops at its next yield, then rolls back",
}
_MOST_RESULT = 300


@dataclass(frozen=True, slots=True)
class Look:
    """What a card shows. All of it is plain text; `share` is from 0 to 1, None while it is not known."""

    title: str
    kind: str
    state: str
    tone: str
    share: float | None = None
    facts: str = ""
    note: str = ""
    lines: Sequence[str] = ()
    trouble: str = ""
    warning: str = ""
    hint: str = ""
    verbs: frozenset[Verb] = field(default_factory=frozenset)


# -- looks


def process_look(
    info: wire.Process,
    *,
    rate: float | None = None,
    lines: Sequence[str] = (),
    offline: str = "",
    warning: str = "",
    asking: str = "",
    refusal: str = "",
    hint: str = "",
) -> Look:
    """A process. `rate` is in the work's unit a second; `offline` says why there is no connection."""
    progress = info.progress
    share = share_of(progress.done, progress.total)
    if share is None and info.state is State.SUCCEEDED:
        share = 1.0
    live = info.state is State.RUNNING and rate is not None and not offline
    facts = facts_of(progress.done, progress.total, share, rate if live else None, amount)
    if info.started is not None and info.ended is not None:
        facts.append(f"took {duration((info.ended - info.started).total_seconds())}")
    if info.state is State.QUEUED and info.retry_at is not None:
        facts.append(f"next attempt at {clock(info.retry_at)}")
    elif info.state in _SO_FAR:
        facts.append(_SO_FAR[info.state])
    if info.attempt > 1:
        facts.append(f"attempt {info.attempt}")
    if info.state is State.SUCCEEDED and info.result is not None:
        facts.append(f"result {shorten(repr(info.result), _MOST_RESULT)}")
    trouble = [refusal, error_text(info.error)]
    if info.stalled and info.state is State.RUNNING:
        trouble.append("stalled: it has not yielded for long; kill() ends it where its place allows that")
    return Look(
        title=info.id,
        kind=info.work_type,
        state="reconnecting" if offline else str(info.state),
        tone="waiting" if offline else TONE_OF[info.state],
        share=share,
        facts=" · ".join(facts),
        note=info.progress.note,
        lines=lines,
        trouble="\n".join(filter(None, trouble)),
        warning=offline or warning,
        hint=_asking(asking) or hint,
        verbs=frozenset() if asking else LEGAL[info.state],
    )


def unknown_look(id: str, url: str, missing: bool, offline: str) -> Look:
    """A process that the server does not have (any more), or of which nothing is known yet."""
    if offline:
        return Look(id, "process", "reconnecting", "waiting", warning=offline)
    if missing:
        return Look(id, "process", "gone", "over", trouble=f"{url} has no process {id!r}")
    return Look(id, "process", "looking", "waiting")


def transfer_look(transfer: TransferView[Any], *, asking: str = "", refusal: str = "", hint: str = "") -> Look:
    """An upload or a download, in bytes."""
    state, progress, error = transfer.state, transfer.progress, transfer.error
    share = share_of(progress.done, progress.total)
    rate = progress.rate if state == "running" else None
    trouble = [refusal, f"{type(error).__name__}: {error}" if error is not None else ""]
    return Look(
        title=transfer.name,
        kind=transfer.kind,
        state=str(state),
        tone=_TONE_OF_TRANSFER[state],
        share=share,
        facts=" · ".join(facts_of(progress.done, progress.total, share, rate, size)),
        trouble="\n".join(filter(None, trouble)),
        hint=_asking(asking) or ("" if state in ("succeeded", "cancelled") else hint),
        verbs=frozenset() if asking else _LEGAL_FOR_TRANSFER[state],
    )


def _asking(verb: str) -> str:
    return f"asking to {verb}…" if verb else ""


def share_of(done: float | None, total: float | None) -> float | None:
    """How much of it is over, from 0 to 1; None while that is not known."""
    if done is None or total is None or not math.isfinite(done) or not math.isfinite(total):
        return None
    return min(1.0, max(0.0, done / total)) if total > 0 else 1.0


def facts_of(done: float | None, total: float | None, share: float | None, rate: float | None, unit: Unit) -> list[str]:
    """Percentage, amounts, rate and time left, as far as they are known."""
    facts = []
    if share is not None:
        facts.append(f"{share:.0%}")
    if done is not None:
        facts.append(f"{unit(done)} of {unit(total)}" if total is not None else unit(done))
    if rate is not None and rate > 0:
        facts.append(f"{unit(rate)}/s")
        if done is not None and total is not None and total > done:
            facts.append(f"{duration((total - done) / rate)} left")
    return facts


def error_text(error: wire.ErrorInfo | None) -> str:
    """An error as a person reads it."""
    if error is None:
        return ""
    text = f"{error.type}: {error.message}"
    return f"{text}\nand rolling it back failed: {error.rollback}" if error.rollback else text


# -- HTML


def head_html(look: Look) -> str:
    """State, name and kind. A screen reader says it when the state changes."""
    badge = (
        f'<span style="background:{TONES[look.tone]};color:#fff;border-radius:9px;padding:1px 9px;'
        f'font-size:90%;forced-color-adjust:none">{escape(look.state)}</span>'
    )
    return (
        f'<div role="status" style="line-height:1.6;overflow-wrap:anywhere">{badge} '
        f'<b>{escape(look.title)}</b> <span style="opacity:.75">{escape(look.kind)}</span></div>'
    )


def meter_html(look: Look) -> str:
    """The bar, and under it what is known of its speed."""
    said = ", ".join(filter(None, [look.facts, look.note])) or look.state
    text = " · ".join(escape(part) for part in (look.facts, look.note, look.hint) if part)
    return (
        f"{bar_html(look.share, look.tone, f'{look.kind} {look.title}', said)}"
        '<div style="line-height:1.5;min-height:1.5em;padding-top:2px;font-variant-numeric:tabular-nums;'
        f'overflow-wrap:anywhere">{text}</div>'
    )


def bar_html(share: float | None, tone: str, label: str, said: str, height: int = 10) -> str:
    """A bar that has its name and value for screen readers (WAI-ARIA 1.2, progressbar)."""
    known = "" if share is None else f' aria-valuenow="{100 * share:.0f}"'
    return (
        f'<div role="progressbar" aria-label="{escape(label)}" aria-valuemin="0" aria-valuemax="100"{known} '
        f'aria-valuetext="{escape(said)}" style="height:{height}px;border-radius:{height // 2}px;overflow:hidden;'
        f'background:rgba(128,128,128,.25);box-shadow:inset 0 0 0 1px rgba(128,128,128,.4)">'
        f'<div style="height:100%;width:{100 * (share or 0):.2f}%;background:{TONES[tone]};'
        f'forced-color-adjust:none"></div></div>'
    )


def lines_html(look: Look) -> str:
    """The end of the log; empty when nothing was logged."""
    if not look.lines:
        return ""
    text = "\n".join(map(escape, look.lines))
    return (
        '<pre aria-label="log" tabindex="0" style="margin:0;padding:4px 8px;max-height:9em;overflow:auto;'
        f'font-size:90%;line-height:1.4;background:rgba(128,128,128,.12);color:inherit">{text}</pre>'
    )


def trouble_html(look: Look) -> str:
    """What went wrong, and what is being waited for; empty when nothing is."""
    return box_html(look.trouble, "bad") + box_html(look.warning, "waiting")


def box_html(text: str, tone: str) -> str:
    """Words that are not to be missed, read aloud when they appear; empty when there are none."""
    if not text:
        return ""
    return (
        f'<div role="alert" style="border-left:4px solid {TONES[tone]};padding:2px 8px;line-height:1.5;'
        f'white-space:pre-wrap;overflow-wrap:anywhere;background:{TONES[tone]}22">{escape(text)}</div>'
    )


def static_html(look: Look, at: datetime) -> str:
    """All of it without widgets: for what is saved, printed or shown where no kernel is."""
    parts = (head_html(look), meter_html(look), lines_html(look), trouble_html(look), at_html(at))
    return f'<div style="max-width:44em">{"".join(parts)}</div>'


def at_html(at: datetime) -> str:
    """When it was so: what has been saved does not move any more."""
    return f'<div style="font-size:85%;opacity:.75">as of {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC</div>'


def plain(look: Look) -> str:
    """All of it as text."""
    bar = "" if look.share is None else f"[{'#' * round(20 * look.share):.<20}] "
    first = f"{look.kind} {look.title}: {look.state}"
    second = bar + " · ".join(filter(None, [look.facts, look.note, look.hint]))
    return "\n".join(filter(None, [first, second, *look.lines, look.trouble, look.warning]))


# -- numbers


def amount(value: float) -> str:
    """A number in a unit that is not known, in four or so characters: 950, 14.1 k, 31.1 M."""
    return _scaled(value, 1000, ("", " k", " M", " G", " T", " P"))


def size(value: float) -> str:
    """Bytes: 950 B, 14.1 kB, 31.1 MB."""
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
    """0.3 s, 45 s, 12 min 5 s, 3 h 20 min, 2 d 4 h."""
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


def clock(time: datetime) -> str:
    """The time of day where the kernel is."""
    return time.astimezone().strftime("%H:%M:%S")


def shorten(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"
