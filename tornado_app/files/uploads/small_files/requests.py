"""Requests that bring a small file each: counted and limited as other uploads, but never staged."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from holdfast import digests as block_digests
from tornado_app import problems
from tornado_app.files import metrics, names
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.buffers import COLLECTED
from tornado_app.files.store.interface import FileDigests, FileStore, PlacedFile, Precondition, SmallFile
from tornado_app.files.uploads.digest_check import DigestCheck
from tornado_app.files.uploads.events import UploadEvents
from tornado_app.files.uploads.limits import SizeLimits
from tornado_app.files.uploads.registry import UploadRegistry
from tornado_app.files.uploads.small_files.groups import PublicationGroups
from tornado_app.settings import Settings

SMALL = 64 << 10
"""Bytes of the largest small file: its SHA-256 takes less time than a queue would."""


@dataclass(eq=False, slots=True)
class SmallUpload:
    """One request; append to `data` what it brings. `digests` are those that it gave, by hashlib name."""

    id: str
    name: str
    length: int
    digests: Mapping[str, bytes]
    block_digest: bytes | None
    begun: float
    data: bytearray = field(default_factory=bytearray)
    ended: bool = False


class SmallUploads:
    """Small files by one request each. Lives on the event loop."""

    def __init__(
        self,
        settings: Settings,
        store: FileStore,
        executor: BlockingExecutor,
        registry: UploadRegistry,
        limits: SizeLimits,
        events: UploadEvents,
    ) -> None:
        self.groups = PublicationGroups(executor, store, limits.check_space)
        self._sha256 = settings.digest_uploads
        self._blocks = settings.check_uploads and block_digests.AVAILABLE
        self._registry = registry
        self._limits = limits
        self._events = events

    def begin(
        self, name: str, length: int, digests: Mapping[str, bytes], block_digest: bytes | None, client: str
    ) -> SmallUpload:
        """Take a place for a request whose body is to come; `publish` or `cancel` it. `client` as in `Uploads.create`.

        Raises:
            ProblemError: BAD_NAME, TOO_LARGE, TOO_MANY; UNAVAILABLE while other bodies fill the memory for them.
        """
        names.check(name)
        self._limits.check_length(length)
        upload = SmallUpload(secrets.token_hex(16), name, length, digests, block_digest, time.time())
        COLLECTED.take(length)
        try:
            self._registry.reserve(upload.id, client)
        except BaseException:
            COLLECTED.give(length)
            raise
        metrics.CREATED.labels("put").inc()
        self._emit(upload, "created")
        return upload

    def cancel(self, upload: SmallUpload) -> None:
        """Forget a request whose body did not come. Does nothing once it is being published."""
        if not upload.ended:
            upload.ended = True
            self._leave(upload)
            self._emit(upload, "cancelled")

    async def publish(self, upload: SmallUpload, expect: Callable[[], Precondition]) -> PlacedFile:
        """Publish a file whose bytes are all there. `expect` is called in a worker thread.

        Raises:
            ProblemError: DIGEST_MISMATCH, what `expect` raises, and what `StagedData.publish` raises.
        """
        upload.ended = True
        metrics.RECEIVED.inc(len(upload.data))
        try:
            placed = await self.groups.publish(partial(self._prepare, upload, expect))
        except BaseException:
            self._emit(upload, "cancelled")
            raise
        finally:
            self._leave(upload)
        stat = placed.stat
        metrics.PUBLISHED.labels("put").inc()
        metrics.DURATION.observe(max(0.0, time.time() - upload.begun))
        version = {"sha256": stat.sha256, "block_digest": stat.block_digest, "etag": stat.etag}
        self._emit(upload, "finished", **version)
        self._events.of_file(stat.name, "published", size=stat.size, **version)
        return placed

    def _leave(self, upload: SmallUpload) -> None:
        """Give up the place and the memory of a request."""
        self._registry.vacate(upload.id)
        COLLECTED.give(upload.length)

    def _emit(self, upload: SmallUpload, what: str, **data: object) -> None:
        self._events.of_request(upload.id, what, upload.name, len(upload.data), upload.length, **data)

    def _prepare(self, upload: SmallUpload, expect: Callable[[], Precondition]) -> SmallFile:
        """Verify the bytes, and compute their digests. Blocks."""
        data = bytes(upload.data)
        try:
            self._verify(upload, data)
        except problems.ProblemError:
            metrics.DIGEST_FAILURES.inc()
            raise
        return self.described(upload.name, data, expect())

    def described(self, name: str, data: bytes, expect: Precondition) -> SmallFile:
        """Return a file to publish, with the digests that this server computes as bytes arrive. Blocks."""
        digests = FileDigests(
            hashlib.sha256(data).hexdigest() if self._sha256 and len(data) <= SMALL else None,
            (block_digests.of_block(data) if data else b"") if self._blocks else None,
        )
        return SmallFile(name, data, digests, expect)

    def _verify(self, upload: SmallUpload, data: bytes) -> None:
        if upload.digests:
            check = DigestCheck(upload.digests)
            check.update(data)
            check.verify()
        if upload.block_digest is not None and block_digests.AVAILABLE:
            found = block_digests.of_file(data)
            if found != upload.block_digest:
                raise problems.DIGEST_MISMATCH(
                    f"the {block_digests.ALGORITHM} of what came is {found.hex()}, not {upload.block_digest.hex()}. "
                    "Send it again: nothing of it was kept"
                )
