"""Requests whose bodies stream to the store as they arrive."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable
from typing import cast

from tornado_app import problems
from tornado_app.files.uploads.writer import Writer
from tornado_app.handlers.base import AppServices
from tornado_app.handlers.bodies import BodyHandler
from tornado_app.protocols.forms.decoder import BodyError, Decoder
from tornado_app.protocols.forms.multipart import FileField

_SECOND_LOOK_S = 0.05
_KEY = secrets.token_bytes(32)  # so that nothing can be read out of what tells clients apart


class StreamingHandler(BodyHandler):
    """Feeds a `Writer` with the body. A subclass carries `@stream_request_body` and takes the writer in `begin`.

    `begin` sets `writer`, and `decoder` if the body is not raw; or in place of both a `form`, and `begin_file` follows
    once the form's file has begun.
    """

    def initialize(self, services: AppServices) -> None:
        super().initialize(services)
        self.writer: Writer | None = None
        self.decoder: Decoder | None = None
        self.form: FileField | None = None
        self._last = 0.0
        self._idle: asyncio.TimerHandle | None = None

    async def begin_file(self, name: str) -> Writer:
        """Where the file of the form goes, which has this name there."""
        raise NotImplementedError

    async def prepare(self) -> None:
        # The idle timeout is ours; how long a body takes as a whole is the sender's business.
        self.request.connection.set_body_timeout(None)  # type: ignore[union-attr]
        await super().prepare()
        if self.lost and self.writer is not None:  # it went while it waited for its turn
            await self.services.files.uploads.abandon(self.writer, self._cut_because)
        if self.has_body and not self.refused:
            self._last = asyncio.get_running_loop().time()
            self._watch(self.services.settings.idle_timeout)

    @property
    def client(self) -> str:
        """Who sends, as far as can be told apart: one token at one address."""
        address = self.request.remote_ip or ""
        if ":" in address:  # whoever has one such address has all that begin so
            address = ":".join(address.split(":")[:4])
        told = f"{address} {self.request.headers.get('Authorization', '')}"
        return hashlib.blake2b(told.encode("utf-8", "replace"), digest_size=16, key=_KEY).hexdigest()

    def check_encoding(self) -> None:
        """Bytes are kept and served as they come, so an encoding would be lost. Raises UNSUPPORTED_MEDIA_TYPE."""
        coding = self.request.headers.get("Content-Encoding", "").strip().lower()
        if coding not in ("", "identity"):
            raise problems.UNSUPPORTED_MEDIA_TYPE(
                f"the body has the Content-Encoding {coding[:80]!r}, which is not kept with a file; "
                "send the bytes without that field (a file that is compressed itself, such as x.gz, needs none)",
                headers={"Accept-Encoding": "identity"},
            )

    @property
    def origin(self) -> str:
        """Return the scheme and authority that the client used."""
        return f"{self.request.protocol}://{self.request.host}"

    def is_lost(self) -> bool:
        """Whether the client has gone."""
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

    async def body_ended(self) -> None:
        """The body is whole. Raises BAD_BODY when its encoding says otherwise."""
        self._unwatch()
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
            raise await self._taken_back(self.writer, error) from None
        if room is not None:
            await room

    def _feed_form(self, chunk: bytes) -> Awaitable[None] | None:
        """The beginning of a form, up to where its file begins."""
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
        """Keep what can be kept, and answer before the body has ended."""
        writer, self.writer = self.writer, None
        if writer is None:
            if isinstance(error, BodyError):
                error = problems.BAD_BODY(str(error))
        else:
            if isinstance(error, BodyError):
                error = await self._taken_back(writer, error)
            else:
                await self.services.files.uploads.abandon(writer, "failed")
        await self._refuse(error)

    async def _taken_back(self, writer: Writer, error: BodyError) -> problems.ProblemError:
        try:
            await self.services.files.uploads.roll_back(writer)
        except problems.ProblemError as broken:
            return broken
        return problems.BAD_BODY(str(error), bytes_read=writer.upload.offset)

    async def _refuse(self, error: BaseException) -> None:
        self._unwatch()
        await super()._refuse(error)

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
        super()._unwatch()
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def on_lost(self) -> None:
        if self.writer is not None:
            uploads = self.services.files.uploads
            uploads.spawn(uploads.abandon(self.writer, self._cut_because))
        super().on_lost()
