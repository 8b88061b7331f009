"""`/v1/uploads`: writes what the protocol of each request answers: tus 1.0.0, the IETF draft, or a single request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from msgspec import Meta
from tornado.web import stream_request_body

from holdfast.wire import FileInfo, UploadInfo, UploadPage
from tornado_app import problems
from tornado_app.files.uploads.writer import Writer
from tornado_app.handlers.openapi.operation import Content, operation
from tornado_app.handlers.streaming import StreamingHandler
from tornado_app.handlers.uploads import choice
from tornado_app.handlers.uploads.ietf import ResumableUpload
from tornado_app.handlers.uploads.messages import (
    CreationQuery,
    Receiver,
    UploadRequest,
    UploadResponse,
)
from tornado_app.handlers.uploads.protocol import UploadProtocol, wanted_digest
from tornado_app.identity.principal import READ, WRITE
from tornado_app.problems import ProblemError
from tornado_app.protocols import resumable_uploads, tus

if TYPE_CHECKING:
    from tornado_app.handlers.base import AppServices

P = TypeVar("P", bound=UploadProtocol)

UploadId = Annotated[str, Meta(description="The last part of the upload's `Location`.")]

_ANSWERED = (
    *("Upload-Offset", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Concat", "Upload-Expires"),
    *("Upload-Complete", "Upload-Limit", "Tus-Resumable", "Want-Block-Digest"),
)
_FILE = ("ETag", "Last-Modified", "Block-Digest", "Repr-Digest")
_DIGESTS = ("Block-Digest", "Content-Digest", "Repr-Digest")


_WANTING = ("HEAD", "OPTIONS", "PATCH", "POST")


class UploadsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Page of a listing of uploads."""

    cursor: Annotated[str, Meta(description="`next` of the page before.")] = ""
    limit: Annotated[int, Meta(ge=1, le=1000, description="Most uploads in a page.")] = 100


class _UploadsHandler(StreamingHandler):
    """Base of both handlers: finds the protocol of a request and writes its responses."""

    EXPOSED = (
        *("Location", "Tus-Checksum-Algorithm", "Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version"),
        *("Upload-Complete", "Upload-Concat", "Upload-Defer-Length", "Upload-Expires", "Upload-Length", "Upload-Limit"),
        *("Upload-Metadata", "Upload-Offset", "Content-Type", "ETag", "Accept-Patch", "Repr-Digest", "Retry-After"),
        *("Block-Digest", "Last-Modified", "Want-Block-Digest"),
    )
    ACCEPTED = (
        *("Content-Type", "Content-Digest", "Content-Disposition", "Repr-Digest", "Want-Repr-Digest", "Tus-Resumable"),
        *("Upload-Checksum", "Upload-Complete", "Upload-Concat", "Upload-Defer-Length", "Upload-Draft-Interop-Version"),
        *("Upload-Length", "Upload-Metadata", "Upload-Offset", "X-HTTP-Method-Override", "X-Requested-With"),
        *("Block-Digest", "X-Request-ID"),
    )

    def initialize(self, services: AppServices) -> None:
        super().initialize(services)
        request = self.request
        chosen = choice.choose(request.method or "", request.headers, self.SUPPORTED_METHODS)
        request.method = chosen.method
        self._replaces_head = chosen.replaces_head
        self._chosen = chosen.protocol
        self.protocol = self._speak(chosen.protocol)
        self._ask_for_digest()

    def on_admitted(self) -> None:
        self.protocol = self._speak(self._chosen)

    def needed_scopes(self) -> Sequence[str]:
        return (WRITE,) if self.request.method in ("POST", "PATCH", "DELETE") else (READ, WRITE)

    def _speak(self, protocol: type[P]) -> P:
        settings, request = self.services.settings, self.request
        message = UploadRequest(
            method=request.method or "",
            headers=request.headers,
            version=request.version,
            arguments=request.query_arguments,
            content_length=self.body_size,
            server_url=self.server_url,
            root=self.address(""),
            client=self.client if request.method == "POST" else "",
            is_lost=self.is_lost,
            on_release_requested=self.on_release_requested,
        )
        return protocol(message, self.services.files.uploads, settings.max_upload_size)

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.clear_header("Content-Type")  # most responses have no content
        if choice.is_tus(self.request.method or "", self.request.headers):
            self.set_header("Tus-Resumable", tus.VERSION)

    def compute_etag(self) -> None:
        """Return none: an upload has no entity tag."""

    def _ask_for_digest(self) -> None:
        if self.request.method in _WANTING:
            self._headers.update(wanted_digest(self.services.files.uploads))

    def render_problem(self, problem: ProblemError) -> bytes:
        self._ask_for_digest()  # again: Tornado clears all headers before an error
        body = super().render_problem(self.protocol.problem(problem))
        return b"" if self._replaces_head else body  # Tornado sends none, and the connection would wait for it

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

    # -- for the protocol

    def receive(self, receiver: Receiver) -> None:
        """Let the body go where the protocol wants it, and send the interim responses."""
        self.writer, self.form = receiver.writer, receiver.form  # first: sending may find that the connection is lost
        for response in receiver.interim:
            self._send_interim(response)
        if receiver.writer is not None and receiver.has_progress:
            receiver.writer.on_progress = self._on_progress

    def send(self, response: UploadResponse) -> None:
        """Write a response and finish."""
        self.set_status(response.status)
        for name, value in response.headers.items():
            self.set_header(name, value)
        self.finish(response.body or None)

    def _on_progress(self, offset: int) -> None:
        response = self.protocol.progress(offset)
        if response is not None:
            self._send_interim(response)

    def _send_interim(self, response: bytes) -> None:
        stream = getattr(self.request.connection, "stream", None)
        if stream is not None and not stream.closed() and not self._headers_written:
            stream.write(response)


@stream_request_body
class UploadsHandler(_UploadsHandler):
    """`/v1/uploads`."""

    async def begin(self) -> None:
        if self.request.method == "POST":
            self.check_encoding()
            self.receive(await self.protocol.begin_creation())

    async def begin_file(self, name: str) -> Writer:
        return await self.protocol.begin_file(name)

    @operation(
        "create_upload",
        {201: Content(type=FileInfo, headers=("Location", *_ANSWERED, *_FILE))},
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
        """Create an upload, and append the body to it.

        With `Tus-Resumable` by tus 1.0.0, with `Upload-Complete` by the IETF draft of resumable uploads. Without either
        the body is the whole file, or a form (`multipart/form-data`) with one file and its name. The answer has the
        file once it is published, and is empty before.
        """
        if not self.refused:
            await self.body_ended()
            self.send(await self.protocol.created())

    @operation("list_uploads", UploadPage)
    async def get(self, query: UploadsQuery) -> None:
        """List uploads: unfinished ones, and finished ones until they expire."""
        self.respond(self.services.files.uploads.page(query.cursor, query.limit))


@stream_request_body
class UploadHandler(_UploadsHandler):
    """`/v1/uploads/{id}`."""

    async def begin(self) -> None:
        if self.request.method == "PATCH":
            self.check_encoding()
            self.receive(await self.protocol.begin_append(self.path_kwargs["id"]))

    @operation(
        "append",
        {
            201: Content(type=FileInfo, headers=("Location", *_ANSWERED, *_FILE)),
            204: Content("", headers=(*_ANSWERED, *_FILE)),
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
            *("Block-Digest", "Content-Digest"),
        ),
        body=(Content(tus.MEDIA_TYPE), Content(resumable_uploads.MEDIA_TYPE)),
    )
    async def patch(self, id: UploadId) -> None:
        """Append at `Upload-Offset`. What has arrived stays, even if the connection breaks."""
        if not self.refused:
            await self.body_ended()
            self.send(await self.protocol.appended())

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
        """Return the offset of an upload: 200 by tus, 204 by the IETF draft. An older request for it is ended."""
        self.send(await self.protocol.head(id))

    @operation("get_upload", UploadInfo, problems.NO_SUCH_UPLOAD, problems.GONE, problems.BROKEN)
    async def get(self, id: UploadId) -> None:
        """Show an upload as it stands."""
        uploads = self.services.files.uploads
        upload = uploads.get(id)
        if any(name.startswith(("Upload-", "Tus-")) for name in self.request.headers):
            await uploads.request_release(upload, self.is_lost)
        if uploads.current_writer(upload) is None:  # else the offset is about to change
            for name, value in self._speak(ResumableUpload).state(upload).items():
                self.set_header(name, value)
        self.respond(uploads.info(upload))

    @operation(
        "delete_upload",
        None,
        problems.NO_SUCH_UPLOAD,
        problems.GONE,
        problems.PRECONDITION_FAILED,
        headers=("Tus-Resumable",),
    )
    async def delete(self, id: UploadId) -> None:
        """Delete an upload. The published file of a finished one stays."""
        self.send(await self.protocol.delete(id))
