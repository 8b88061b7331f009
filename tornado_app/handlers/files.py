"""`/v1/files`: published files, by the standard methods and headers of HTTP (RFC 9110, RFC 9530)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable
from functools import lru_cache
from typing import Annotated, Literal, cast
from urllib.parse import quote

import msgspec
from msgspec import Meta
from tornado.httputil import HTTPConnection
from tornado.iostream import StreamClosedError
from tornado.web import stream_request_body

from holdfast.wire import FileInfo, FileName, FilePage
from tornado_app import problems
from tornado_app.files import metrics
from tornado_app.files.published.decisions import FileAnswer
from tornado_app.files.published.service import PutRequest
from tornado_app.files.store.interface import FileReader, FileStat
from tornado_app.files.uploads.digest_check import given_block_digest
from tornado_app.files.uploads.small_files.requests import SMALL as SMALL_UPLOAD
from tornado_app.files.uploads.small_files.requests import SmallUpload
from tornado_app.handlers.base import BaseHandler
from tornado_app.handlers.forms import file_field
from tornado_app.handlers.openapi.operation import Content, operation
from tornado_app.handlers.streaming import StreamingHandler
from tornado_app.protocols import conditionals, content_disposition, dates, digests, media_types, resumable_uploads
from tornado_app.protocols.ranges import Multipart
from tornado_app.server.sendfile import FileChangedError, StalledError, Transmission

_EXPOSED = (
    "Accept-Ranges",
    "Block-Digest",
    "Content-Disposition",
    "Content-Length",
    "Content-Range",
    "ETag",
    "Last-Modified",
    "Location",
    "Repr-Digest",
    "Retry-After",
)
_ACCEPTED = (
    "Block-Digest",
    "Content-Digest",
    "Content-Type",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Range",
    "Repr-Digest",
    "Want-Repr-Digest",
)


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
_DIGESTS = ("Block-Digest", "Content-Digest", "Repr-Digest")


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


class LinkQuery(msgspec.Struct):
    """Parameters of a signed link, which replace a token."""

    expires: Annotated[str, Meta(description="Until when, in seconds since the epoch.")] | None = None
    signature: Annotated[str, Meta(description="By which the server knows its link.")] | None = None
    user: Annotated[str, Meta(description="Whose file it is, where users are kept apart.")] | None = None


class NamedHandler(BaseHandler):
    """`/v1/files/{name}`, also for names that are not UTF-8."""

    EXPOSED = _EXPOSED
    ACCEPTED = _ACCEPTED

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """Decode a part of the path. A name that is not UTF-8 is answered with 404, because no file has it."""
        return value.decode("utf-8", "surrogateescape")


class LinkedHandler(NamedHandler):
    """Also for whoever has a signed link, to read."""

    def link_owner(self) -> str | None:
        if self.request.method not in ("GET", "HEAD"):
            return None
        link = self.query_as(LinkQuery)
        return None if link.signature is None else link.user or ""


class FilesHandler(BaseHandler):
    """`/v1/files`."""

    EXPOSED = _EXPOSED
    ACCEPTED = _ACCEPTED

    @operation("list_files", FilePage)
    async def get(self, query: FilesQuery) -> None:
        """List published files, by name."""
        page = self.services.files.published.page
        self.respond(await page(query.prefix, query.cursor, query.limit, by_level=query.delimiter is not None))


class FileHandler(LinkedHandler):
    """`/v1/files/{name}`: all but PUT."""

    MAY_BE_VISITED = True

    _sending: Transmission | None = None

    def is_signed(self) -> bool:
        if self.request.method not in ("GET", "HEAD"):
            return False
        link = self.query_as(LinkQuery)
        if link.signature is None:
            return False
        why = self.services.links.refusal(self.path_kwargs["name"], link.expires, link.signature)
        if why:
            raise problems.UNAUTHORIZED(why)
        return True

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
                self._completed()
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
        self.set_status(answer.status)
        described, multipart = describe(answer, self.request.headers.get("Want-Repr-Digest"))
        for name, value in described.items():
            self._headers[name] = value  # set_header would check for line breaks
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
        sending = self._sending = Transmission(
            cast(HTTPConnection, self.request.connection),
            reader,
            files.run,
            is_ready=answer.is_ready,
            timeout=self.services.settings.send_timeout,
        )
        try:
            if self.lost:
                raise StreamClosedError
            self.flush()
            if multipart is None:
                first, count = (
                    (0, answer.stat.size) if answer.spans is None else (answer.spans[0].first, answer.spans[0].length)
                )
                await sending.send(first, count, last=True)
            else:
                for index, span in enumerate(multipart.spans):
                    await sending.write(multipart.head(index))
                    await sending.send(span.first, span.length, last=index == len(multipart.spans) - 1)
                await sending.write(multipart.tail)
            self._completed()
        except StreamClosedError:
            metrics.DOWNLOAD_CUT.inc()
            self.request.connection.close()  # type: ignore[union-attr]  # sendfile may know before the stream does
        except StalledError:
            metrics.DOWNLOAD_STALLED.inc()
            self.request.connection.close()  # type: ignore[union-attr]
        except FileChangedError:
            metrics.DOWNLOAD_CHANGED.inc()
            self.request.connection.close()  # type: ignore[union-attr]
        finally:
            self._sending = None
            await files.run(reader.close)

    def _completed(self) -> None:
        metrics.DOWNLOAD_COMPLETE.inc()
        metrics.DOWNLOAD_SECONDS.observe(self.request.request_time())

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
        if self._sending is not None:
            self._sending.abort()
        self.services.files.published.stop_waiting(self)

    def compute_etag(self) -> None:
        """Return none: the file has its own, and Tornado would hash the body."""

    def check_etag_header(self) -> bool:
        return False  # preconditions are already evaluated


@stream_request_body
class FilePutHandler(StreamingHandler, NamedHandler):
    """`/v1/files/{name}`: PUT."""

    ONLY = ("PUT",)

    _put: PutRequest
    _small: SmallUpload | None = None

    async def begin(self) -> None:
        self._check_whole()
        self.check_encoding()
        form = file_field(self.request.headers, self.server_url)
        size = self.body_size
        if form is None and size is not None and size <= SMALL_UPLOAD and "Expect" not in self.request.headers:
            self._small = self.services.files.published.begin_small_put(
                self.path_kwargs["name"],
                length=size,
                digests=self._given_digests(),
                block_digest=given_block_digest(self.request.headers.get("Block-Digest")).get(digests.BLOCK_ALGORITHM),
                client=self.client,
            )
            return
        self._put = await self.services.files.published.put(
            self.path_kwargs["name"],
            self.request.headers,
            length=self.body_size if form is None else None,
            digests=self._given_digests(),
            block_digest=given_block_digest(self.request.headers.get("Block-Digest")),
            on_release_requested=self.on_release_requested,
            client=self.client,
        )
        self.writer, self.decoder = self._put.writer, form
        self.writer.creates_upload = True

    def data_received(self, chunk: bytes | memoryview) -> Awaitable[None] | None:
        if self._small is None or self.refused:
            return super().data_received(chunk)
        self.received_bytes()
        self._small.data += chunk
        return None

    def on_lost(self) -> None:
        if self._small is not None:
            self.services.files.published.cancel_small_put(self._small)
        super().on_lost()

    def on_finish(self) -> None:
        if self._small is not None:
            self.services.files.published.cancel_small_put(self._small)
        super().on_finish()

    def _check_whole(self) -> None:
        """Refuse a part of a file (RFC 9110, section 14.5), as `curl -C -` sends it. Raises BAD_REQUEST."""
        given, size = self.request.headers.get("Content-Range"), self.body_size
        if given is not None and (not size or given != f"bytes 0-{size - 1}/{size}"):
            raise problems.BAD_REQUEST(
                f"a PUT is of a whole file, not of the part {given[:100]!r}; "
                "create an upload that can be resumed with POST /v1/uploads"
            )
        headers = self.request.headers
        if resumable_uploads.Fields.read(headers).complete is False or resumable_uploads.is_partial_upload(
            headers.get("Content-Type", "")
        ):
            raise problems.BAD_REQUEST(
                "a PUT is of a whole file, and the headers describe a part; "
                "create an upload that can be resumed with POST /v1/uploads"
            )

    def _given_digests(self) -> dict[str, bytes]:
        """Return the digests of the file by hashlib name. In a PUT both fields have the same meaning."""
        found: dict[str, bytes] = {}
        for field in ("Content-Digest", "Repr-Digest"):
            value = self.request.headers.get(field)
            given = {} if value is None else digests.read(value)
            if given is None:
                raise problems.BAD_REQUEST(
                    f"{field} can't be read. It looks like sha-256=:BASE64:, not {(value or '')[:100]!r}"
                )
            for algorithm, digest in given.items():
                if found.setdefault(digests.HASHLIB[algorithm], digest) != digest:
                    raise problems.DIGEST_MISMATCH(f"Content-Digest and Repr-Digest have two values for {algorithm}")
        return found

    @operation(
        "put_file",
        {
            200: Content(type=FileInfo, headers=("ETag", "Block-Digest")),
            201: Content(type=FileInfo, headers=("ETag", "Block-Digest", "Location")),
        },
        problems.BAD_NAME,
        problems.DIGEST_MISMATCH,
        problems.BROKEN,
        problems.CONFLICT,
        problems.PRECONDITION_FAILED,
        problems.UNAVAILABLE,
        problems.TOO_LARGE,
        problems.UNSUPPORTED_MEDIA_TYPE,
        problems.TOO_MANY,
        problems.NO_SPACE,
        headers=("If-Match", "If-None-Match", "If-Unmodified-Since", *_DIGESTS),
        body=(Content("*/*"),),
    )
    async def put(self, name: FileName) -> None:
        """Create or replace a file in one step. A request that is cut leaves nothing behind.

        A form (`multipart/form-data`) may carry the file; its name there is ignored.
        """
        if self.refused or (self.writer is None and self._small is None):
            return
        await self.body_ended()
        published = self.services.files.published
        if self._small is not None:
            file, replaces = await published.finish_small_put(self._small, self.request.headers)
        else:
            file, replaces = await published.finish_put(self._put), self._put.replaces
        self.set_header("ETag", conditionals.quoted(file.etag))
        if file.block_digest is not None:
            self.set_header("Block-Digest", digests.write_block(bytes.fromhex(file.block_digest)))
        if not replaces:
            below = self.request.path.removeprefix(self.services.settings.base_url)
            self.set_header("Location", self.address(f"/{below}"))
        self.respond(file, 200 if replaces else 201)


def describe(answer: FileAnswer, want_repr_digest: str | None) -> tuple[dict[str, str], Multipart | None]:
    """Return the headers of an answer, and the framing of a body of several ranges. No value has a line break."""
    stat, spans = answer.stat, answer.spans
    headers = {
        "ETag": conditionals.quoted(stat.etag),
        "Cache-Control": "no-cache",
        "Last-Modified": dates.write(min(stat.modified_ns // 1_000_000_000, time.time())),
    }
    if answer.status == 304:
        return headers, None
    headers["Accept-Ranges"] = "bytes"
    headers["Content-Disposition"] = _disposition(stat.name)
    digest = _digest(stat, want_repr_digest)
    if digest is not None:
        headers["Repr-Digest"] = digest
    elif answer.digest_in is not None:
        headers["Retry-After"] = str(answer.digest_in)
    if stat.block_digest is not None:
        headers["Block-Digest"] = digests.write_block(bytes.fromhex(stat.block_digest))
    kind = media_types.of(stat.name)
    if spans is not None and len(spans) > 1:
        multipart = Multipart(secrets.token_hex(16), spans, stat.size, kind)
        headers["Content-Type"] = multipart.content_type
        headers["Content-Length"] = str(multipart.content_length)
        return headers, multipart
    headers["Content-Type"] = kind
    if spans is None:
        headers["Content-Length"] = str(stat.size)
    else:
        headers["Content-Range"] = spans[0].content_range(stat.size)
        headers["Content-Length"] = str(spans[0].length)
    return headers, None


def _digest(stat: FileStat, wanted: str | None) -> str | None:
    if stat.sha256 is None:
        return None
    algorithm = digests.preferred(wanted, ("sha-256",))
    return None if algorithm is None else digests.write(algorithm, bytes.fromhex(stat.sha256))


@lru_cache(maxsize=4096)
def _disposition(name: str) -> str:
    return content_disposition.attachment(name.rpartition("/")[2])
