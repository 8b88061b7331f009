"""`/v1/block-uploads`: uploads whose blocks come in any order, over several connections at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta
from tornado.web import stream_request_body

from holdfast.wire import BlockDigests, BlockUpload, BlockUploadEnd, BlockUploadRequest, ContentHint, FileInfo
from tornado_app import problems
from tornado_app.files.published.decisions import info
from tornado_app.files.uploads.blocks.body import BlockBody
from tornado_app.files.uploads.blocks.service import BlockUploads
from tornado_app.files.uploads.upload import Upload
from tornado_app.handlers.base import AppServices, BaseHandler
from tornado_app.handlers.bodies import JsonHandler
from tornado_app.handlers.openapi.operation import Content, operation
from tornado_app.handlers.streaming import StreamingHandler
from tornado_app.identity.principal import READ, WRITE
from tornado_app.protocols import conditionals

BlockUploadId = Annotated[str, Meta(description="The last part of the upload's `Location`.")]
FirstBlock = Annotated[str, Meta(pattern="^[0-9]+$", description="The first block of the body, counted from 0.")]

_MOST_DIGITS = 15
_UNUSABLE = (problems.NO_SUCH_UPLOAD, problems.GONE, problems.BROKEN)


class _BlockUploadHandler(BaseHandler):
    """Base of the handlers: the service, and an upload with the file that it became."""

    EXPOSED = (*BaseHandler.EXPOSED, "ETag")

    def needed_scopes(self) -> Sequence[str]:
        return (READ, WRITE) if self.request.method == "GET" else (WRITE,)

    @property
    def uploads(self) -> BlockUploads:
        """Return the service."""
        return self.services.files.block_uploads

    def compute_etag(self) -> None:
        """Return none: an upload has no entity tag."""

    async def state(self, upload: Upload) -> BlockUpload:
        """Return an upload as it crosses the wire."""
        published = upload.published
        return await self.uploads.state(upload, None if published is None else info(published))


class BlockUploadsHandler(_BlockUploadHandler, JsonHandler):
    """`/v1/block-uploads`."""

    MOST = 64 << 20  # the digests of more than a TiB

    @operation(
        "create_block_upload",
        {201: Content(type=BlockUpload, headers=("Location",))},
        problems.BAD_NAME,
        problems.NOT_FOUND,
        problems.FILE_EXISTS,
        problems.CONFLICT,
        problems.PRECONDITION_FAILED,
        problems.TOO_LARGE,
        problems.TOO_MANY,
        problems.NO_SPACE,
    )
    async def post(self, body: BlockUploadRequest) -> None:
        """Create an upload whose blocks come in any order.

        With the digests of all blocks each one is verified as it arrives, and those that the server has are not asked
        for: those of the `base`, or all of them, if a file that the caller may read has the same content.
        """
        upload = await self.uploads.create(body, client=self.client)
        self.set_header("Location", self.address(f"/v1/block-uploads/{upload.id}"))
        self.respond(await self.state(upload), 201)


class ContentQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Size and first block of a file that may be here already."""

    size: Annotated[int, Meta(ge=0, le=(1 << 63) - 1, description="Bytes of the file.")]
    first: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="Digest of its first block, as hex.")]


class KnownContentHandler(_BlockUploadHandler):
    """`/v1/known-content`."""

    @operation("known_content", ContentHint)
    async def get(self, query: ContentQuery) -> None:
        """Say whether a file with this size and first block is here, so that it pays to compute the digests of all.

        It may still be another file: an upload by blocks that is created with all digests finds out.
        """
        self.respond(ContentHint(await self.uploads.may_have(query.size, bytes.fromhex(query.first))))


class BlockUploadHandler(_BlockUploadHandler):
    """`/v1/block-uploads/{id}`."""

    @operation("get_block_upload", BlockUpload, *_UNUSABLE)
    async def get(self, id: BlockUploadId) -> None:
        """Show which blocks are missing; once the upload is complete, the file that it became. Ends no request."""
        self.respond(await self.state(self.uploads.get(id)))

    @operation("delete_block_upload", None, problems.NO_SUCH_UPLOAD, problems.GONE)
    async def delete(self, id: BlockUploadId) -> None:
        """Delete an upload. The published file of a complete one stays."""
        await self.uploads.cancel(id)
        self.set_status(204)
        self.clear_header("Content-Type")
        self.finish()


class BlockDigestsHandler(_BlockUploadHandler):
    """`/v1/block-uploads/{id}/digests`."""

    @operation("block_upload_digests", BlockDigests, *_UNUSABLE, problems.CONFLICT)
    async def get(self, id: BlockUploadId) -> None:
        """Show the digests of the blocks that are there."""
        self.respond(await self.uploads.digests(self.uploads.get(id)))


class BlockUploadEndHandler(_BlockUploadHandler, JsonHandler):
    """`/v1/block-uploads/{id}/end`."""

    @operation(
        "end_block_upload",
        {200: Content(type=FileInfo, headers=("ETag",)), 201: Content(type=FileInfo, headers=("ETag", "Location"))},
        *_UNUSABLE,
        problems.DIGEST_MISMATCH,
        problems.BAD_NAME,
        problems.FILE_EXISTS,
        problems.CONFLICT,
        problems.PRECONDITION_FAILED,
        problems.LOCKED,
        problems.NO_SPACE,
    )
    async def post(self, id: BlockUploadId, body: BlockUploadEnd) -> None:
        """Verify the digest of an upload that has all blocks, and publish it in one step.

        201 when this call has published it, 200 when an earlier one had: it may be repeated. With 409 `missing` names
        the blocks to send; nothing is lost by any refusal.
        """
        stat, is_new = await self.uploads.end(self.uploads.get(id), body)
        self.set_header("ETag", conditionals.quoted(stat.etag))
        if is_new:
            self.set_header("Location", self.address(f"/v1/files/{quote(stat.name)}"))
        self.respond(info(stat), 201 if is_new else 200)


@stream_request_body
class BlocksHandler(_BlockUploadHandler, StreamingHandler):
    """`/v1/block-uploads/{id}/blocks/{first}`."""

    def initialize(self, services: AppServices) -> None:
        super().initialize(services)
        self._body: BlockBody | None = None
        self._upload: Upload | None = None

    async def prepare(self) -> None:
        await super().prepare()
        if self.lost and self._body is not None and self._upload is not None:
            await self.uploads.abandon(self._upload, self._body, self._cut_because)

    async def begin(self) -> None:
        if self.request.method != "PUT":
            return
        self.check_encoding()
        digits = self.path_kwargs["first"]
        if not (digits.isascii() and digits.isdigit()):
            raise problems.BAD_PARAMETERS(f"{digits[:100]!r} is no block. Count them from 0")
        first = int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS
        self._upload = self.uploads.get(self.path_kwargs["id"])
        self._body = await self.uploads.receive(self._upload, first, self.body_size, self.on_release_requested)

    @property
    def is_full(self) -> bool:
        """Return whether the sender waits for the disk."""
        return self._body is not None and self._body.is_full

    def data_received(self, chunk: bytes | memoryview) -> Awaitable[None] | None:
        self._last = asyncio.get_running_loop().time()
        if self.refused or self._body is None:
            return None
        more = self._body.write(chunk)
        return more if self._body.failure is None else self._stop(self._body.failure)

    async def _stop(self, error: BaseException) -> None:
        """Keep the blocks that came, and answer before the body has ended."""
        body, self._body = self._body, None
        if body is not None and self._upload is not None:
            await self.uploads.abandon(self._upload, body, "failed")
        await self._refuse(error)

    @operation(
        "put_blocks",
        BlockUpload,
        *_UNUSABLE,
        problems.DIGEST_MISMATCH,
        problems.CONFLICT,
        problems.UNSUPPORTED_MEDIA_TYPE,
        problems.LOCKED,
        problems.NO_SPACE,
        body=(Content("*/*"),),
    )
    async def put(self, id: BlockUploadId, first: FirstBlock) -> None:
        """Write whole blocks, one after another from `first` on. Several requests at once may do so, in any order.

        A request that is cut keeps its whole blocks. Wrong blocks are named by the `blocks` of the refusal; the others
        are kept.
        """
        if self.refused or self._body is None or self._upload is None:
            return
        await self.body_ended()
        await self.uploads.finish(self._upload, self._body)
        self.respond(await self.state(self._upload))

    def on_lost(self) -> None:
        if self._body is not None and self._upload is not None:
            abandoned = self.uploads.abandon(self._upload, self._body, self._cut_because)
            self.services.files.uploads.spawn(abandoned)
        super().on_lost()
