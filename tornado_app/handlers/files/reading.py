"""Published files: listing, GET, HEAD and DELETE."""

from __future__ import annotations

from typing import Annotated, Literal, cast
from urllib.parse import quote

import msgspec
from msgspec import Meta
from tornado.httputil import HTTPConnection

from holdfast.wire import FileName, FilePage
from tornado_app import problems
from tornado_app.files import metrics
from tornado_app.files.published.decisions import FileAnswer
from tornado_app.files.store.interface import FileReader
from tornado_app.handlers.base import BaseHandler
from tornado_app.handlers.files.download import DownloadHandler
from tornado_app.handlers.files.named import FILE_ACCEPTED, FILE_EXPOSED, LinkQuery
from tornado_app.handlers.files.representation import describe
from tornado_app.handlers.files.writing import FilePutHandler
from tornado_app.handlers.openapi.operation import Content, operation
from tornado_app.protocols import dates
from tornado_app.protocols.ranges import Multipart
from tornado_app.server.sendfile import Transmission

_HEADERS = (
    "Accept-Ranges",
    "Block-Digest",
    "Content-Disposition",
    "Content-Length",
    "ETag",
    "Last-Modified",
    "Repr-Digest",
)
_PRECONDITIONS = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")


class FilesQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filter and page of a listing of files."""

    prefix: Annotated[str, Meta(description="Names that start so.")] = ""
    delimiter: (
        Annotated[
            Literal["/"], Meta(description="`/` for one level: what is in folders below comes as their `prefixes`.")
        ]
        | None
    ) = None
    cursor: Annotated[str, Meta(description="`next` of the page before.")] = ""
    limit: Annotated[int, Meta(ge=1, le=1000, description="Most files in a page.")] = 100


class FilesHandler(BaseHandler):
    """`/v1/files`."""

    EXPOSED = FILE_EXPOSED
    ACCEPTED = FILE_ACCEPTED

    @operation("list_files", FilePage)
    async def get(self, query: FilesQuery) -> None:
        """List published files, by name."""
        page = self.services.files.published.page
        self.respond(await page(query.prefix, query.cursor, query.limit, by_level=query.delimiter is not None))


class FileHandler(DownloadHandler):
    """`/v1/files/{name}`: all but PUT."""

    @operation(
        "get_file",
        {
            200: Content("*/*", headers=_HEADERS),
            206: Content("*/*", headers=(*_HEADERS, "Content-Range")),
            304: None,
        },
        problems.NO_SUCH_FILE,
        problems.PRECONDITION_FAILED,
        problems.RANGE_NOT_SATISFIABLE,
        problems.UNAVAILABLE,
        headers=("Range", "If-Range", *_PRECONDITIONS, "Want-Repr-Digest"),
        query=LinkQuery,
    )
    async def get(self, name: FileName) -> None:
        """Read a file, or parts of it (RFC 9110, sections 13 and 14)."""
        answer = await self.services.files.published.get(name, self.request.headers, self)
        if answer.reader is not None and self._proxy_sends():
            await self._redirect(answer, answer.reader)
            return
        multipart = self._describe(answer)
        if answer.reader is None:
            self.finish(answer.content)
            if answer.content is None:
                metrics.DOWNLOAD_NOT_MODIFIED.inc()
            else:
                metrics.SENT.inc(len(answer.content))
                self.count_completed()
        else:
            await self._send(answer, answer.reader, multipart)

    @operation(
        "head_file",
        {200: Content("*/*", headers=_HEADERS), 304: None},
        problems.NO_SUCH_FILE,
        problems.PRECONDITION_FAILED,
        problems.UNAVAILABLE,
        headers=(*_PRECONDITIONS, "Want-Repr-Digest"),
        query=LinkQuery,
    )
    async def head(self, name: FileName) -> None:
        """Answer with the headers of a GET."""
        self._describe(await self.services.files.published.head(name, self.request.headers, self))
        self.finish()

    def _describe(self, answer: FileAnswer) -> Multipart | None:
        """Set status and headers; return the framing of a body of several ranges."""
        headers, multipart = describe(answer, self.request.headers.get("Want-Repr-Digest"))
        self.set_headers(answer.status, headers)
        return multipart

    def _proxy_sends(self) -> bool:
        """Return whether the nginx in front sends what is too long for one piece (`--accel-redirect`).

        Not to a client that came past it, and not where nginx would evaluate a precondition without an ETag of its own.
        """
        headers = self.request.headers
        return (
            bool(self.services.settings.accel_redirect)
            and "X-Forwarded-For" in headers
            and "If-Match" not in headers
            and "If-Unmodified-Since" not in headers
        )

    async def _redirect(self, answer: FileAnswer, reader: FileReader) -> None:
        """Answer with the headers of the whole file, and where nginx finds it; nginx applies Range and If-Range.

        X-Holdfast-Version lets its configuration compare what it has opened: the file may just have been replaced.
        """
        await self.services.files.run(reader.close)
        stat = answer.stat
        self._describe(FileAnswer(200, stat))
        for name in ("Content-Length", "Accept-Ranges"):  # nginx adds its own
            self.clear_header(name)
        self.set_header("X-Holdfast-Version", f"{dates.write(stat.modified_ns // 1_000_000_000)} {stat.size}")
        self.set_header("X-Accel-Redirect", self.services.settings.accel_redirect + quote(self._place(stat.name)))
        metrics.DOWNLOAD_REDIRECTED.inc()
        self.finish()

    def _place(self, name: str) -> str:
        """Return where a file is in the files directory."""
        folder = self.services.files.folder
        return f"{folder}/{name}" if folder else name

    async def _send(self, answer: FileAnswer, reader: FileReader, multipart: Multipart | None) -> None:
        files = self.services.files
        sending = Transmission(
            cast(HTTPConnection, self.request.connection),
            reader,
            files.run,
            is_ready=answer.is_ready,
            timeout=self.services.settings.send_timeout,
        )

        async def body() -> None:
            self.flush()
            if multipart is None:
                spans, size = answer.spans, answer.stat.size
                first, count = (0, size) if spans is None else (spans[0].first, spans[0].length)
                await sending.send(first, count, last=True)
                return
            for index, span in enumerate(multipart.spans):
                await sending.write(multipart.head(index))
                await sending.send(span.first, span.length, last=index == len(multipart.spans) - 1)
            await sending.write(multipart.tail)

        try:
            await self.send_body(sending, body)
        finally:
            await files.run(reader.close)

    @operation(
        "delete_file",
        None,
        problems.BAD_NAME,
        problems.NO_SUCH_FILE,
        problems.PRECONDITION_FAILED,
        problems.UNAVAILABLE,
        headers=("If-Match", "If-None-Match", "If-Unmodified-Since"),
    )
    async def delete(self, name: FileName) -> None:
        """Remove a published file."""
        await self.services.files.published.delete(name, self.request.headers)
        self.set_status(204)

    def allowed_methods(self) -> list[str]:
        return [*super().allowed_methods(), *FilePutHandler.ONLY]

    def on_lost(self) -> None:
        super().on_lost()
        self.services.files.published.stop_waiting(self)
