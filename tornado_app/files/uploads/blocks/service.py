"""Uploads by blocks: created, received by several requests at once, and ended. Lives on the event loop.

A request that sends blocks is a member of the upload's `BlockSession`, which has the lease; so is the server while it
copies blocks from the base. Whoever ends or cancels the upload takes the lease, and then nobody writes any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn

from holdfast import digests as block_digests
from holdfast.digests import BLOCK, SIZE
from holdfast.wire import BlockDigests, BlockUpload, BlockUploadEnd, BlockUploadRequest, FileInfo
from tornado_app import problems
from tornado_app.files import metrics
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.store.blocks import TakesBlocks
from tornado_app.files.store.interface import FileStat, FileStore
from tornado_app.files.uploads.blocks import sources
from tornado_app.files.uploads.blocks.body import BlockBody, BodyContext
from tornado_app.files.uploads.blocks.entries import BlockEntries, Entry
from tornado_app.files.uploads.blocks.session import BlockSession
from tornado_app.files.uploads.blocks.sources import KnownContent, MayRead
from tornado_app.files.uploads.blocks.state import BlockMap, Runs
from tornado_app.files.uploads.lease.interface import locked
from tornado_app.files.uploads.service import Uploads
from tornado_app.files.uploads.upload import Upload, UploadRecord

log = logging.getLogger("holdfast.files")

MOST_BODIES = 64
"""Requests whose blocks are received at once; further ones wait at their headers, for each holds a block or two."""

_NAMED = 1000  # runs of missing blocks that a refusal names


class BlockUploads:
    """The service behind `/v1/block-uploads`."""

    def __init__(self, store: FileStore, uploads: Uploads, executor: BlockingExecutor) -> None:
        self._store = store
        self._uploads = uploads
        self._entries = BlockEntries(store, uploads, executor)
        self._context = BodyContext(executor, uploads.durable, uploads.limits.check_space)
        self._run = executor.run
        self.slots = asyncio.Semaphore(MOST_BODIES)  # for bodies

    @property
    def is_available(self) -> bool:
        """Return whether this server takes uploads by blocks."""
        return isinstance(self._store, TakesBlocks) and block_digests.AVAILABLE

    def open(self) -> None:
        """Find which blocks are there of the uploads that an earlier server left, and go on with their copies."""
        for upload in self._uploads:
            if upload.record.kind == "blocks" and upload.published is None and self.is_available:
                self._uploads.spawn(self._entries.load_quietly(upload))

    async def may_have(self, size: int, first: bytes, *, may_read: MayRead = sources.everything) -> bool:
        """Return whether it is likely that the content of a file of this size and this first block is known."""
        return self.is_available and await self._run(sources.may_have, self._store, size, first, may_read)

    # -- creation and look-up

    async def create(
        self, request: BlockUploadRequest, *, client: str = "", may_read: MayRead = sources.everything
    ) -> Upload:
        """Create an upload, and begin to copy what its base has. `client` as in `Uploads.create`.

        Raises:
            ProblemError: NOT_FOUND where the store takes no blocks, BAD_PARAMETERS, PRECONDITION_FAILED for a base that
                is another version now, and what `Uploads.create` raises; then nothing was made.
        """
        self._check(request)
        base = None
        if request.base is not None:
            base = await self._run(sources.open_base, self._store, request.name, request.base, may_read)
        try:
            upload, entry = await self._create(request, client)
        except BaseException:
            if base is not None:
                await self._run(base.close)
            raise
        try:
            if base is not None and request.blocks is not None:
                await self._entries.begin_copy(upload, entry, base, request.blocks)
            elif base is not None:
                await self._run(base.close)  # without digests it is only a condition
            elif request.blocks is not None:
                entry.known = await self._run(sources.find_content, self._store, request.blocks, request.size, may_read)
        except BaseException:
            await self._uploads.cancel_quietly(upload)  # nobody will know its id
            raise
        return upload

    async def _create(self, request: BlockUploadRequest, client: str) -> tuple[Upload, Entry]:
        only = request.etag or (None if request.overwrite else request.base)
        record = UploadRecord(
            "blocks",
            request.name,
            time.time(),
            length=request.size,
            overwrite=request.overwrite or only is not None,
            only=None if only is None else [only],
            base=request.base or "",
        )
        upload = await self._uploads.create(record, client=client)
        try:
            await self._run(self._prepare, upload, request.blocks)
        except BaseException:
            await self._uploads.cancel_quietly(upload)
            raise
        return upload, self._entries.add(upload)

    def _prepare(self, upload: Upload, blocks: bytes | None) -> None:
        if isinstance(self._store, TakesBlocks):
            self._store.prepare_blocks(upload.staged, blocks)

    def _check(self, request: BlockUploadRequest) -> None:
        if not self.is_available:
            raise problems.NOT_FOUND("this server takes no uploads by blocks. Create an upload with POST /v1/uploads")
        if not request.name:
            raise problems.BAD_NAME("the name is empty. Give one", field="name")
        count = block_digests.count(request.size)
        if request.blocks is not None and len(request.blocks) != count * SIZE:
            raise problems.BAD_PARAMETERS(
                f"blocks has {len(request.blocks)} bytes. Send {SIZE} for each of the {count} blocks of the upload"
            )

    def get(self, id: str) -> Upload:
        """Return an upload by blocks. Raises NO_SUCH_UPLOAD, GONE, BROKEN."""
        upload = self._uploads.get(id)
        self._check_kind(upload)
        return upload

    @staticmethod
    def _check_kind(upload: Upload) -> None:
        if upload.record.kind != "blocks":
            raise problems.NO_SUCH_UPLOAD(f"the upload {upload.id!r} is none by blocks. See /v1/uploads/{upload.id}")

    async def cancel(self, id: str) -> None:
        """Remove an upload and its blocks; a file that it became stays. Raises NO_SUCH_UPLOAD, GONE."""
        upload = self._uploads.get(id, broken=True)
        self._check_kind(upload)
        await self._uploads.cancel(upload)

    async def state(self, upload: Upload, file: FileInfo | None = None) -> BlockUpload:
        """Return an upload as it crosses the wire; `file` is the one that it became."""
        missing: Runs = []
        known = None
        if upload.published is None:
            entry = await self._entries.get(upload)
            known = entry.known
            missing = [] if known is not None else entry.blocks.to_send()
        return BlockUpload(
            id=upload.id,
            name=upload.record.name or "",
            size=upload.record.length or 0,
            missing=missing,
            proof=[] if known is None else known.proof,
            nonce=None if known is None else known.nonce.hex(),
            expires=datetime.fromtimestamp(self._uploads.expires(upload), UTC),
            file=file,
        )

    async def digests(self, upload: Upload) -> BlockDigests:
        """Return the digests of the blocks that are there. Raises CONFLICT when the upload is complete."""
        self._check_incomplete(upload)
        entry = await self._entries.get(upload)
        blocks = await self._run(self._read_digests, upload, entry.session)
        size = upload.record.length or 0
        digest = block_digests.of_blocks(blocks).hex() if entry.blocks.is_complete else None
        return BlockDigests(upload.record.name or "", size, None, digest, blocks)

    def _read_digests(self, upload: Upload, session: BlockSession | None) -> bytes:
        if session is not None and session.is_open:
            return session.data.digests
        data = self._entries.open_data(upload)
        try:
            return data.digests
        finally:
            data.close()

    # -- receiving

    async def receive(
        self, upload: Upload, first: int, size: int | None, on_release_requested: Callable[[], None]
    ) -> BlockBody:
        """Return the receiver of blocks from `first` on, `size` bytes of them; `finish` or `abandon` it after use.

        `on_release_requested` is called when somebody ends or cancels the upload; it ends the connection.

        Raises:
            ProblemError: BAD_BODY for what can't be whole blocks, CONFLICT once the upload is complete, NO_SPACE,
                LOCKED, NO_SUCH_UPLOAD, BROKEN.
        """
        entry = await self._entries.get(upload)
        self._check_range(entry.blocks, first, size)
        self._check_incomplete(upload)
        await self._run(self._uploads.limits.check_space, size or 0)
        await self.slots.acquire()
        try:
            session = self._entries.session(upload, entry)
            body = BlockBody(
                self._context,
                session,
                entry.blocks,
                first,
                lambda count: self._entries.written(upload, entry, count),
                on_release_requested,
            )
            try:
                await session.join(body)
            except BaseException:
                self._context.active -= 1  # it has counted itself, and never begins
                raise
        except BaseException:
            self.slots.release()
            raise
        try:
            self._uploads.registry.check_usable(upload)
            self._check_incomplete(upload)
        except BaseException:
            await self.abandon(upload, body, "failed")
            raise
        return body

    @staticmethod
    def _check_range(blocks: BlockMap, first: int, size: int | None) -> None:
        if not 0 <= first < max(1, blocks.count):
            raise problems.BAD_BODY(f"there is no block {first}: the upload has {blocks.count}. Count them from 0")
        left = blocks.size - first * BLOCK
        if size is not None and size != left and (size > left or size % BLOCK):
            raise problems.BAD_BODY(
                f"{size} bytes from block {first} on are no whole blocks. Send a multiple of {BLOCK} bytes, or the "
                f"{left} up to the end"
            )

    def _check_incomplete(self, upload: Upload) -> None:
        if upload.published is not None:
            raise problems.CONFLICT(f"the upload {upload.id!r} is complete. Create another to change the file")

    async def finish(self, upload: Upload, body: BlockBody) -> None:
        """Write the rest of a request whose body is whole.

        Raises:
            ProblemError: what `BlockBody.finish` raises; LOCKED when the request was abandoned.
        """
        if body.ended:
            raise locked()
        try:
            await body.finish()
        finally:
            await self._leave(upload, body)

    async def abandon(self, upload: Upload, body: BlockBody, why: str) -> None:
        """Keep the whole blocks of a request that was cut."""
        if not body.ended:  # whoever has ended it does the rest
            await body.abandon(why)
            await self._leave(upload, body)

    async def _leave(self, upload: Upload, body: BlockBody) -> None:
        self.slots.release()
        await body.session.leave(body)
        if not upload.removed:
            self._uploads.events.of_progress(upload, is_pause=True)
            self._uploads.registry.recount(upload)

    # -- the end

    async def end(self, upload: Upload, request: BlockUploadEnd) -> tuple[FileStat, bool]:
        """Publish an upload that has all blocks; return the file, and whether this call has published it.

        Raises:
            ProblemError: CONFLICT while blocks are missing, DIGEST_MISMATCH for another digest or a wrong proof, and
                what `Uploads.finish` raises; nothing is lost.
        """
        entry = await self._entries.get(upload) if upload.published is None else None
        if entry is not None:
            if entry.copying is not None:
                await asyncio.shield(entry.copying)
            if not entry.blocks.is_complete and entry.known is None:
                self._raise_missing(entry)  # before anybody is interrupted
            writer = await self._uploads.acquire(upload)
            if upload.published is not None:  # by another request, meanwhile
                writer.release()
            else:
                try:
                    await self._prepare_end(upload, entry, request)
                except BaseException:
                    writer.release()
                    raise
                await self._uploads.finish(writer, last=True)
                return self._published(upload, request), True
        return self._published(upload, request), False

    async def _prepare_end(self, upload: Upload, entry: Entry, request: BlockUploadEnd) -> None:
        """Verify what is there, under the lease."""
        known, entry.known = entry.known, None
        if known is not None and not entry.blocks.is_complete:
            await self._run(self._adopt, upload, known, request.proof)
        digests = await self._run(self._read_digests, upload, None)
        entry.blocks.reset(digests)
        upload.stored = entry.blocks.stored
        if not entry.blocks.is_complete:
            self._raise_missing(entry)
        digest = block_digests.of_blocks(digests).hex()
        if digest != request.digest:
            metrics.DIGEST_FAILURES.inc()
            raise problems.DIGEST_MISMATCH(
                f"the digest of the blocks that came is {digest}, not {request.digest}. Compare "
                f"/v1/block-uploads/{upload.id}/digests, and send the blocks that differ again"
            )
        upload.blocks = digests

    @staticmethod
    def _raise_missing(entry: Entry) -> NoReturn:
        missing = entry.blocks.not_there()
        count = sum(end - first for first, end in missing)
        raise problems.CONFLICT(
            f"{count} of {entry.blocks.count} blocks are missing. Send them, then end the upload again",
            missing=missing[:_NAMED],
        )

    @staticmethod
    def _published(upload: Upload, request: BlockUploadEnd) -> FileStat:
        stat = upload.published
        if stat is None:
            raise ValueError(f"{upload.id} is not published")
        if stat.block_digest is not None and stat.block_digest != request.digest:
            raise problems.DIGEST_MISMATCH(
                f"the upload is complete, and its digest is {stat.block_digest}, not {request.digest}. Create another"
            )
        return stat

    def _adopt(self, upload: Upload, known: KnownContent, proof: str | None) -> None:
        """Make the upload's bytes those of a file that has them already, if the sender has them, too. Blocks."""
        reader = known.open(self._store)
        if reader is None:
            return  # it has gone, or was replaced: the blocks are missing then
        try:
            if not known.is_proved(reader, proof):
                return
            data = self._entries.open_data(upload)
            try:
                data.adopt(reader)
            finally:
                data.close()
                upload.staged.close()  # its bytes may be others now
        finally:
            reader.close()
