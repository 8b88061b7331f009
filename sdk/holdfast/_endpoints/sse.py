"""Server-sent events as they arrive in pieces (HTML Living Standard, section 9.2.6). No I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerSent:
    """One event: its type, its data, and the last id that the stream has named."""

    type: str
    data: str
    id: str


class EventStreamParser:
    """Feed it bytes, get events. What is not finished by a blank line is kept for the next bytes.

    `last_id` is what `Last-Event-ID` says when the stream is taken up again.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False
        self._type = ""
        self._data: list[str] = []
        self._id = ""
        self.last_id = ""

    def feed(self, data: bytes) -> list[ServerSent]:
        """The events that `data` completes."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]  # the second half of a CR LF that was cut in two
        self._after_cr = data.endswith(b"\r") if data else self._after_cr
        text = (self._rest + data).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = text.split(b"\n")
        return [event for line in lines if (event := self._line(line.decode("utf-8", "replace"))) is not None]

    def _line(self, line: str) -> ServerSent | None:
        if not line:
            self.last_id = self._id  # not before: an event that was cut off has not been seen
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
