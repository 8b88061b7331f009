"""Requests whose bodies stream to the store as they arrive."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable

from tornado.iostream import StreamClosedError

from tornado_app import problems
from tornado_app.files.writer import Writer
from tornado_app.handlers.base import BaseHandler, Services
from tornado_app.protocols.form_text import BodyError, Decoder

LINGER_S = 5.0
_SECOND_LOOK_S = 0.05


class StreamingHandler(BaseHandler):
    """Feeds a `Writer` with the body. A subclass carries `@stream_request_body` and takes the writer in `begin`.

    Its methods do nothing when `refused`: a refusal goes out as soon as it is known, and what the client still sends is
    dropped for a while. Closing on unread bytes would reset the connection before the client could read why.
    """

    def initialize(self, services: Services) -> None:
        super().initialize(services)
        self.writer: Writer | None = None
        self.decoder: Decoder | None = None
        self.refused = False
        self._cut_because = "connection lost"
        self._last = 0.0
        self._idle: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None

    async def begin(self) -> None:
        """Decide by the headers, before the body is read; set `writer`, and `decoder` if the body is not raw."""

    async def prepare(self) -> None:
        # Limits are told in an answer; Tornado's own would end in a reset.
        self.request.connection.set_max_body_size(sys.maxsize)  # type: ignore[union-attr]
        # The idle timeout is ours; how long a body takes as a whole is the sender's business.
        self.request.connection.set_body_timeout(None)  # type: ignore[union-attr]
        try:
            guarded = super().prepare()
            if guarded is not None:
                await guarded
            await self.begin()
            if self.lost and self.writer is not None:  # it went while it waited for its turn
                await self.services.files.uploads.abandon(self.writer, self._cut_because)
        except Exception as error:
            if not self.has_body or self.request.headers.get("Expect"):
                raise  # nothing follows, or nothing until we say so
            await self._refuse(error)
        else:
            if self.has_body:
                self._last = asyncio.get_running_loop().time()
                self._watch(self.services.settings.idle_timeout)

    @property
    def has_body(self) -> bool:
        """Whether bytes follow the headers."""
        headers = self.request.headers
        return headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers

    @property
    def body_size(self) -> int | None:
        """How long the body says it is; None when it does not say."""
        if "Transfer-Encoding" in self.request.headers:
            return None
        length = self.request.headers.get("Content-Length", "0")
        return int(length) if length.isascii() and length.isdigit() else None

    def is_lost(self) -> bool:
        """Whether the client has gone."""
        return self.lost

    def let_go(self) -> None:
        """End the connection: a newer request writes now."""
        self._end("newer request")

    def data_received(self, chunk: bytes | memoryview) -> Awaitable[None] | None:
        self._last = asyncio.get_running_loop().time()
        if self.refused or self.writer is None:
            return None
        try:
            more = self.writer.write(chunk if self.decoder is None else self.decoder.feed(bytes(chunk)))
        except Exception as error:
            return self._fail(error)
        return more if self.writer.failure is None else self._fail(self.writer.failure)

    async def body_ended(self) -> None:
        """The body is whole. Raises BAD_BODY when its encoding says otherwise."""
        self._unwatch()
        if self.writer is None or self.decoder is None:
            return
        try:
            room = self.writer.write(self.decoder.finish())
        except BodyError as error:
            raise await self._taken_back(self.writer, error) from None
        if room is not None:
            await room

    async def _fail(self, error: BaseException) -> None:
        """Keep what can be kept, and answer before the body has ended."""
        writer, self.writer = self.writer, None
        if writer is not None:
            if isinstance(error, BodyError):
                error = await self._taken_back(writer, error)
            else:
                await self.services.files.uploads.abandon(writer, "failed")
        await self._refuse(error)

    async def _taken_back(self, writer: Writer, error: BodyError) -> problems.ProblemError:
        await self.services.files.uploads.take_back(writer)
        return problems.BAD_BODY(str(error), bytes_read=writer.upload.offset)

    async def _refuse(self, error: BaseException) -> None:
        """Answer now; the request ends when the body does, or a little later."""
        self.refused = True
        self._unwatch()
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

    def _watch(self, seconds: float) -> None:
        self._idle = asyncio.get_running_loop().call_later(seconds, self._check_idle)

    def _check_idle(self, is_second_look: bool = False) -> None:
        """Cut a sender that has been silent; one that waits for us is not."""
        timeout = self.services.settings.idle_timeout
        silent = asyncio.get_running_loop().time() - self._last
        if self.writer is not None and self.writer.is_full:
            silent = 0.0
        if silent < timeout:
            self._watch(timeout - silent)
        elif is_second_look:
            self._end("idle")
        else:  # it may be us who were held up, and what it sent lies in the socket
            self._idle = asyncio.get_running_loop().call_later(_SECOND_LOOK_S, self._check_idle, True)

    def _unwatch(self) -> None:
        for timer in (self._idle, self._linger):
            if timer is not None:
                timer.cancel()
        self._idle = self._linger = None

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._unwatch()

    def on_lost(self) -> None:
        if self.writer is not None:
            uploads = self.services.files.uploads
            uploads.spawn(uploads.abandon(self.writer, self._cut_because))
        if not self.refused:
            super().on_lost()

    def on_finish(self) -> None:
        self._unwatch()
        super().on_finish()
