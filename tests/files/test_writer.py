"""The queue between a request and the disk."""

from __future__ import annotations

import asyncio
from typing import Any

from tornado_app.files.service import FileService
from tornado_app.files.upload import Record
from tornado_app.files.uploads import Uploads
from tornado_app.files.writer import QUEUED
from tornado_app.settings import Settings


async def test_bytes_that_are_being_written_are_not_counted_twice_towards_the_length(
    settings: Settings, monkeypatch: Any
) -> None:
    """The offset moves in a worker thread before the queue is told: the end must not seem to come early."""
    files = FileService(settings)
    await files.open()
    try:
        uploads = files.uploads
        upload = await uploads.create(Record(kind="seed", name="x.bin", created=0.0, length=2 * QUEUED))
        writer = await uploads.write(upload, 0)
        written, go_on = asyncio.Event(), asyncio.Event()
        run = Uploads.run

        async def slowly(self: Uploads, function: Any, *arguments: Any) -> Any:
            result = await run(self, function, *arguments)
            written.set()
            await go_on.wait()
            return result

        monkeypatch.setattr(Uploads, "run", slowly)
        writer.write(b"a" * QUEUED)
        await written.wait()  # down, and still in the queue's count
        room = writer.write(b"b" * QUEUED)
        go_on.set()
        if room is not None:
            await room
        await uploads.finish(writer)
        assert upload.offset == 2 * QUEUED
        assert (settings.files_dir / "x.bin").read_bytes() == b"a" * QUEUED + b"b" * QUEUED
    finally:
        await files.close()
