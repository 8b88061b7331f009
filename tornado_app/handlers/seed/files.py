"""The seed's endpoints for files: pieces of text, addressed by the file's name."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from tornado.web import stream_request_body

from holdfast.wire import DownloadPiece, FileName, UploadCancelled, UploadStatus
from tornado_app import problems
from tornado_app.files.seed import Encoding
from tornado_app.handlers.openapi.operation import Content, operation
from tornado_app.handlers.seed.base import SeedHandler
from tornado_app.handlers.streaming import StreamingHandler
from tornado_app.protocols.forms import text
from tornado_app.protocols.forms.decoder import BodyError

Count = Annotated[int, Meta(ge=0, le=10**18)]
AsText = Annotated[Encoding, Meta(description="How the bytes are written: as UTF-8 text, or as base64.")]


class FileQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters of every request for a file."""

    file_name: FileName


class DownloadQuery(FileQuery, kw_only=True):
    """Parameters of a download."""

    bytes_read: Annotated[Count, Meta(description="Where the piece starts, in bytes.")] = 0
    encoding: AsText = "text"
    etag: Annotated[str, Meta(description="`etag` of the first piece: refused if the file is another by now.")] = ""


class UploadQuery(FileQuery, kw_only=True):
    """Parameters of an upload."""

    bytes_read: Annotated[Count, Meta(description="Where the piece belongs: `bytes_read` of the last answer.")] = 0
    file_size: Annotated[Count, Meta(description="How long the whole will be, in bytes.")] | None = None
    is_complete: Annotated[bool, Meta(description="Whether this is the last piece, without `file_size`.")] = False
    encoding: AsText = "text"
    overwrite: Annotated[bool, Meta(description="Whether a published file of this name may be replaced.")] = False


class TextBody(msgspec.Struct):
    """A piece as JSON or as a form."""

    text: str


class SeedDownloadHandler(SeedHandler):
    """`GET /download/`."""

    @operation(
        "seed_download",
        DownloadPiece,
        problems.NO_SUCH_FILE,
        problems.NOT_ACCEPTABLE_ENCODING,
        problems.FILE_CHANGED,
    )
    async def get(self, query: DownloadQuery) -> None:
        """Read a piece of a file. Go on at its `bytes_read` until `is_complete`."""
        seed = self.services.files.seed
        self.respond(await seed.piece(query.file_name, query.bytes_read, query.encoding, query.etag))


@stream_request_body
class SeedUploadHandler(StreamingHandler, SeedHandler):
    """`/upload/`."""

    async def begin(self) -> None:
        if self.request.method != "POST":
            return
        query = self.query_as(UploadQuery)
        self._is_complete = query.is_complete
        coding = self.request.headers.get("Content-Encoding", "").strip().lower()
        if coding not in ("", "identity"):
            raise problems.BAD_BODY(f"the body has the Content-Encoding {coding[:80]}. Send it without one")
        try:
            decoder = text.decoder(self.request.headers.get("Content-Type", ""), query.encoding)
        except BodyError as error:
            raise problems.BAD_BODY(str(error)) from None
        self.decoder = None if isinstance(decoder, text.Raw) else decoder
        self.writer = await self.services.files.seed.append(
            query.file_name,
            query.bytes_read,
            file_size=query.file_size,
            overwrite=query.overwrite,
            body_size=self.body_size if self.decoder is None else None,
            on_release_requested=self.on_release_requested,
            client=self.client,
        )

    @operation("seed_upload_status", UploadStatus, problems.NO_SUCH_FILE)
    async def get(self, query: FileQuery) -> None:
        """Return the offset of an upload, or the size of a published file."""
        self.respond(await self.services.files.seed.status(query.file_name))

    @operation(
        "seed_upload",
        UploadStatus,
        problems.BAD_NAME,
        problems.OFFSET_MISMATCH,
        problems.FILE_EXISTS,
        problems.CONFLICT,
        problems.LOCKED,
        problems.BROKEN,
        problems.TOO_LARGE,
        problems.TOO_MANY,
        problems.NO_SPACE,
        query=UploadQuery,
        body=(
            Content("application/octet-stream"),
            Content("application/x-www-form-urlencoded", TextBody),
            Content("multipart/form-data", TextBody),
            Content("application/json", TextBody),
        ),
    )
    async def post(self) -> None:
        """Append a piece to an unfinished file; the last piece publishes it."""
        if self.refused or self.writer is None:
            return
        await self.body_ended()
        self.respond(await self.services.files.seed.finish(self.writer, is_complete=self._is_complete))


class SeedUploadCancelHandler(SeedHandler):
    """`POST /upload/cancel/`."""

    @operation("seed_upload_cancel", UploadCancelled, problems.BAD_NAME, problems.NO_SUCH_UPLOAD)
    async def post(self, query: FileQuery) -> None:
        """Delete an unfinished file, and nothing else."""
        self.respond(await self.services.files.seed.cancel(query.file_name))
