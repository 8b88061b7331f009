"""State of each upload by blocks, and what the server does for one by itself: it copies what the base has.

The state of one that an earlier server left is read when it is first needed.
"""

from __future__ import annotations

import asyncio
import logging
from weakref import WeakKeyDictionary

from tornado_app import problems
from tornado_app.clocks import steady
from tornado_app.files import metrics
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.store.blocks import BlockData, TakesBlocks
from tornado_app.files.store.interface import FileReader, FileStore
from tornado_app.files.uploads.blocks import sources
from tornado_app.files.uploads.blocks.session import BlockSession
from tornado_app.files.uploads.blocks.sources import Copier, Copy, KnownContent
from tornado_app.files.uploads.blocks.state import BlockMap
from tornado_app.files.uploads.service import Uploads
from tornado_app.files.uploads.upload import Upload

log = logging.getLogger("holdfast.files")

_COPIED_AT_ONCE = 256  # blocks


class Entry:
    """State of one upload, beside its record. `copying` is done when the copy from the base has ended."""

    def __init__(self, blocks: BlockMap) -> None:
        self.blocks = blocks
        self.session: BlockSession | None = None
        self.copying: asyncio.Future[None] | None = None
        self.known: KnownContent | None = None


class BlockEntries:
    """The state of every upload by blocks. Lives on the event loop."""

    def __init__(self, store: FileStore, uploads: Uploads, executor: BlockingExecutor) -> None:
        self._store = store
        self._uploads = uploads
        self._executor = executor
        self._run = executor.run
        self._entries: WeakKeyDictionary[Upload, Entry] = WeakKeyDictionary()
        self._loading: WeakKeyDictionary[Upload, asyncio.Task[Entry]] = WeakKeyDictionary()

    def add(self, upload: Upload) -> Entry:
        """Return the state of a new upload."""
        entry = self._entries[upload] = Entry(BlockMap(upload.record.length or 0))
        upload.stored = 0
        return entry

    async def get(self, upload: Upload) -> Entry:
        """Return the state of an upload; that of one that an earlier server left is read first."""
        entry = self._entries.get(upload)
        if entry is not None:
            return entry
        task = self._loading.get(upload)
        if task is None:
            task = self._loading[upload] = asyncio.create_task(self._load(upload))
            task.add_done_callback(lambda done: self._loading.pop(upload, None))
        return await asyncio.shield(task)

    async def load_quietly(self, upload: Upload) -> None:
        """Read the state of an upload, and go on with its copy; a failure is logged."""
        try:
            await self.get(upload)
        except (problems.ProblemError, OSError):
            log.exception("the blocks of upload %s can't be read", upload.id)

    async def _load(self, upload: Upload) -> Entry:
        digests, expected = await self._run(self._read, upload)
        entry = Entry(BlockMap(upload.record.length or 0, digests))
        upload.stored = entry.blocks.stored
        if upload.record.base and expected is not None and not entry.blocks.is_complete:
            name = upload.record.name or ""
            try:
                base = await self._run(sources.open_base, self._store, name, upload.record.base, sources.everything)
            except problems.ProblemError:
                pass  # it is another version now: what is missing has to be sent
            else:
                await self.begin_copy(upload, entry, base, expected)
        self._entries[upload] = entry
        return entry

    def _read(self, upload: Upload) -> tuple[bytes, bytes | None]:
        data = self.open_data(upload)
        try:
            return data.digests, data.expected
        finally:
            data.close()

    # -- for those who write

    def session(self, upload: Upload, entry: Entry) -> BlockSession:
        """Return the session to join."""
        if entry.session is None or entry.session.is_over:
            entry.session = BlockSession(
                upload.id,
                self._uploads.leases,
                self._executor,
                lambda: self.open_data(upload),
                lambda data: self._reload(upload, entry, data),
            )
        return entry.session

    async def _reload(self, upload: Upload, entry: Entry, data: BlockData) -> None:
        """Read again what another server may have changed."""
        await self._uploads.registry.reload(upload)
        entry.blocks.reset(data.digests)
        upload.stored = entry.blocks.stored

    def open_data(self, upload: Upload) -> BlockData:
        """Open the bytes of an upload. Blocks. Raises NO_SUCH_UPLOAD."""
        if not isinstance(self._store, TakesBlocks):
            raise problems.NOT_FOUND("the file store of this server takes no blocks any more. Create another upload")
        data = self._store.open_blocks(upload.staged, upload.record.length or 0)
        upload.staged.close()  # opening may have put another file in the place of its bytes
        return data

    def written(self, upload: Upload, entry: Entry, count: int) -> None:
        """Count bytes that came, and emit progress."""
        upload.stored = entry.blocks.stored
        upload.idle_since, upload.moved_at = self._uploads.lifetimes.clock.now(), steady()
        metrics.RECEIVED.inc(count)
        self._uploads.events.of_progress(upload)

    # -- the base

    async def begin_copy(self, upload: Upload, entry: Entry, base: FileReader, expected: bytes) -> None:
        """Copy what the base has, in the background; `base` is closed then."""
        try:
            copies = await self._run(sources.plan_copies, self._store, base, expected)
        except BaseException:
            await self._run(base.close)
            raise
        entry.blocks.announce(sources.runs(copies))
        entry.copying = asyncio.get_running_loop().create_future()
        self._uploads.spawn(self._copy(upload, entry, base, copies))

    async def _copy(self, upload: Upload, entry: Entry, base: FileReader, copies: list[Copy]) -> None:
        copier = Copier()
        session = self.session(upload, entry)
        try:
            await session.join(copier)
            try:
                for copy in sources.split(copies, _COPIED_AT_ONCE):
                    if copier.is_to_end or not await self._run(self._copy_some, session, base, copy):
                        break
                    for index in range(copy.index, copy.end):
                        entry.blocks.add(index)
                    self.written(upload, entry, 0)
            finally:
                await session.leave(copier)
        except problems.ProblemError as error:
            log.warning("upload %s can't take blocks from its base: %s", upload.id, error.detail)
        except OSError:
            log.exception("upload %s can't take blocks from its base", upload.id)
        finally:
            entry.blocks.forget_coming()
            if entry.copying is not None:
                entry.copying.set_result(None)
                entry.copying = None
            await self._run(base.close)

    def _copy_some(self, session: BlockSession, base: FileReader, copy: Copy) -> bool:
        session.check()
        self._uploads.limits.check_space(0)
        return session.data.copy(base, copy.start, copy.index, copy.digests)
