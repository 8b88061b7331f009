"""Server-sent events as they arrive in pieces (HTML Living Standard, section 9.2.6). No I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerSent:
    """One event: its type, its data, and the last id of the stream."""

    type: str
    data: str
    id: str


class EventStreamParser:
    """Incremental parser. An event that no blank line has ended yet is kept until more bytes are fed.

    `last_id` is the value for `Last-Event-ID` when the stream is opened again.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False
        self._type = ""
        self._data: list[str] = []
        self._id = ""
        self.last_id = ""

    def feed(self, data: bytes) -> list[ServerSent]:
        """Return the events that `data` completes."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]  # the second half of a CR LF that was split
        self._after_cr = data.endswith(b"\r") if data else self._after_cr
        text = (self._rest + data).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = text.split(b"\n")
        return [event for line in lines if (event := self._line(line.decode("utf-8", "replace"))) is not None]

    def _line(self, line: str) -> ServerSent | None:
        if not line:
            self.last_id = self._id  # only now: an event that was cut off is not complete
            event = ServerSent(self._type or "message", "\n".join(self._data), self._id) if self._data else None
            self._type, self._data = "", []
            return event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None
