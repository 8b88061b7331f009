"""Blocks of an upload: their digests, and the replacement of those that came wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from holdfast import digests as block_digests
from holdfast.digests import BLOCK
from holdfast.wire import BlockDigests
from tornado_app import problems
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.store import powers
from tornado_app.files.store.hashing import RunningDigest, digest_of
from tornado_app.files.store.interface import FileDigests, Piece
from tornado_app.files.uploads.lease.interface import UploadLeases, never
from tornado_app.files.uploads.upload import Upload
from tornado_app.files.uploads.writer import Writer
from tornado_app.protocols.digests import BLOCK_ALGORITHM

MOST = 8
"""Most blocks of one replacement."""


class Acquire(Protocol):
    """See `Uploads.acquire`."""

    def __call__(self, upload: Upload, *, is_lost: Callable[[], bool]) -> Awaitable[Writer]: ...


class BlockReplacement:
    """Reads and replaces blocks of uploads that aren't published yet, under their leases."""

    def __init__(self, acquire: Acquire, leases: UploadLeases, executor: BlockingExecutor) -> None:
        self._acquire_lease = acquire
        self._leases = leases
        self._executor = executor

    async def digests(self, upload: Upload, is_lost: Callable[[], bool] = never) -> BlockDigests:
        """Return the digests of what has come; a request that writes to the upload is ended first.

        Raises:
            ProblemError: CONFLICT for an upload that is published, UNAVAILABLE where BLAKE3 is missing, BROKEN where
                the store can't read it, and what `Uploads.acquire` raises.
        """
        check_available()
        writer = await self._acquire(upload, is_lost)
        try:
            found = await self._executor.run(_digests, upload)
            return BlockDigests(upload.record.name or "", upload.offset, None, found.block_digest, found.blocks or b"")
        finally:
            writer.release()

    async def replace(self, upload: Upload, first: int, data: Piece, is_lost: Callable[[], bool] = never) -> None:
        """Replace whole blocks from the index `first`; the last one may be the last of the upload, and incomplete.

        Raises:
            ProblemError: BAD_BODY for other bytes, and what `digests` raises.
        """
        writer = await self._acquire(upload, is_lost)
        try:
            start, end = first * BLOCK, first * BLOCK + len(data)
            if not len(data) or end > upload.offset or (end % BLOCK and end != upload.offset):
                raise problems.BAD_BODY(
                    f"{len(data)} bytes from {start} are no whole blocks of the {upload.offset} bytes that have come. "
                    f"Send blocks of {BLOCK} bytes, and the last one up to the end",
                    bytes_read=upload.offset,
                )
            await self._executor.run(_replace, upload, start, data)
        finally:
            writer.release()

    async def _acquire(self, upload: Upload, is_lost: Callable[[], bool]) -> Writer:
        if upload.record.kind == "blocks":  # its bytes may be those of a published file, and are never replaced
            raise problems.CONFLICT(
                f"{upload.id!r} is an upload by blocks. Go on with it at /v1/block-uploads/{upload.id}"
            )
        await self._leases.request_release(upload.id, is_lost)
        writer = await self._acquire_lease(upload, is_lost=is_lost)
        if upload.published is not None:
            writer.release()
            raise problems.CONFLICT(
                f"the upload is published as {upload.published.name!r}. Ask GET /v1/digests/{{name}} for its digests"
            )
        return writer


def check_available() -> None:
    """Raise UNAVAILABLE where BLAKE3 is missing."""
    if not block_digests.AVAILABLE:
        raise problems.UNAVAILABLE("this server has no BLAKE3. Install blake3 beside it, or compare the SHA-256")


def _digests(upload: Upload) -> FileDigests:
    found = upload.digest.result()
    if found.blocks is None:  # they were not made as it came
        found = RunningDigest(upload.staged, blocks=True, sha256=False).result()
    if found.blocks is None:
        digest_of(upload.staged, BLOCK_ALGORITHM)  # says why not
    return found


def _replace(upload: Upload, offset: int, data: Piece) -> None:
    try:
        powers.replace(upload.staged, offset, data)
    except BaseException:
        upload.digest.cut(offset)  # a part of it may have been written: what is there is read again
        raise
    upload.digest.replace(offset, data)
