"""State of a process in a feed: from answers and events, in whatever order they arrive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast import wire
from holdfast.notebook._feed._tracked import LOG_LINES, Tracked
from holdfast.wire import State
from tornado_app.processes.states import legal

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def process(state: State = State.RUNNING, version: int = 1, **changes: Any) -> wire.Process:
    progress = wire.ProgressInfo(250.0, 1000.0, "row 250")
    values = {"id": "p", "work_type": "walk", "params": {}, "state": state, "progress": progress, "version": version}
    return wire.Process(**{**values, "possible": legal(state), "created": NOW, "started": NOW, **changes})


def event(type: str, version: int = 2, **changes: Any) -> wire.Event:
    return wire.Event(**{"seq": 1, "type": type, "id": "p", "time": NOW, "version": version, **changes})


def test_the_verbs_change_with_the_answer_that_follows_an_event() -> None:
    """Events do not carry them. At an end there are none, which needs no answer."""
    tracked = Tracked("p")
    assert tracked.verbs == set()
    tracked.apply_answer(process())
    assert "pause" in tracked.verbs
    tracked.apply_event(event("state", state=State.PAUSED))
    tracked.apply_answer(process(State.PAUSED, version=2))
    assert "resume" in tracked.verbs
    assert "pause" not in tracked.verbs
    tracked.apply_event(event("state", version=3, state=State.CANCELLED))
    assert tracked.verbs == set()


def test_an_answer_that_is_older_than_an_event_changes_nothing() -> None:
    tracked = Tracked("p")
    tracked.apply_answer(process())
    tracked.apply_event(event("state", version=5, state=State.PAUSED))
    tracked.apply_answer(process(version=4))
    assert tracked.info is not None
    assert tracked.info.state is State.PAUSED


def test_an_answer_that_progress_has_overtaken_still_brings_the_verbs() -> None:
    """The work goes on while the answer is on its way; else the buttons would stay as they were before."""
    tracked = Tracked("p")
    tracked.apply_answer(process(State.PAUSED))
    tracked.apply_event(event("state", version=2, state=State.RUNNING))
    progress = wire.ProgressInfo(300.0, 1000.0, "row 300")
    tracked.apply_event(event("progress", version=3, progress=progress))
    tracked.apply_answer(process(version=2))
    assert "pause" in tracked.verbs
    assert "resume" not in tracked.verbs
    assert tracked.info is not None
    assert tracked.info.progress == progress


def test_another_process_of_the_same_id_replaces_all_that_was_known() -> None:
    tracked = Tracked("p")
    tracked.apply_answer(process(version=9))
    tracked.add_lines([(1, "of the first")])
    tracked.apply_answer(process(version=1, created=NOW + timedelta(seconds=1)))
    assert tracked.info is not None
    assert (tracked.info.version, tracked.lines) == (1, {})


def test_the_last_log_lines_are_kept_in_their_order() -> None:
    tracked = Tracked("p")
    tracked.add_lines([(n, f"line {n}") for n in range(LOG_LINES)])
    tracked.apply_event(event("log", message="newest", data={"seq": 99}))
    tracked.add_lines([(0, "line 0"), (2, "line 2")])
    assert list(tracked.lines.values()) == [*(f"line {n}" for n in range(1, LOG_LINES)), "newest"]
