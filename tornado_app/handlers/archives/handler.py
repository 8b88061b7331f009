"""`/v1/archives`: a folder as one zip or tar that can be resumed, and a tar whose members become files."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable
from typing import Annotated, cast

import msgspec
from msgspec import Meta
from prometheus_client import Counter
from tornado.httputil import HTTPConnection
from tornado.iostream import StreamClosedError
from tornado.web import stream_request_body

from holdfast.wire import ArchiveReceipt
from tornado_app import problems
from tornado_app.files import metrics
from tornado_app.files.archives.receiving import TarReceiver
from tornado_app.files.archives.service import ArchiveAnswer, check_format
from tornado_app.handlers.files import LinkedHandler, LinkQuery, NamedHandler
from tornado_app.handlers.openapi.operation import Content, operation
from tornado_app.handlers.streaming import StreamingHandler
from tornado_app.protocols import conditionals, content_disposition, dates
from tornado_app.protocols.ranges import Multipart
from tornado_app.server import sendfile
from tornado_app.server.archives import ArchiveTransmission
from tornado_app.server.sendfile import FileChangedError, StalledError

ArchiveName = Annotated[
    str,
    Meta(description="A folder, empty for all files; to read it, with `.zip` or `.tar` behind it, such as `data.zip`."),
]
_HEADERS = ("Accept-Ranges", "Content-Disposition", "Content-Length", "ETag", "Last-Modified")
_PRECONDITIONS = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
_TAR = "application/x-tar"


class ArchiveHandler(LinkedHandler):
    """`/v1/archives/{name}`: all but PUT."""

    MAY_BE_VISITED = True

    _sending: ArchiveTransmission | None = None

    def is_signed(self) -> bool:
        link = self.query_as(LinkQuery)
        if link.signature is None or self.request.method not in ("GET", "HEAD"):
            return False
        why = self.services.links.refusal(self.path_kwargs["name"], link.expires, link.signature, archive=True)
        if why:
            raise problems.UNAUTHORIZED(why)
        return True

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
        stat, spans = answer.stat, answer.spans
        self.set_status(answer.status)
        self.set_header("ETag", conditionals.quoted(stat.etag))
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Last-Modified", dates.write(min(stat.modified_ns // 1_000_000_000, time.time())))
        if answer.status == 304:
            return None
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Content-Disposition", content_disposition.attachment(stat.name))
        if spans is not None and len(spans) > 1:
            framing = Multipart(secrets.token_hex(16), spans, stat.size, answer.media_type)
            self.set_header("Content-Type", framing.content_type)
            self.set_header("Content-Length", str(framing.content_length))
            return framing
        self.set_header("Content-Type", answer.media_type)
        if spans is None:
            self.set_header("Content-Length", str(stat.size))
        else:
            self.set_header("Content-Range", spans[0].content_range(stat.size))
            self.set_header("Content-Length", str(spans[0].length))
        return None

    async def _send(self, answer: ArchiveAnswer, framing: Multipart | None) -> None:
        connection = cast(HTTPConnection, self.request.connection)
        files = self.services.files
        if not self.lost:
            self.flush()  # before: a connection knows only then how many bytes are to follow
        is_plain = sendfile.plain_stream(connection) is not None
        sending = self._sending = ArchiveTransmission(
            connection,
            files.archives.reader(answer, framing, zero_copy=is_plain),
            files.run,
            timeout=self.services.settings.send_timeout,
        )
        try:
            if self.lost:
                raise StreamClosedError
            await sending.send_all()
            metrics.DOWNLOAD_COMPLETE.inc()
            metrics.DOWNLOAD_SECONDS.observe(self.request.request_time())
        except StreamClosedError:
            self._cut(metrics.DOWNLOAD_CUT)
        except StalledError:
            self._cut(metrics.DOWNLOAD_STALLED)
        except FileChangedError:
            self._cut(metrics.DOWNLOAD_CHANGED)
        finally:
            self._sending = None

    def _cut(self, reason: Counter) -> None:
        """Close the connection before the body is whole: nobody takes it for the archive."""
        reason.inc()
        self.request.connection.close()  # type: ignore[union-attr]

    def allowed_methods(self) -> list[str]:
        return [*super().allowed_methods(), *ArchivePutHandler.ONLY]

    def on_lost(self) -> None:
        super().on_lost()
        if self._sending is not None:
            self._sending.abort()

    def compute_etag(self) -> None:
        """Return none: the archive has its own, and Tornado would hash the body."""

    def check_etag_header(self) -> bool:
        return False  # preconditions are already evaluated


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
