"""Uploads by blocks that an earlier server left: what is missing, what is expected, and the copy from the base."""

from __future__ import annotations

import pytest

from holdfast import wire
from holdfast.digests import BLOCK
from tests.support.blocks import content, listed, publish, read, send, send_missing, whole
from tests.support.files import file_service
from tornado_app import problems
from tornado_app.settings import Settings

DATA = content(5 * BLOCK + 77)
CHANGED = DATA[:BLOCK] + content(BLOCK, seed=2) + DATA[2 * BLOCK : 4 * BLOCK] + b"inserted" + DATA[4 * BLOCK :]


async def test_the_next_server_knows_what_is_missing_and_what_was_expected(settings: Settings) -> None:
    first = file_service(settings)
    await first.open()
    upload = await first.block_uploads.create(wire.BlockUploadRequest("a", len(DATA), blocks=listed(DATA)))
    await send(first, upload, DATA, 1, 3)
    await first.close()
    second = file_service(settings)
    await second.open()
    upload = second.block_uploads.get(upload.id)
    assert (await second.block_uploads.state(upload)).missing == [(0, 1), (3, 6)]
    assert upload.offset == 2 * BLOCK
    with pytest.raises(problems.ProblemError) as refused:
        await send(second, upload, content(len(DATA), seed=9), 0, 1)
    assert (refused.value.kind, refused.value.members["blocks"]) == (problems.DIGEST_MISMATCH, [0])
    await send_missing(second, upload, DATA)
    await second.block_uploads.end(upload, wire.BlockUploadEnd(whole(DATA)))
    await second.close()
    third = file_service(settings)
    await third.open()
    upload = third.block_uploads.get(upload.id)
    stat, is_new = await third.block_uploads.end(upload, wire.BlockUploadEnd(whole(DATA)))
    assert (is_new, stat.block_digest) == (False, whole(DATA))
    await third.close()


async def test_the_next_server_goes_on_with_copying_from_the_base(settings: Settings) -> None:
    first = file_service(settings)
    await first.open()
    etag = await publish(first, "a", DATA)
    request = wire.BlockUploadRequest("a", len(CHANGED), base=etag, blocks=listed(CHANGED))
    upload = await first.block_uploads.create(request)
    await first.uploads.wait_for_tasks()
    await first.close()
    folder = settings.files_dir / ".holdfast" / "uploads" / upload.id
    (folder / "blocks").write_bytes(b"")  # as if it had died before the first copy
    second = file_service(settings)
    await second.open()
    upload = second.block_uploads.get(upload.id)
    assert await send_missing(second, upload, CHANGED) == [(1, 2), (4, 6)]
    await second.block_uploads.end(upload, wire.BlockUploadEnd(whole(CHANGED)))
    assert await read(second, "a") == CHANGED
    await second.close()
