"""`/v1/digests/{name}`: the block digests of a published file."""

from __future__ import annotations

from holdfast.wire import BlockDigests, FileName
from tornado_app import problems
from tornado_app.handlers.base import BaseHandler
from tornado_app.handlers.openapi.operation import operation


class FileDigestsHandler(BaseHandler):
    """`/v1/digests/{name}`."""

    ACCEPTED = ("If-Match",)

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """Decode a part of the path. A name that is not UTF-8 is answered with 404, because no file has it."""
        return value.decode("utf-8", "surrogateescape")

    @operation(
        "file_digests",
        BlockDigests,
        problems.NO_SUCH_FILE,
        problems.PRECONDITION_FAILED,
        problems.UNAVAILABLE,
        headers=("If-Match",),
    )
    async def get(self, name: FileName) -> None:
        """Return the digests of all blocks of a file. Those that are not known yet are made of it, which takes time."""
        self.respond(await self.services.files.digests.of(name, self.request.headers))
