"""`/v1/uploads/{id}/digests` and `/v1/uploads/{id}/blocks/{first}`: wrong blocks of an upload, found and replaced."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from holdfast.digests import BLOCK
from holdfast.wire import BlockDigests
from tornado_app import problems
from tornado_app.files.uploads.block_replacement import MOST
from tornado_app.handlers.base import BaseHandler
from tornado_app.handlers.bodies import CollectedBodyHandler
from tornado_app.handlers.openapi.operation import Content, operation
from tornado_app.handlers.uploads.handler import UploadId


class UploadDigestsHandler(BaseHandler):
    """`/v1/uploads/{id}/digests`."""

    @operation(
        "upload_digests",
        BlockDigests,
        problems.NO_SUCH_UPLOAD,
        problems.CONFLICT,
        problems.GONE,
        problems.BROKEN,
        problems.LOCKED,
        problems.UNAVAILABLE,
    )
    async def get(self, id: UploadId) -> None:
        """Return the digests of the blocks that have come. An older request that writes to the upload is ended."""
        uploads = self.services.files.uploads
        self.respond(await uploads.blocks.digests(uploads.get(id), lambda: self.lost))


class UploadBlocksHandler(CollectedBodyHandler):
    """`/v1/uploads/{id}/blocks/{first}`."""

    def _check_size(self, size: int) -> None:
        if size > MOST * BLOCK:
            raise problems.TOO_LARGE(f"the body has more than {MOST} blocks of {BLOCK} bytes. Send fewer at once")

    @operation(
        "replace_blocks",
        None,
        problems.NO_SUCH_UPLOAD,
        problems.CONFLICT,
        problems.GONE,
        problems.BROKEN,
        problems.BAD_PARAMETERS,
        problems.TOO_LARGE,
        problems.LOCKED,
        problems.NO_SPACE,
        body=(Content("application/octet-stream"),),
    )
    async def put(self, id: UploadId, first: Annotated[str, Meta(description="Index of the first block.")]) -> None:
        """Replace blocks that have come, in place: whole ones, and the last one up to where the upload stands."""
        if self.refused:
            return
        if not (first.isascii() and first.isdigit()):
            raise problems.BAD_PARAMETERS(f"{first[:100]!r} is no block. Count them from 0")
        uploads = self.services.files.uploads
        index = int(first) if len(first) <= 12 else 10**12  # more blocks than any upload has
        await uploads.blocks.replace(uploads.get(id), index, memoryview(self._body), lambda: self.lost)
        self.set_status(204)
        self.clear_header("Content-Type")
