"""Requests whose bodies stream to the store as they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import cast

from tornado_app import problems
from tornado_app.files.uploads.writer import Writer
from tornado_app.handlers.base import AppServices
from tornado_app.handlers.bodies import BodyHandler
from tornado_app.protocols.forms.decoder import BodyError, Decoder
from tornado_app.protocols.forms.multipart import FileField

_SECOND_CHECK_S = 0.05


class StreamingHandler(BodyHandler):
    """Feeds a `Writer` with the body. A subclass carries `@stream_request_body` and takes the writer in `begin`.

    `begin` sets `writer`, and `decoder` if the body is encoded; or it sets `form` alone, and `begin_file` is called
    when the form's file begins.
    """

    def initialize(self, services: AppServices) -> None:
        super().initialize(services)
        self.writer: Writer | None = None
        self.decoder: Decoder | None = None
        self.form: FileField | None = None
        self._last = 0.0
        self._idle: asyncio.TimerHandle | None = None

    async def begin_file(self, name: str) -> Writer:
        """Return the writer for the file of a form, which has this name there."""
        raise NotImplementedError

    async def prepare(self) -> None:
        # An idle timeout replaces Tornado's limit on the time of a whole body.
        self.request.connection.set_body_timeout(None)  # type: ignore[union-attr]
        await super().prepare()
        if self.lost and self.writer is not None:  # the connection was lost while the request waited for the upload
            await self.services.files.uploads.abandon(self.writer, self._cut_because)
        if self.has_body and not self.refused:
            self._last = asyncio.get_running_loop().time()
            self._start_idle_timer(self.services.settings.idle_timeout)

    def check_encoding(self) -> None:
        """Refuse an encoded body, because its encoding would be lost. Raises UNSUPPORTED_MEDIA_TYPE."""
        coding = self.request.headers.get("Content-Encoding", "").strip().lower()
        if coding not in ("", "identity"):
            raise problems.UNSUPPORTED_MEDIA_TYPE(
                f"the body has the Content-Encoding {coding[:80]!r}, which is not kept with a file; "
                "send the bytes without that field (a file that is compressed itself, such as x.gz, needs none)",
                headers={"Accept-Encoding": "identity"},
            )

    @property
    def server_url(self) -> str:
        """Return the URL of this server as the client wrote it, without a slash at the end."""
        return f"{self.request.protocol}://{self.external_host}{self.address('')}"

    @property
    def is_full(self) -> bool:
        """Return whether the sender waits for the disk."""
        return self.writer is not None and self.writer.is_full

    def is_lost(self) -> bool:
        """Return whether the connection is lost."""
        return self.lost

    def on_release_requested(self) -> None:
        """End the connection, because a newer request writes to the same upload."""
        self._end("newer request")

    def data_received(self, chunk: bytes | memoryview) -> Awaitable[None] | None:
        self._last = asyncio.get_running_loop().time()
        if self.refused or (self.writer is None and self.form is None):
            return None
        try:
            if self.writer is None:
                return self._feed_form(bytes(chunk))
            more = self.writer.write(chunk if self.decoder is None else self.decoder.feed(bytes(chunk)))
        except Exception as error:
            return self._fail(error)
        return more if self.writer.failure is None else self._fail(self.writer.failure)

    def received_bytes(self) -> None:
        """Note that the sender is not idle."""
        self._last = asyncio.get_running_loop().time()

    async def body_ended(self) -> None:
        """Finish decoding the body. Raises BAD_BODY if it is truncated."""
        self._cancel_idle()
        if self.writer is None and self.form is not None:
            try:
                self.form.finish()
            except BodyError as error:
                raise problems.BAD_BODY(str(error)) from None
        if self.writer is None or self.decoder is None:
            return
        try:
            room = self.writer.write(self.decoder.finish())
        except BodyError as error:
            raise await self._roll_back(self.writer, error) from None
        if room is not None:
            await room

    def _feed_form(self, chunk: bytes) -> Awaitable[None] | None:
        """Read the beginning of a form, up to its file."""
        form = cast(FileField, self.form)
        data = form.feed(chunk)
        return None if form.file_name is None else self._begin_file(form, form.file_name, data)

    async def _begin_file(self, form: FileField, name: str, data: bytes) -> None:
        try:
            self.writer = writer = await self.begin_file(name)
            self.decoder, self.form = form, None
            writer.creates_upload = True
            more = writer.write(data)
        except Exception as error:
            await self._fail(error)
            return
        if self.lost:
            await self.services.files.uploads.abandon(writer, self._cut_because)
        elif writer.failure is not None:
            await self._fail(writer.failure)
        elif more is not None:
            await more

    async def _fail(self, error: BaseException) -> None:
        """Keep the bytes that are valid, and answer before the body has ended."""
        writer, self.writer = self.writer, None
        if writer is None:
            if isinstance(error, BodyError):
                error = problems.BAD_BODY(str(error))
        else:
            if isinstance(error, BodyError):
                error = await self._roll_back(writer, error)
            else:
                await self.services.files.uploads.abandon(writer, "failed")
        await self._refuse(error)

    async def _roll_back(self, writer: Writer, error: BodyError) -> problems.ProblemError:
        try:
            await self.services.files.uploads.roll_back(writer)
        except problems.ProblemError as broken:
            return broken
        return problems.BAD_BODY(str(error), bytes_read=writer.upload.offset)

    async def _refuse(self, error: BaseException) -> None:
        self._cancel_timers()
        await super()._refuse(error)

    def _start_idle_timer(self, seconds: float) -> None:
        self._idle = asyncio.get_running_loop().call_later(seconds, self._check_idle)

    def _check_idle(self, is_second_check: bool = False) -> None:
        """End the connection of an idle sender; one that waits for the disk is not idle."""
        timeout = self.services.settings.idle_timeout
        silent = asyncio.get_running_loop().time() - self._last
        if self.is_full:
            silent = 0.0
        if silent < timeout:
            self._start_idle_timer(timeout - silent)
        elif is_second_check:
            self._end("idle")
        else:  # the loop may have been busy, with its bytes still in the socket
            self._idle = asyncio.get_running_loop().call_later(_SECOND_CHECK_S, self._check_idle, True)

    def _cancel_timers(self) -> None:
        super()._cancel_timers()
        self._cancel_idle()

    def _cancel_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def on_lost(self) -> None:
        if self.writer is not None:
            uploads = self.services.files.uploads
            uploads.spawn(uploads.abandon(self.writer, self._cut_because))
        super().on_lost()
