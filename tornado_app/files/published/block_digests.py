"""Block digests of published files, made where they are not known."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import closing

from holdfast import digests
from holdfast.wire import BlockDigests
from tornado_app import problems
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.published.decisions import status_of
from tornado_app.files.published.service import SMALL
from tornado_app.files.store import powers
from tornado_app.files.store.interface import FileReader, FileStore
from tornado_app.files.uploads.block_replacement import check_available


class PublishedDigests:
    """The service behind `/v1/digests`."""

    def __init__(self, store: FileStore, executor: BlockingExecutor) -> None:
        self._store = store
        self._executor = executor
        self._reading = asyncio.Lock()  # files are read one at a time for their digests

    async def of(self, name: str, headers: Mapping[str, str]) -> BlockDigests:
        """Return the digests of all blocks of a file; those that are not known are made and kept, a file at a time.

        Raises:
            ProblemError: NO_SUCH_FILE, PRECONDITION_FAILED by If-Match, UNAVAILABLE for a file that somebody writes to,
                and where BLAKE3 is missing.
        """
        conditions = {"If-Match": headers["If-Match"]} if "If-Match" in headers else {}
        found = await self._executor.run(self._of, name, conditions, makes=SMALL)
        while found is None:
            async with self._reading:
                found = await self._executor.run(self._of, name, conditions, makes=None)
        return found

    def _of(self, name: str, conditions: Mapping[str, str], makes: int | None) -> BlockDigests | None:
        """Return the digests if they are known, or can be made of at most `makes` bytes; None for any number."""
        check_available()
        with closing(self._store.open(name)) as reader:
            status_of("HEAD", name, conditions, reader.stat)
            blocks = powers.block_digests(self._store, reader)
            if blocks is not None:
                return _digests_of(reader, blocks)
            if makes is not None and reader.stat.size > makes:
                return None
        with closing(powers.open_for_digest(self._store, name)) as reader:
            status_of("HEAD", name, conditions, reader.stat)
            blocks = powers.make_block_digests(self._store, reader)
            if blocks is not None:
                return _digests_of(reader, blocks)
        raise problems.UNAVAILABLE(f"{name!r} is being written to. Try again", headers={"Retry-After": "1"})


def _digests_of(reader: FileReader, blocks: bytes) -> BlockDigests:
    stat = reader.stat
    return BlockDigests(stat.name, stat.size, stat.etag, digests.of_blocks(blocks).hex(), blocks)
