"""`/v1/archives`: a folder as one zip or tar that can be resumed, and a tar whose members become files."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, cast

import msgspec
from msgspec import Meta
from tornado.httputil import HTTPConnection
from tornado.web import stream_request_body

from holdfast.wire import ArchiveReceipt
from tornado_app import problems
from tornado_app.files import metrics
from tornado_app.files.archives.receiving import TarReceiver
from tornado_app.files.archives.service import ArchiveAnswer, check_format
from tornado_app.handlers.files.download import DownloadHandler
from tornado_app.handlers.files.named import LinkQuery, NamedHandler
from tornado_app.handlers.files.representation import representation
from tornado_app.handlers.openapi.operation import Content, operation
from tornado_app.handlers.streaming import StreamingHandler
from tornado_app.protocols.ranges import Multipart
from tornado_app.server import sendfile
from tornado_app.server.archives import ArchiveTransmission

ArchiveName = Annotated[
    str,
    Meta(description="A folder, empty for all files; to read it, with `.zip` or `.tar` behind it, such as `data.zip`."),
]
_HEADERS = ("Accept-Ranges", "Content-Disposition", "Content-Length", "ETag", "Last-Modified")
_PRECONDITIONS = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
_TAR = "application/x-tar"


class ArchiveHandler(DownloadHandler):
    """`/v1/archives/{name}`: all but PUT."""

    IS_ARCHIVE = True

    @operation(
        "get_archive",
        {
            200: Content("*/*", headers=_HEADERS),
            206: Content("*/*", headers=(*_HEADERS, "Content-Range")),
            304: None,
        },
        problems.NO_SUCH_FILE,
        problems.NOT_FOUND,
        problems.PRECONDITION_FAILED,
        problems.RANGE_NOT_SATISFIABLE,
        headers=("Range", "If-Range", *_PRECONDITIONS),
        query=LinkQuery,
    )
    async def get(self, name: ArchiveName) -> None:
        """Read all files below a folder as one uncompressed archive, or parts of it.

        The same files make the same bytes, so that a download can be resumed by Range and If-Range.
        """
        folder, format = check_format(name)
        answer = await self.services.files.archives.get(folder, format, self.request.headers)
        framing = self._describe(answer)
        if answer.status == 304:
            metrics.DOWNLOAD_NOT_MODIFIED.inc()
            self.finish()
        else:
            await self._send(answer, framing)

    @operation(
        "head_archive",
        {200: Content("*/*", headers=_HEADERS), 304: None},
        problems.NO_SUCH_FILE,
        problems.NOT_FOUND,
        problems.PRECONDITION_FAILED,
        headers=_PRECONDITIONS,
        query=LinkQuery,
    )
    async def head(self, name: ArchiveName) -> None:
        """Answer with the headers of a GET."""
        folder, format = check_format(name)
        self._describe(await self.services.files.archives.head(folder, format, self.request.headers))
        self.finish()

    def _describe(self, answer: ArchiveAnswer) -> Multipart | None:
        """Set status and headers; return the framing of a body of several ranges."""
        headers, framing = representation(answer.status, answer.stat, answer.spans, answer.media_type)
        self.set_headers(answer.status, headers)
        return framing

    async def _send(self, answer: ArchiveAnswer, framing: Multipart | None) -> None:
        connection = cast(HTTPConnection, self.request.connection)
        files = self.services.files
        if not self.lost:
            self.flush()  # before: a connection knows only then how many bytes are to follow
        is_plain = sendfile.plain_stream(connection) is not None
        sending = ArchiveTransmission(
            connection,
            files.archives.reader(answer, framing, zero_copy=is_plain),
            files.run,
            timeout=self.services.settings.send_timeout,
        )
        await self.send_body(sending, sending.send_all)

    def allowed_methods(self) -> list[str]:
        return [*super().allowed_methods(), *ArchivePutHandler.ONLY]


class ArchiveQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters of a tar that becomes files."""

    landed: Annotated[bool, Meta(description="Describe the files that were published, at most 10,000.")] = False


@stream_request_body
class ArchivePutHandler(StreamingHandler, NamedHandler):
    """`/v1/archives/{name}`: PUT."""

    ONLY = ("PUT",)

    _receiver: TarReceiver | None = None

    async def begin(self) -> None:
        if "Content-Range" in self.request.headers:
            raise problems.BAD_REQUEST(
                "a PUT is of a whole archive, not of a part. After a cut, GET /v1/files?prefix= lists what has landed: "
                "send a tar of what is missing"
            )
        self.check_encoding()
        folder = self.path_kwargs["name"].removesuffix("/")
        describe = self.query_as(ArchiveQuery).landed
        self._receiver = self.services.files.archives.receive(folder, self.request.headers, describe=describe)

    @property
    def is_full(self) -> bool:
        return self._receiver is not None and self._receiver.is_busy

    def data_received(self, chunk: bytes | memoryview) -> Awaitable[None] | None:
        self._last = asyncio.get_running_loop().time()
        if self.refused or self._receiver is None:
            return None
        return self._feed(self._receiver, chunk)

    async def _feed(self, receiver: TarReceiver, chunk: bytes | memoryview) -> None:
        try:
            await receiver.feed(chunk)
        except Exception as error:
            await receiver.abandon()
            await self._refuse(error)
        self._last = asyncio.get_running_loop().time()

    @operation(
        "put_archive",
        ArchiveReceipt,
        problems.BAD_NAME,
        problems.UNAVAILABLE,
        problems.UNSUPPORTED_MEDIA_TYPE,
        problems.NO_SPACE,
        headers=("If-None-Match",),
        query=ArchiveQuery,
        body=(Content(_TAR),),
    )
    async def put(self, name: ArchiveName) -> None:
        """Publish the regular files of a tar archive below a folder, each whole or not at all.

        They replace what is there, unless `If-None-Match: *` is sent. Of members with one name the last one wins.
        Folders are made as they are needed. Links, devices, and names that no file can have are refused by name in the
        answer, and the other members land. After a cut those that were whole have landed.
        """
        if self.refused or self._receiver is None:
            return
        self._cancel_timers()
        self.respond(await self._receiver.finish())

    def on_lost(self) -> None:
        if self._receiver is not None:
            self.services.files.uploads.spawn(self._receiver.abandon())
        super().on_lost()
