"""Blocks that are replaced in place, and what is known of them when that fails."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from holdfast.digests import BLOCK, SIZE
from tests.support.blocks import content, listed, whole
from tests.support.files import file_service
from tornado_app import problems
from tornado_app.files.service import FileService
from tornado_app.files.uploads.upload import Upload, UploadRecord
from tornado_app.settings import Settings

DATA = content(2 * BLOCK + 99)
OTHER = content(BLOCK, seed=4)


@pytest.fixture
async def files(settings: Settings) -> AsyncIterator[FileService]:
    service = file_service(settings)
    await service.open()
    yield service
    await service.close()


async def uploaded(files: FileService, data: bytes) -> Upload:
    upload = await files.uploads.create(UploadRecord("tus", "a", 0.0))
    writer = await files.uploads.write(upload, 0)
    writer.write(data)
    await files.uploads.finish(writer)
    return upload


async def test_a_replaced_block_has_its_own_digest(files: FileService) -> None:
    upload = await uploaded(files, DATA)
    await files.uploads.blocks.replace(upload, 1, OTHER)
    changed = DATA[:BLOCK] + OTHER + DATA[2 * BLOCK :]
    found = await files.uploads.blocks.digests(upload)
    assert (found.blocks, found.digest) == (listed(changed), whole(changed))


async def test_after_a_failure_the_digests_are_those_of_the_bytes_that_are_there(
    files: FileService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the block was written: neither the digest of before nor that of the new block is true."""
    upload = await uploaded(files, DATA)
    pwrite = os.pwrite

    def half(fd: int, data: bytes | memoryview, offset: int) -> int:
        if len(data) < BLOCK // 2 + 1:  # digests, and the second half
            if len(data) == BLOCK // 2:
                raise OSError(5, "Input/output error")
            return pwrite(fd, data, offset)
        return pwrite(fd, data[: len(data) // 2], offset)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OSError, match="Input/output"):
        await files.uploads.blocks.replace(upload, 1, OTHER)
    monkeypatch.undo()
    there = upload.staged.read(0, len(DATA))  # type: ignore[attr-defined]
    assert there[BLOCK : BLOCK + BLOCK // 2] == OTHER[: BLOCK // 2]
    found = await files.uploads.blocks.digests(upload)
    assert (found.blocks, found.digest) == (listed(there), whole(there))
    assert found.blocks[SIZE : 2 * SIZE] not in (listed(DATA)[SIZE : 2 * SIZE], listed(OTHER))
    await files.uploads.blocks.replace(upload, 1, DATA[BLOCK : 2 * BLOCK])
    assert (await files.uploads.blocks.digests(upload)).digest == whole(DATA)


@pytest.mark.parametrize("size", [0, 5, BLOCK + 5, 4 * BLOCK])
async def test_what_is_no_whole_block_is_refused(files: FileService, size: int) -> None:
    upload = await uploaded(files, DATA)
    with pytest.raises(problems.ProblemError) as caught:
        await files.uploads.blocks.replace(upload, 0, content(size, seed=1))
    assert caught.value.kind is problems.BAD_BODY
    assert (await files.uploads.blocks.digests(upload)).digest == whole(DATA)
