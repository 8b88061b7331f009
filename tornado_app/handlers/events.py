"""Server-sent events (HTML standard, section 9.2) of one process, or of everything."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from tornado.iostream import StreamClosedError

from holdfast.wire import BulkRequest, Event, Number, ProcessId
from tornado_app import problems
from tornado_app.handlers.base import BaseHandler
from tornado_app.handlers.openapi.operation import Content, operation
from tornado_app.handlers.processes import FilterQuery
from tornado_app.processes.requests import check_id

HEARTBEAT = 15.0
"""Seconds without an event after which a comment keeps the connection alive."""

_PROGRESS_PAUSE = 0.1  # at most ten times a second for each process
_WRITE_TIMEOUT = 30.0  # seconds in which a client must read what was sent
_encode = msgspec.json.Encoder().encode
_STREAM = Content("text/event-stream", Event)


class OneEventsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters of the events of one process."""

    after: Annotated[Number, Meta(description="In place of `Last-Event-ID`.")] | None = None


class EventsQuery(FilterQuery):
    """Filter of events, and the event to continue after. With a filter there are no events of files and uploads."""

    id: Annotated[list[ProcessId], Meta(description="Any of these processes.")] = []  # noqa: RUF012 - a struct
    after: Annotated[Number, Meta(description="In place of `Last-Event-ID`.")] | None = None

    def filter(self) -> BulkRequest:
        return msgspec.structs.replace(super().filter(), ids=self.id or None)


class _EventStreamHandler(BaseHandler):
    """Streams events until the client leaves."""

    async def watch(self, id: str | None, wanted: BulkRequest, after: int | None) -> None:
        """Send the events of one process, or of all that match the filter."""
        processes = self.services.processes
        after = self._after(after)
        watcher = processes.watch(wanted) if id is None else processes.watch_one(id)
        seen = processes.newest_event
        try:
            if after is not None:
                seen = after = await processes.known_event(after)
            self.set_header("Content-Type", "text/event-stream")
            self.set_header("X-Accel-Buffering", "no")
            # A client that is cut off before the first event continues after this id.
            self.write(b": watching\nid: %d\n\n" % seen)
            await self.flush()
            if after is not None:
                seen = await self._replay(wanted, after)
            while not watcher.dropped:
                events = await watcher.next(HEARTBEAT)
                fresh = [processes.event_for_user(e) for e in events if e.seq is None or e.seq > seen]
                self.write(b"".join(map(line_of, fresh)) if fresh else b": alive\n\n")
                await self._flush_in_time()
                if fresh and fresh[-1].type == "progress":
                    await asyncio.sleep(_PROGRESS_PAUSE)
            self.write(line_of(Event("dropped", id or "", datetime.now(UTC), message=watcher.dropped)))
            await self.flush()
        except StreamClosedError:
            return
        except TimeoutError:  # the client reads nothing; it can reconnect with Last-Event-ID
            self.detach().close()
            self.on_finish()  # Tornado does not call it for a detached connection
        finally:
            processes.leave(id, watcher)

    def _after(self, after: int | None) -> int | None:
        text = self.request.headers.get("Last-Event-ID")
        if not text:
            return after
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise problems.BAD_PARAMETERS(
                f"Last-Event-ID must be the id of an event, a whole number, not {text[:100]!r}"
            )
        return int(text)

    async def _flush_in_time(self) -> None:
        """Flush. Raises `TimeoutError` if the client does not read what was sent."""
        flushed = self.flush()
        if flushed.done():
            flushed.result()
        else:
            async with asyncio.timeout(_WRITE_TIMEOUT):
                await flushed

    async def _replay(self, wanted: BulkRequest, after: int) -> int:
        """Send the events after number `after`, and return the number of the last one sent."""
        while events := await self.services.processes.events_after(after, wanted):
            self.write(b"".join(map(line_of, events)))
            await self._flush_in_time()
            after = events[-1].seq or after
        return after


class EventsHandler(_EventStreamHandler):
    """`GET /v1/events`."""

    @operation("all_events", _STREAM, problems.UNAVAILABLE, headers=("Last-Event-ID",))
    async def get(self, query: EventsQuery) -> None:
        """Stream the events of everything, or of some processes: state changes, deletions, progress and log lines.

        State changes and deletions have an id: after a lost connection `Last-Event-ID` replays those that were missed.
        The stream begins with the id that it continues after.
        """
        await self.watch(None, query.filter(), query.after)


class ProcessEventsHandler(_EventStreamHandler):
    """`GET /v1/processes/{id}/events`."""

    @operation("process_events", _STREAM, problems.NO_SUCH_PROCESS, problems.UNAVAILABLE, headers=("Last-Event-ID",))
    async def get(self, id: ProcessId, query: OneEventsQuery) -> None:
        """Stream the events of one process."""
        check_id(id)
        await self.services.processes.get(id)
        await self.watch(id, BulkRequest(ids=[id]), query.after)


class _EncodedEvents:
    """Cache of encoded events: a new event is encoded once for all clients."""

    def __init__(self, most: int = 1024) -> None:
        self._known: dict[
            int, tuple[Event, bytes]
        ] = {}  # by identity: the event in the value keeps its id from being reused
        self._most = most

    def of(self, event: Event) -> bytes:
        """Return an event as it is sent; only an event that can be replayed has an id."""
        known = self._known.get(id(event))
        if known is not None:
            return known[1]
        number = b"" if event.seq is None else b"id: %d\n" % event.seq
        line = b"%sevent: %s\ndata: %s\n\n" % (number, event.type.encode(), _encode(event))
        if len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        self._known[id(event)] = event, line
        return line


line_of = _EncodedEvents().of
