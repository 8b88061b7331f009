"""`/v1/uploads`: uploads by tus 1.0.0 and by the IETF draft, told apart by their own headers, and plain ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta
from tornado.web import stream_request_body

from holdfast.wire import FileInfo, UploadInfo, UploadPage
from tornado_app import problems
from tornado_app.files.uploads.upload import Upload
from tornado_app.files.uploads.writer import Writer
from tornado_app.handlers.openapi.operation import Content, operation
from tornado_app.handlers.streaming import StreamingHandler
from tornado_app.handlers.uploads.ietf import ResumableUpload
from tornado_app.handlers.uploads.protocol import UploadProtocol
from tornado_app.handlers.uploads.single_request import SingleRequest
from tornado_app.handlers.uploads.tus import Tus
from tornado_app.problems import ProblemError
from tornado_app.protocols import parameters, resumable_uploads, tus

if TYPE_CHECKING:
    from tornado_app.handlers.base import AppServices

UploadId = Annotated[str, Meta(description="The last part of the upload's `Location`.")]

_ANSWERED = (
    *("Upload-Offset", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Concat", "Upload-Expires"),
    *("Upload-Complete", "Upload-Limit", "Tus-Resumable"),
)
_DIGESTS = ("Content-Digest", "Repr-Digest")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


class CreationQuery(msgspec.Struct):
    """How an upload is created."""

    overwrite: Annotated[bool, Meta(description="Whether a published file of this name may be replaced.")] = False


class UploadsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which page of uploads."""

    cursor: Annotated[str, Meta(description="`next` of the page before.")] = ""
    limit: Annotated[int, Meta(ge=1, le=1000, description="Most uploads in a page.")] = 100


class _UploadsHandler(StreamingHandler):
    """What the collection and one upload share: which dialect is spoken, and where things are."""

    EXPOSED = (
        *("Location", "Tus-Checksum-Algorithm", "Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version"),
        *("Upload-Complete", "Upload-Concat", "Upload-Defer-Length", "Upload-Expires", "Upload-Length", "Upload-Limit"),
        *("Upload-Metadata", "Upload-Offset", "Content-Type", "ETag", "Accept-Patch", "Repr-Digest", "Retry-After"),
    )
    ACCEPTED = (
        *("Content-Type", "Content-Digest", "Content-Disposition", "Repr-Digest", "Want-Repr-Digest", "Tus-Resumable"),
        *("Upload-Checksum", "Upload-Complete", "Upload-Concat", "Upload-Defer-Length", "Upload-Draft-Interop-Version"),
        *("Upload-Length", "Upload-Metadata", "Upload-Offset", "X-HTTP-Method-Override", "X-Requested-With"),
        "X-Request-ID",
    )

    _is_in_place_of_head = False

    def initialize(self, services: AppServices) -> None:
        super().initialize(services)
        self.dialect: UploadProtocol = self._dialect()

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.clear_header("Content-Type")  # most answers have no content
        if self._is_tus:
            self.set_header("Tus-Resumable", tus.VERSION)

    @property
    def _is_tus(self) -> bool:
        headers = self.request.headers
        kind = parameters.media_type(headers.get("Content-Type", ""))
        if "Tus-Resumable" in headers or kind == tus.MEDIA_TYPE or self.request.method == "OPTIONS":
            return True
        return self.request.method == "POST" and any(name in headers for name in tus.CREATING)

    def _dialect(self) -> UploadProtocol:
        headers = self.request.headers
        if self._is_tus:
            override = headers.get("X-HTTP-Method-Override", "").upper()
            if override in self.SUPPORTED_METHODS and self.request.method != "HEAD":  # its answer can't have content
                self._is_in_place_of_head = override == "HEAD"
                self.request.method = override
            return Tus(self)
        if (
            "Upload-Complete" in headers  # even one that says nothing: it never makes a file
            or resumable_uploads.is_partial_upload(headers.get("Content-Type", ""))
            or self.request.method != "POST"
        ):
            return ResumableUpload(self)
        return SingleRequest(self)

    def compute_etag(self) -> None:
        """An upload has no entity tag."""

    def render_problem(self, problem: ProblemError) -> bytes:
        body = super().render_problem(self.dialect.problem(problem))
        return b"" if self._is_in_place_of_head else body  # Tornado sends none, and the connection waits for it

    def options(self, *args: str, **kwargs: str) -> None:
        super().options(*args, **kwargs)
        settings = self.services.settings
        self.set_header("Tus-Version", tus.VERSION)
        self.set_header("Tus-Extension", ",".join(tus.EXTENSIONS))
        self.set_header("Tus-Checksum-Algorithm", ",".join(tus.CHECKSUMS))
        if settings.max_upload_size:
            self.set_header("Tus-Max-Size", settings.max_upload_size)
        if "Upload-Complete" not in self.request.headers:
            self.set_header("Upload-Limit", resumable_uploads.limits(settings.max_upload_size, settings.upload_expiry))

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
        return self.query_as(CreationQuery).overwrite

    def interim(self, response: bytes) -> None:
        """Send an informational response, before the answer has begun."""
        stream = getattr(self.request.connection, "stream", None)
        if stream is not None and not stream.closed() and not self._headers_written:
            stream.write(response)


@stream_request_body
class UploadsHandler(_UploadsHandler):
    """`/v1/uploads`."""

    async def begin(self) -> None:
        if self.request.method == "POST":
            self.check_encoding()
            self.writer = await self.dialect.begin_creation()

    async def begin_file(self, name: str) -> Writer:
        return await self.dialect.begin_file(name)

    @operation(
        "create_upload",
        {201: Content(type=FileInfo, headers=("Location", *_ANSWERED, "ETag", "Repr-Digest"))},
        problems.BAD_NAME,
        problems.INCONSISTENT_LENGTH,
        problems.DIGEST_MISMATCH,
        problems.NO_SUCH_UPLOAD,
        problems.BROKEN,
        problems.FILE_EXISTS,
        problems.CONFLICT,
        problems.PRECONDITION_FAILED,
        problems.TOO_LARGE,
        problems.UNSUPPORTED_MEDIA_TYPE,
        problems.CHECKSUM_MISMATCH,
        problems.LOCKED,
        problems.TOO_MANY,
        problems.NO_SPACE,
        headers=(
            *("Tus-Resumable", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Concat"),
            *("Upload-Checksum", "Upload-Complete", "Content-Disposition", *_DIGESTS),
        ),
        query=CreationQuery,
        body=(Content("*/*"),),
    )
    async def post(self) -> None:
        """Create an upload, and take what the body brings of it.

        With `Tus-Resumable` by tus 1.0.0, with `Upload-Complete` by the IETF draft of resumable uploads. Without either
        the body is the whole file, or a form (`multipart/form-data`) with one file and its name. The answer has the
        file once it is published, and is empty before.
        """
        if not self.refused:
            await self.body_ended()
            await self.dialect.created()

    @operation("list_uploads", UploadPage)
    async def get(self, query: UploadsQuery) -> None:
        """List uploads: those in the making, and the finished ones until they expire."""
        self.answer(self.services.files.uploads.page(query.cursor, query.limit))


@stream_request_body
class UploadHandler(_UploadsHandler):
    """`/v1/uploads/{id}`."""

    async def begin(self) -> None:
        if self.request.method == "PATCH":
            self.check_encoding()
            self.writer = await self.dialect.begin_append(self.path_kwargs["id"])

    @operation(
        "append",
        {
            201: Content(type=FileInfo, headers=("Location", *_ANSWERED, "ETag", "Repr-Digest")),
            204: Content("", headers=_ANSWERED),
        },
        problems.INCONSISTENT_LENGTH,
        problems.DIGEST_MISMATCH,
        problems.FORBIDDEN,
        problems.NO_SUCH_UPLOAD,
        problems.OFFSET_MISMATCH,
        problems.MISMATCHING_OFFSET,
        problems.GONE,
        problems.BROKEN,
        problems.FILE_EXISTS,
        problems.CONFLICT,
        problems.PRECONDITION_FAILED,
        problems.TOO_LARGE,
        problems.UNSUPPORTED_MEDIA_TYPE,
        problems.CHECKSUM_MISMATCH,
        problems.LOCKED,
        problems.NO_SPACE,
        headers=(
            *("Tus-Resumable", "Upload-Offset", "Upload-Length", "Upload-Checksum", "Upload-Complete"),
            "Content-Digest",
        ),
        body=(Content(tus.MEDIA_TYPE), Content(resumable_uploads.MEDIA_TYPE)),
    )
    async def patch(self, id: UploadId) -> None:
        """Append at `Upload-Offset`. What has arrived stays, even if the connection breaks."""
        if not self.refused:
            await self.body_ended()
            await self.dialect.appended()

    @operation(
        "upload_head",
        {200: Content("", headers=_ANSWERED), 204: Content("", headers=_ANSWERED)},
        problems.NO_SUCH_UPLOAD,
        problems.GONE,
        problems.BROKEN,
        problems.PRECONDITION_FAILED,
        headers=("Tus-Resumable",),
    )
    async def head(self, id: UploadId) -> None:
        """Tell where an upload stands: 200 by tus, 204 by the IETF draft. An older request for it lets go."""
        await self.dialect.head(id)

    @operation("get_upload", UploadInfo, problems.NO_SUCH_UPLOAD, problems.GONE, problems.BROKEN)
    async def get(self, id: UploadId) -> None:
        """Show an upload as it stands."""
        uploads = self.services.files.uploads
        upload = uploads.get(id)
        if any(name.startswith(("Upload-", "Tus-")) for name in self.request.headers):
            await uploads.request_release(upload, self.is_lost)
        if upload.writer is None:  # else the offset is not one to go on from
            ResumableUpload(self).describe(upload)
        self.answer(uploads.info(upload))

    @operation(
        "delete_upload",
        None,
        problems.NO_SUCH_UPLOAD,
        problems.GONE,
        problems.PRECONDITION_FAILED,
        headers=("Tus-Resumable",),
    )
    async def delete(self, id: UploadId) -> None:
        """Give up an upload; of a finished one only what is known of it goes, never the published file."""
        await self.dialect.delete(id)
