"""`/v1/uploads`: uploads by tus 1.0.0 and by the IETF draft, told apart by their own headers, and plain ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from tornado.web import stream_request_body

from tornado_app import problems
from tornado_app.files.upload import Upload
from tornado_app.handlers.cors import CrossOriginHandler
from tornado_app.handlers.dialects import Dialect
from tornado_app.handlers.plain import Plain
from tornado_app.handlers.resumable import Draft
from tornado_app.handlers.streaming import StreamingHandler
from tornado_app.handlers.tus import Tus
from tornado_app.problems import ProblemError
from tornado_app.protocols import resumable, tus

if TYPE_CHECKING:
    from tornado_app.handlers.base import Services

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


class _UploadsHandler(StreamingHandler, CrossOriginHandler):
    """What the collection and one upload share: which dialect is spoken, and where things are."""

    EXPOSED = (
        *("Location", "Tus-Checksum-Algorithm", "Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version"),
        *("Upload-Complete", "Upload-Concat", "Upload-Defer-Length", "Upload-Expires", "Upload-Length", "Upload-Limit"),
        *("Upload-Metadata", "Upload-Offset", "Content-Type", "ETag", "Repr-Digest", "Retry-After"),
    )
    ACCEPTED = (
        *("Content-Type", "Content-Digest", "Content-Disposition", "Repr-Digest", "Want-Repr-Digest", "Tus-Resumable"),
        *("Upload-Checksum", "Upload-Complete", "Upload-Concat", "Upload-Defer-Length", "Upload-Draft-Interop-Version"),
        *("Upload-Length", "Upload-Metadata", "Upload-Offset", "X-HTTP-Method-Override", "X-Requested-With"),
    )

    def initialize(self, services: Services) -> None:
        super().initialize(services)
        self.dialect: Dialect = self._dialect()

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.clear_header("Content-Type")  # most answers have no content
        if self._is_tus:
            self.set_header("Tus-Resumable", tus.VERSION)

    @property
    def _is_tus(self) -> bool:
        headers = self.request.headers
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return "Tus-Resumable" in headers or kind == tus.MEDIA_TYPE or self.request.method == "OPTIONS"

    def _dialect(self) -> Dialect:
        headers = self.request.headers
        if self._is_tus:
            override = headers.get("X-HTTP-Method-Override", "").upper()
            if override in self.SUPPORTED_METHODS:
                self.request.method = override
            return Tus(self)
        if (
            "Upload-Complete" in headers
            or resumable.is_partial_upload(headers.get("Content-Type", ""))
            or self.request.method != "POST"
        ):
            return Draft(self)
        return Plain(self)

    def compute_etag(self) -> None:
        """An upload has no entity tag."""

    def render_problem(self, problem: ProblemError) -> bytes:
        return super().render_problem(self.dialect.problem(problem))

    def options(self, *args: str, **kwargs: str) -> None:
        super().options(*args, **kwargs)
        settings = self.services.settings
        self.set_header("Tus-Version", tus.VERSION)
        self.set_header("Tus-Extension", ",".join(tus.EXTENSIONS))
        self.set_header("Tus-Checksum-Algorithm", ",".join(tus.CHECKSUMS))
        if settings.max_upload_size:
            self.set_header("Tus-Max-Size", settings.max_upload_size)
        if "Upload-Complete" not in self.request.headers:
            self.set_header("Upload-Limit", resumable.limits(settings.max_upload_size, settings.upload_expiry))

    # -- where things are

    @property
    def _prefix(self) -> str:
        """The path under which a proxy of our own forwards to us."""
        prefix = self.request.headers.get("X-Forwarded-Prefix", "").rstrip("/")
        return prefix if self.services.settings.trust_proxy and _PREFIX.fullmatch(prefix) else ""

    def location_of(self, upload: Upload) -> str:
        """The URL of an upload, as an absolute path."""
        return f"{self._prefix}/v1/uploads/{upload.id}"

    def location_of_file(self, name: str) -> str:
        """The URL of a published file, as an absolute path."""
        return f"{self._prefix}/v1/files/{quote(name)}"

    @property
    def overwrites(self) -> bool:
        """`?overwrite=true`: a file of this name may be replaced. Raises BAD_PARAMETERS."""
        value = self.one("overwrite")
        if value not in (None, "true", "false"):
            raise problems.BAD_PARAMETERS(f"overwrite is true or false, not {value!r}", field="overwrite")
        return value == "true"

    def interim(self, response: bytes) -> None:
        """Send an informational response, before the answer has begun."""
        stream = getattr(self.request.connection, "stream", None)
        if stream is not None and not stream.closed() and not self._headers_written:
            stream.write(response)


@stream_request_body
class UploadsHandler(_UploadsHandler):
    """`POST /v1/uploads` creates an upload; `GET` lists those there are."""

    async def begin(self) -> None:
        if self.request.method == "POST":
            self.writer = await self.dialect.begin_creation()

    async def post(self) -> None:
        if not self.refused:
            await self.body_ended()
            await self.dialect.created()

    async def get(self) -> None:
        cursor, limit = self.one("cursor") or "", self.whole("limit", 100, 1, 1000)
        self.answer(self.services.files.uploads.page(cursor, limit))


@stream_request_body
class UploadHandler(_UploadsHandler):
    """`HEAD`, `PATCH`, `DELETE` and `GET` of one upload."""

    async def begin(self) -> None:
        if self.request.method == "PATCH":
            self.writer = await self.dialect.begin_append(self.path_kwargs["id"])

    async def patch(self, id: str) -> None:
        if not self.refused:
            await self.body_ended()
            await self.dialect.appended()

    async def post(self, id: str) -> None:
        """Only as what `X-HTTP-Method-Override` makes of it."""
        raise problems.METHOD_NOT_ALLOWED("POST creates uploads at /v1/uploads; go on with this one by PATCH")

    async def head(self, id: str) -> None:
        await self.dialect.head(id)

    async def get(self, id: str) -> None:
        uploads = self.services.files.uploads
        upload = uploads.get(id)
        if any(name.startswith(("Upload-", "Tus-")) for name in self.request.headers):
            await uploads.settled(upload)
        if upload.writer is None:  # else the offset is not one to go on from
            Draft(self).describe(upload)
        self.answer(uploads.info(upload))

    async def delete(self, id: str) -> None:
        await self.dialect.delete(id)
