"""Handlers that decide on a request by its headers, before its body is read."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sys
from collections.abc import Awaitable
from typing import ClassVar, TypeVar

import msgspec
from tornado.iostream import StreamClosedError
from tornado.web import stream_request_body

from tornado_app import problems
from tornado_app.files.buffers import COLLECTED
from tornado_app.handlers.base import AppServices, BaseHandler

LINGER_S = 5.0

_KEY = secrets.token_bytes(32)  # so that the keys of senders reveal nothing
_DIGITS = 18  # of the longest size

T = TypeVar("T")


class BodyHandler(BaseHandler):
    """Decides by the headers. A subclass carries `@stream_request_body` and may refuse in `begin`.

    A refusal is sent at once, and the rest of the body is read and dropped for a while: closing a connection with
    unread bytes resets it before the client has read the response. `refused` is then true, and the method must return.
    """

    def initialize(self, services: AppServices) -> None:
        super().initialize(services)
        self.refused = False
        self._cut_because = "connection lost"
        self._linger: asyncio.TimerHandle | None = None

    async def begin(self) -> None:
        """Decide by the headers, before the body is read. Raises `ProblemError` to refuse."""

    async def prepare(self) -> None:
        # A limit is answered with 413; Tornado's own limit would reset the connection.
        self.request.connection.set_max_body_size(sys.maxsize)  # type: ignore[union-attr]
        try:
            checked = super().prepare()
            if checked is not None:
                await checked
            await self.begin()
        except Exception as error:
            if not self.has_body or self.request.headers.get("Expect"):
                raise  # no body follows, or none before a 100 (Continue)
            await self._refuse(error)

    @property
    def has_body(self) -> bool:
        """Return whether a body follows the headers."""
        headers = self.request.headers
        return headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers

    @property
    def body_size(self) -> int | None:
        """Return the Content-Length, 0 without a body; None if it is not known.

        A number with more digits than any size has is past every limit: Python may refuse to read it.
        """
        if "Transfer-Encoding" in self.request.headers:
            return None
        length = self.request.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            return None
        return int(length) if len(length) <= _DIGITS else sys.maxsize

    @property
    def client(self) -> str:
        """Return a key of the sender, hashed: its name, or else its address and token."""
        address = self.request.remote_ip or ""
        if ":" in address:  # a client has a whole /64 of addresses
            address = ":".join(address.split(":")[:4])
        name = self.principal.name
        sender = name or f"{address} {self.request.headers.get('Authorization', '')}"
        return hashlib.blake2b(sender.encode("utf-8", "replace"), digest_size=16, key=_KEY).hexdigest()

    async def _refuse(self, error: BaseException) -> None:
        """Answer now; the request ends with its body, or after `LINGER_S`."""
        self.refused = True
        body = self.render_problem(self.problem_of(error, getattr(error, "status_code", 500)))
        self.set_header("Content-Length", len(body))
        self._linger = asyncio.get_running_loop().call_later(LINGER_S, self._end, "refused")
        self.write(body)
        try:
            await self.flush()
        except StreamClosedError:
            pass

    def _end(self, why: str) -> None:
        self._cut_because = why
        stream = getattr(self.request.connection, "stream", None)
        if stream is not None:
            stream.close()

    def _cancel_timers(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._cancel_timers()

    def on_lost(self) -> None:
        if not self.refused:
            super().on_lost()

    def on_finish(self) -> None:
        self._cancel_timers()
        super().on_finish()


@stream_request_body
class CollectedBodyHandler(BodyHandler):
    """Keeps a body of a limited size in memory, of which all such requests together have `COLLECTED_BY_ALL`."""

    def initialize(self, services: AppServices) -> None:
        super().initialize(services)
        self._body = bytearray()
        self._counted = 0  # bytes taken from the budget
        self._is_checked = False  # the size was known before the body

    async def begin(self) -> None:
        size = self.body_size
        self._is_checked = size is not None
        self._check_size(size or 0)

    def data_received(self, chunk: bytes | memoryview) -> Awaitable[None] | None:
        if self.refused:
            return None
        try:
            if not self._is_checked:
                self._check_size(len(self._body) + len(chunk))
            COLLECTED.take(len(chunk))
        except problems.ProblemError as error:
            self._body.clear()
            self._give_back()
            return self._refuse(error)
        self._counted += len(chunk)
        self._body += chunk
        return None

    def _give_back(self) -> None:
        COLLECTED.give(self._counted)
        self._counted = 0

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._give_back()

    def on_finish(self) -> None:
        super().on_finish()
        self._give_back()

    def _check_size(self, size: int) -> None:
        """Raise TOO_LARGE for a body of more bytes than are taken."""
        raise NotImplementedError


class JsonHandler(CollectedBodyHandler):
    """Takes a JSON body of at most `--max-json-body` bytes, or of `MOST` where that is more."""

    MOST: ClassVar[int] = 0

    def _check_size(self, size: int) -> None:
        most = max(self.MOST, self.services.settings.max_json_body)
        if size > most:
            raise problems.TOO_LARGE(
                f"the JSON body is longer than {most} bytes; "
                "put large data into a file, or start the server with a larger --max-json-body"
            )

    def body_as(self, type: type[T]) -> T:
        """Return the JSON body as a wire struct; an empty body is an empty object."""
        try:
            return msgspec.json.decode(self._body or b"{}", type=type)
        except msgspec.ValidationError as error:
            raise problems.BAD_PARAMETERS(f"the body does not fit: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise problems.BAD_BODY(f"the body is not JSON: {error}") from None
        except RecursionError:
            raise problems.BAD_BODY("the body is JSON that is nested too deeply. Send it flatter") from None
