"""Selection of a dashboard: what it shows, in which order, and for which processes its buttons are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import holdfast
from holdfast import wire
from holdfast.notebook._feed._feed import Feed
from holdfast.notebook._feed._registry import feed_of
from holdfast.notebook._feed._tracked import Tracked
from holdfast.notebook._selection import COLUMNS, MAX_ROWS, ViewChoice, select
from holdfast.wire import State
from tornado_app.processes.states import legal

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.fixture
def feed() -> Iterator[Feed]:
    """A feed that nobody has subscribed to: it asks for nothing."""
    with holdfast.Client("http://127.0.0.1:9") as client:
        yield feed_of(client)


def add(feed: Feed, id: str, state: State, age: int = 0, done: float | None = None, note: str = "") -> Tracked:
    tracked = feed.processes[id] = Tracked(id)
    progress = wire.ProgressInfo(done, 100.0, note)
    created = NOW - timedelta(seconds=age)
    tracked.apply_answer(wire.ProcessInfo(id, "walk", {}, state, progress, created, possible=legal(state)))
    return tracked


def shown(feed: Feed, choice: ViewChoice) -> list[str]:
    return [tracked.id for tracked in select(feed, choice).processes]


def test_what_runs_and_what_failed_comes_first_and_then_the_newest(feed: Feed) -> None:
    states = [
        State.SUCCEEDED,
        State.QUEUED,
        State.PAUSED,
        State.FAILED,
        State.CANCELLING,
        State.RUNNING,
        State.CANCELLED,
    ]
    for age, state in enumerate(states):
        add(feed, state.value, state, age)
    add(feed, "new", State.RUNNING, -1)
    assert shown(feed, ViewChoice()) == [
        "new",
        "cancelling",
        "running",
        "failed",
        "paused",
        "queued",
        "succeeded",
        "cancelled",
    ]


def test_it_is_sorted_by_a_column_both_ways_and_as_usual_again(feed: Feed) -> None:
    for age, (id, done) in enumerate({"b": 20.0, "a": 70.0, "c": None}.items()):
        add(feed, id, State.RUNNING, age, done)
    choice = ViewChoice()
    usual = shown(feed, choice)
    for column, reverse, order in (("name", False, "abc"), ("name", True, "cba"), ("progress", True, "abc")):
        choice.sort_by("processes", column, reverse)
        assert shown(feed, choice) == list(order)
    choice.sort_by("processes", "__class__", False)
    assert shown(feed, choice) == usual


@pytest.mark.parametrize("part", COLUMNS)
def test_every_column_sorts_without_what_is_not_known(feed: Feed, part: str) -> None:
    add(feed, "p", State.QUEUED)
    add(feed, "q", State.RUNNING, done=3.0)
    feed.listing.files = {name: wire.FileInfo(name, 1, NOW, "e", "", None, None) for name in "xy"}
    feed.listing.uploads = {id: wire.UploadInfo(id, "", 0, None, NOW, None, False) for id in "uv"}
    for column in COLUMNS[part]:
        choice = ViewChoice()
        choice.sort_by(part, column, True)
        selection = select(feed, choice)
        assert len(selection.processes) == len(selection.files) == len(selection.uploads) == 2


def test_the_buttons_are_for_all_that_match_also_those_without_a_row(feed: Feed) -> None:
    for n in range(MAX_ROWS + 5):
        add(feed, f"p{n}", State.RUNNING)
    add(feed, "other", State.PAUSED, note="on Tuesday")
    selection = select(feed, ViewChoice(query="P"))
    assert (len(selection.processes), selection.more_processes) == (MAX_ROWS, 6)  # "other" is paused
    assert len(selection.targets["pause"]) == MAX_ROWS + 5
    assert select(feed, ViewChoice(query="tuesday")).targets["resume"] == ["other"]
    assert shown(feed, ViewChoice(state="paused")) == ["other"]
    assert selection.counts == {State.RUNNING: MAX_ROWS + 5, State.PAUSED: 1}


def test_a_closed_feed_has_no_buttons(feed: Feed) -> None:
    add(feed, "p", State.RUNNING)
    feed.close()
    targets: dict[Any, list[str]] = dict(select(feed, ViewChoice()).targets)
    assert not any(targets.values())


def test_a_choice_has_another_key_when_it_is_another() -> None:
    choice = ViewChoice()
    before = choice.key()
    choice.sort_by("files", "size", True)
    assert choice.key() != before
    choice.sort_by("files", "", True)
    assert choice.key() == before
