"""The end of an upload: it becomes a file, is shown as one while it grows, or is removed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from tornado_app import problems
from tornado_app.files import metrics
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.store.hashing import digest_of
from tornado_app.files.store.interface import FileDigests, FileStat
from tornado_app.files.store.optional_powers import GrowsInView
from tornado_app.files.uploads.events import UploadEvents
from tornado_app.files.uploads.registry import UploadRegistry
from tornado_app.files.uploads.upload import Upload
from tornado_app.files.uploads.writer import Writer, WriterContext
from tornado_app.protocols.digests import BLOCK_ALGORITHM

log = logging.getLogger("holdfast.files")


class Publication:
    """Publishes uploads under their names. For callers that hold the lease on the upload."""

    def __init__(self, executor: BlockingExecutor, events: UploadEvents) -> None:
        self._executor = executor
        self._events = events

    async def publish(self, upload: Upload) -> None:
        """Make a file of an upload that has every byte; what is staged stays only if its state is kept.

        Raises:
            ProblemError: CHECKSUM_MISMATCH, and what `StagedData.publish` raises; nothing has changed then.
        """
        stat = await self._executor.run(_publish, upload)
        metrics.DURATION.observe(max(0.0, time.time() - upload.record.created))
        self._events.of_upload(upload, "finished", **_version(stat))
        self.announce(stat, upload.record.kind)
        if not upload.record.is_kept:
            try:
                await self._executor.run(upload.staged.discard)
            except (problems.ProblemError, OSError):  # it is published all the same
                log.exception("what is left of upload %s could not be removed", upload.id)

    def announce(self, stat: FileStat, kind: str) -> None:
        """Emit the event of a file that was published, and count it."""
        metrics.PUBLISHED.labels(kind).inc()
        self._events.of_file(stat.name, "published", size=stat.size, **_version(stat))

    def exposure(self, upload: Upload) -> Callable[[], None] | None:
        """Return what shows the bytes of an upload under its name while more are to come; None if the store can't.

        It blocks, and raises as `GrowsInView.expose`.
        """
        staged, name = upload.staged, upload.record.name
        if not isinstance(staged, GrowsInView) or name is None:
            return None
        return partial(staged.expose, name, upload.record.precondition)

    async def discard(self, upload: Upload) -> None:
        """Remove the bytes of an upload, also those that are shown; a file that it became stays."""
        await self._executor.run(_discard, upload)


class Removal:
    """Removes uploads, and closes idle ones; it takes the lease of each."""

    def __init__(
        self, writing: WriterContext, publication: Publication, registry: UploadRegistry, events: UploadEvents
    ) -> None:
        self._writing = writing
        self._publication = publication
        self._registry = registry
        self._events = events

    async def cancel(self, upload: Upload, *, expired: bool = False) -> None:
        """Remove an upload and its bytes; a file that it became stays."""
        was_complete = upload.complete
        writer = Writer(self._writing, upload)
        await writer.acquire(preempt=True)
        try:
            if upload.removed:
                return  # by another request, meanwhile
            await self._publication.discard(upload)
            self.forget(upload, expired=expired)
        finally:
            writer.release()
        if not was_complete:
            self._events.of_upload(upload, "expired" if expired else "cancelled")
            if expired:
                metrics.EXPIRED.inc()

    async def cancel_quietly(self, upload: Upload) -> None:
        """Remove as `cancel` does, and log a failure; the next server removes what is left."""
        try:
            await self.cancel(upload)
        except (problems.ProblemError, OSError):
            log.exception("upload %s could not be removed", upload.id)
            if upload.record.is_one_request:
                self.forget(upload)

    async def close(self, upload: Upload) -> None:
        """Close a descriptor, under the lease: its number must not be given away while somebody writes to it."""
        if self._writing.leases.holder(upload.id) is not None or upload.removed:
            return
        writer = Writer(self._writing, upload)
        await writer.acquire(preempt=True)
        try:
            await self._writing.executor.run(upload.staged.close)
        finally:
            writer.release()

    def forget(self, upload: Upload, *, expired: bool = False) -> None:
        """Know an upload no more, whose bytes are gone or left to the next server."""
        self._registry.remove(upload, expired=expired)
        self._writing.leases.forget(upload.id)


def _version(stat: FileStat) -> dict[str, str | None]:
    return {"sha256": stat.sha256, "block_digest": stat.block_digest, "etag": stat.etag}


def _publish(upload: Upload) -> FileStat:
    name = upload.record.name
    if name is None:
        raise ValueError(f"{upload.id} is a part and never becomes a file")
    found = upload.digest.result()
    made = {"sha-256": found.sha256, BLOCK_ALGORITHM: found.block_digest}
    for algorithm, digest in upload.record.digests.items():
        known = bytes.fromhex(made.get(algorithm) or "") or digest_of(upload.staged, algorithm)
        if known != digest:
            metrics.DIGEST_FAILURES.inc()
            if algorithm == BLOCK_ALGORITHM:
                raise _wrong_blocks(upload, known, digest)
            again = "Send it again" if upload.record.is_one_request else "Cancel the upload and create another"
            raise problems.CHECKSUM_MISMATCH(
                f"the {algorithm} of the whole upload is {known.hex()}, not {digest.hex()}. "
                f"{again}: nothing was published"
            )
    if upload.blocks is not None:
        found = FileDigests(found.sha256, upload.blocks)
    return upload.staged.publish(name, found, upload.record.precondition)


def _wrong_blocks(upload: Upload, known: bytes, digest: bytes) -> problems.ProblemError:
    again = (
        "Send it again"
        if upload.record.is_one_request
        else f"Compare GET /v1/uploads/{upload.id}/digests, and replace the blocks that differ"
    )
    return problems.DIGEST_MISMATCH(
        f"the block digest of the whole upload is {known.hex()}, not {digest.hex()}. {again}: nothing was published"
    )


def _discard(upload: Upload) -> None:
    staged, name = upload.staged, upload.record.name
    if upload.record.in_view and name is not None and upload.published is None and isinstance(staged, GrowsInView):
        staged.withdraw(name)
    staged.discard()
