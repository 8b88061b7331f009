"""Texts of cards, as pure functions."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast import wire
from holdfast.notebook._feed._speed import Speed
from holdfast.notebook._html import _appearance, _table
from holdfast.notebook._html._appearance import Stillness, amount, duration, process_appearance, size
from holdfast.wire import State

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def process(**changes: Any) -> wire.Process:
    progress = wire.ProgressInfo(250.0, 1000.0, "row 250")
    values = {"id": "p", "work_type": "walk", "params": {}, "state": State.RUNNING, "progress": progress}
    return wire.Process(**{**values, "created": NOW, "started": NOW, **changes})


def test_no_button_is_enabled_while_a_request_is_pending() -> None:
    shown = process_appearance(process(), verbs=frozenset({"pause"}))
    assert (shown.verbs, shown.hint) == ({"pause"}, "")
    pending = process_appearance(process(), verbs=frozenset({"pause"}), pending_verb="pause")
    assert (pending.verbs, pending.hint) == (frozenset(), "requesting pause…")


def test_a_running_process_shows_share_amounts_rate_and_time_left() -> None:
    shown = process_appearance(process(), speed=moving())
    assert shown.facts == "25% · 250 of 1 k"
    assert shown.pace() == "50/s · 15 s left"
    assert shown.note == "row 250"
    assert shown.fraction == 0.25


def moving(age: float = 0.0) -> Speed:
    """50 a second, when it moved last."""
    speed = Speed()
    speed.rate = 50.0
    speed.moved(time.monotonic() - age)
    return speed


def test_what_does_not_move_shows_since_when_in_place_of_a_rate_and_a_time_left() -> None:
    still = process_appearance(process(), speed=moving(40))
    assert still.pace() == "no progress for 40 s"
    html = _appearance.static_html(still, NOW)
    assert "no progress for 40 s" in html
    assert "50/s" not in html
    assert "15 s left" not in html
    assert process_appearance(process(), speed=moving(4)).pace() == "50/s · 15 s left"
    paused = process_appearance(process(state=State.PAUSED), speed=moving(40))
    assert paused.pace() == ""
    row = _table.process_row(still, moving(40))
    assert "no progress for 40 s" in row
    assert "50/s" not in row


def test_what_moves_in_long_steps_keeps_its_rate_for_some_of_them() -> None:
    speed = Speed()
    for step in range(6):
        speed.moved(20.0 * step)
    assert 40 < speed.patience <= 60
    assert Stillness(100.0, speed.patience).text(130.0) == ""
    assert Stillness(100.0, speed.patience).text(190.0) == "no progress for 1 min 30 s"


def test_a_server_that_is_gone_shows_since_when() -> None:
    gone = process_appearance(process(), speed=moving(), offline="x", offline_since=time.monotonic() - 12)
    assert gone.pace() == "server unreachable for 12 s"


def test_what_is_not_known_is_left_out() -> None:
    shown = process_appearance(process(progress=wire.ProgressInfo()))
    assert (shown.fraction, shown.facts, shown.note) == (None, "", "")
    assert "aria-valuenow" not in _appearance.meter_html(shown)
    assert process_appearance(process(progress=wire.ProgressInfo(3.0))).facts == "3"


def test_an_ended_process_shows_how_long_it_took_and_its_result() -> None:
    shown = process_appearance(process(state=State.SUCCEEDED, ended=NOW + timedelta(seconds=75), result={"rows": 5}))
    assert shown.facts.endswith("took 1 min 15 s · result {'rows': 5}")


def test_a_failed_process_shows_its_error_and_that_of_its_rollback() -> None:
    shown = process_appearance(process(state=State.FAILED, error=wire.ErrorInfo("ValueError", "no", "nor back")))
    assert shown.error == "ValueError: no\nand its rollback failed: nor back"


def test_what_is_on_its_way_says_what_it_waits_for() -> None:
    assert (
        process_appearance(process(state=State.QUEUED, progress=wire.ProgressInfo())).facts == "waits for a free slot"
    )
    assert process_appearance(process(state=State.PAUSING)).facts.endswith(" · stops at its next yield")
    assert process_appearance(process(state=State.CANCELLING)).facts.endswith(
        "stops at its next yield, then rolls back"
    )
    again = process_appearance(process(state=State.QUEUED, retry_at=NOW))
    assert "next attempt at " in again.facts
    assert "slot" not in again.facts


def test_a_lost_connection_is_shown_in_place_of_the_state() -> None:
    shown = process_appearance(process(), speed=moving(), offline="no connection")
    assert (shown.state, shown.warning) == ("reconnecting", "no connection")
    assert "/s" not in shown.pace()


def test_nothing_that_a_server_sends_becomes_markup() -> None:
    evil = "<img src=x onerror=alert(1)>\"'"
    shown = process_appearance(
        process(
            id=evil,
            work_type=evil,
            progress=wire.ProgressInfo(1.0, 2.0, evil),
            error=wire.ErrorInfo(evil, evil, evil),
            result=evil,
            state=State.SUCCEEDED,
        ),
        lines={1: evil},
        refusal=evil,
        offline=evil,
        hint=evil,
    )
    html = _appearance.static_html(shown, NOW)
    assert "<img" not in html
    assert html.count("&lt;img") >= 9
    assert evil not in html


def test_as_text_it_says_the_same() -> None:
    text = _appearance.plain(process_appearance(process(), speed=moving(), lines={1: "began"}, refusal="no"))
    assert text.splitlines() == [
        "walk p: running",
        "[#####...............] 25% · 250 of 1 k · 50/s · 15 s left · row 250",
        "began",
        "no",
    ]


def test_a_row_shows_a_rate_only_of_what_runs() -> None:
    """The last word of a pausing process about its progress may come after that it pauses."""
    speed = moving()
    assert "50/s" in _table.process_row(process_appearance(process(), speed=speed), speed)
    assert "50/s" not in _table.process_row(process_appearance(process(state=State.PAUSED), speed=speed), speed)


def test_the_bar_has_a_name_and_a_value_for_screen_readers() -> None:
    html = _appearance.meter_html(process_appearance(process()))
    assert 'role="progressbar" aria-label="walk p" aria-valuemin="0" aria-valuemax="100" aria-valuenow="25"' in html
    assert 'aria-valuetext="25% · 250 of 1 k, row 250"' in html


@pytest.mark.parametrize("colour", _appearance.TONES.values())
def test_white_on_a_badge_and_a_badge_on_any_page_can_be_told_apart(colour: str) -> None:
    """WCAG 2.2: 4.5 for text (1.4.3), 3 for what is not (1.4.11), there against white and JupyterLab's dark grey."""
    assert contrast("#ffffff", colour) >= 4.5
    assert contrast("#111111", colour) >= 3


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (950, "950"), (999.96, "1 k"), (1500, "1.5 k"), (336_776, "337 k"), (31_053_850, "31.1 M")],
)
def test_amounts_are_short(value: float, text: str) -> None:
    assert amount(value) == text


def test_sizes_have_units_and_what_is_no_number_stays_what_it_is() -> None:
    assert (size(0), size(31_053_850), size(1e12)) == ("0 B", "31.1 MB", "1 TB")
    assert (amount(float("inf")), amount(-1500)) == ("inf", "-1.5 k")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min"), (725, "12 min 5 s"), (12_000, "3 h 20 min")],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text
