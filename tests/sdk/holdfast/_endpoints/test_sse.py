"""Server-sent events, however they are cut into pieces."""

from __future__ import annotations

import pytest

from holdfast._endpoints.sse import EventStreamParser, ServerSent

STREAM = (
    b": hello\n\nid: 1\nevent: state\ndata: {}\n\n"
    b"data: a\r\ndata:b\r\rid\nretry: 10\nunknown: x\ndata\n\nid: 9\nevent: state\ndata: cut off"
)
EVENTS = [ServerSent("state", "{}", "1"), ServerSent("message", "a\nb", "1"), ServerSent("message", "", "")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pieces_of_any_size_give_the_same_events(size: int) -> None:
    parser = EventStreamParser()
    found = [event for at in range(0, len(STREAM), size) for event in parser.feed(STREAM[at : at + size])]
    assert found == EVENTS


def test_the_id_of_an_event_that_was_cut_off_does_not_count() -> None:
    parser = EventStreamParser()
    parser.feed(b"id: 7\ndata: x\n\nid: 8\ndata: y\n")
    assert parser.last_id == "7"


def test_an_id_alone_counts() -> None:
    parser = EventStreamParser()
    assert parser.feed(b"id: 7\n\n") == []
    assert parser.last_id == "7"
