"""The files service: the store, the uploads and the threads that touch the disk for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from holdfast.wire import Event
from tornado_app.files.archives.service import Archives
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.published.block_digests import PublishedDigests
from tornado_app.files.published.service import PublishedFiles
from tornado_app.files.seed import SeedFiles
from tornado_app.files.sha256.service import Sha256Service
from tornado_app.files.store.interface import FileStat, FileStore
from tornado_app.files.uploads.blocks.service import BlockUploads
from tornado_app.files.uploads.expiry import Expiry
from tornado_app.files.uploads.service import Uploads
from tornado_app.files.uploads.small_files.requests import SmallUploads
from tornado_app.files.workspace import Workspace
from tornado_app.settings import Settings, SettingsError

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("holdfast.files")

_THREADS = 8


def new_executor() -> BlockingExecutor:
    """Return the threads that touch the disk for the files service."""
    return BlockingExecutor(_THREADS, "files")


class FileService:
    """Everything about files, from `open` to `close`. `on_event` gets the events of uploads and files."""

    store: FileStore
    uploads: Uploads
    block_uploads: BlockUploads
    seed: SeedFiles
    small: SmallUploads
    published: PublishedFiles
    sha256: Sha256Service
    archives: Archives

    def __init__(
        self,
        settings: Settings,
        open_store: Callable[[], FileStore],
        *,
        folder: str = "",
        executor: BlockingExecutor | None = None,
    ) -> None:
        """`open_store` is called once, in a worker thread: of an `executor` that is the caller's, or of its own.

        `folder` is where the store is in the files directory; "" for all of it.
        """
        self.folder = folder
        self._owns_executor = executor is None
        self.settings = settings
        self._open_store = open_store
        self.on_event: Callable[[Event], None] | None = None
        self.executor = new_executor() if executor is None else executor

    async def open(self) -> None:
        """Open the store and find the uploads that an earlier server left. Raises `SettingsError`."""
        try:
            self.store = await self.run(self._open_store)
            self.sha256 = Sha256Service(self.store, self.run, self._digest_made, enabled=self.settings.digest_uploads)
            self.uploads = Uploads(self.settings, self.store, self.executor, self._emit)
            await self.uploads.open()
            self.block_uploads = BlockUploads(self.store, self.uploads, self.executor)
            self.block_uploads.open()
            if not self.store.is_persistent and self.settings.store == "memory":
                log.warning("files and uploads end with this server: its store keeps them in memory (--store memory)")
        except (OSError, SettingsError) as error:
            if hasattr(self, "store"):
                await self.run(self.store.close)
            self._close_executor()
            if isinstance(error, SettingsError):
                raise
            where = f"--files-dir {self.settings.files_dir}" if self.settings.store == "local" else "the file store"
            raise SettingsError(f"{where} can't be used: {error.strerror}") from error
        self.expiry = Expiry(
            self.uploads, self.uploads.lifetimes, self.uploads.leases, self.uploads.expire, self.settings.upload_expiry
        )
        self.expiry.start()
        self.seed = SeedFiles(self.settings, self.store, self.uploads)
        uploads = self.uploads
        self.small = SmallUploads(
            self.settings, self.store, self.executor, uploads.registry, uploads.limits, uploads.events
        )
        self.digests = PublishedDigests(self.store, self.executor)
        self.published = PublishedFiles(self.store, uploads, self.sha256, self.small)
        self.sha256.open()
        self.archives = Archives(self.store, uploads, self.small, self.run)

    async def close(self) -> None:
        """Wait until writers have written what they have, then close the store and end the threads."""
        await self.expiry.stop()
        await self.small.groups.close()
        await self.sha256.close()
        await self.uploads.close()
        await self.run(self.store.close)
        self._close_executor()

    def _close_executor(self) -> None:
        if self._owns_executor:
            self.executor.close()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Call a blocking function, such as one of the store's, in a worker thread."""
        return self.executor.run(function, *args, **kwargs)

    def workspace(self) -> Workspace:
        """Return the files as work gets them; safe in worker threads."""
        return Workspace(self.store, reserve=self.settings.reserve_space)

    def _digest_made(self, stat: FileStat) -> None:
        self.uploads.events.of_file(stat.name, "digest", sha256=stat.sha256, etag=stat.etag)

    def _emit(self, event: Event) -> None:
        data = event.data or {}
        if event.type == "file" and data.get("what") == "published" and data.get("sha256") is None:
            self.sha256.published()
        if self.on_event is not None:
            self.on_event(event)
