"""Bodies that send blocks: any cut of the bytes into pieces, repeated and at once, against a simple account."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from holdfast import wire
from holdfast.digests import BLOCK
from tests.support.blocks import content, listed, whole
from tests.support.files import file_service
from tornado_app import problems
from tornado_app.files.service import FileService
from tornado_app.files.uploads.upload import Upload
from tornado_app.settings import Settings

COUNT = 4
DATA = content((COUNT - 1) * BLOCK + 4321)
OTHER = content((COUNT - 1) * BLOCK + 4321, seed=1)

piece = st.integers(1, 2 * BLOCK)
request = st.tuples(
    st.integers(0, COUNT - 1),  # the first block
    st.integers(1, COUNT),  # how many
    st.lists(piece, max_size=5),  # the sizes of the pieces
    st.booleans(),  # of other content
    st.booleans(),  # cut before its end
)


async def send(
    service: FileService, upload: Upload, first: int, count: int, sizes: list[int], other: bool, cut: bool
) -> None:
    source = OTHER if other else DATA
    data = source[first * BLOCK : (first + count) * BLOCK]
    blocks = service.block_uploads
    body = await blocks.receive(upload, first, len(data), lambda: None)
    at = 0
    for size in [*sizes, len(data)]:
        part = data[at : at + size]
        if cut and at + len(part) == len(data):
            part = part[:-1]
        at += size
        await asyncio.sleep(0)  # so that others come in between
        if part and (room := body.write(memoryview(part))) is not None:
            await room
    if cut:
        await blocks.abandon(upload, body, "cut")
        await blocks.abandon(upload, body, "cut")
    else:
        await blocks.finish(upload, body)


@pytest.mark.slow
@profile(max_examples=40)
@given(st.lists(request, min_size=1, max_size=8))
def test_whatever_comes_at_once_each_block_is_of_one_request_and_its_digest_is_of_the_bytes(
    requests: list[tuple[int, int, list[int], bool, bool]],
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="holdfast-blocks-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    async def run() -> None:
        service = file_service(Settings(files_dir=folder, data_dir=folder / ".data", reserve_space=0))
        await service.open()
        try:
            blocks = service.block_uploads
            upload = await blocks.create(wire.BlockUploadRequest("a", len(DATA)))
            await asyncio.gather(*(send(service, upload, *each) for each in requests))
            sent = {
                index for first, count, _, _, cut in requests for index in range(first, min(COUNT, first + count) - cut)
            }
            state = await blocks.state(upload)
            assert {index for index in range(COUNT) if not any(a <= index < b for a, b in state.missing)} == sent
            found = (await blocks.digests(upload)).blocks
            data = (folder / ".holdfast" / "uploads" / upload.id / "data").read_bytes().ljust(len(DATA), b"\0")
            for index in range(COUNT):
                own = slice(index * 32, (index + 1) * 32)
                if index in sent:
                    assert found[own] == listed(data)[own]
                    assert found[own] in (listed(DATA)[own], listed(OTHER)[own])
                else:
                    assert found[own] == bytes(32)
            await send(service, upload, 0, COUNT, [], False, False)
            stat, is_new = await blocks.end(upload, wire.BlockUploadEnd(whole(DATA)))
            assert is_new
            assert stat.block_digest == whole(DATA)
            assert (folder / "a").read_bytes() == DATA
        finally:
            await service.close()

    try:
        asyncio.run(run())
    finally:
        shutil.rmtree(folder)


async def test_a_sender_waits_when_much_is_queued_and_requests_share_a_session(settings: Settings) -> None:
    data = content(9 * BLOCK)
    service = file_service(settings)
    await service.open()
    blocks = service.block_uploads
    upload = await blocks.create(wire.BlockUploadRequest("a", len(data)))
    one = await blocks.receive(upload, 0, None, lambda: None)
    other = await blocks.receive(upload, 2, None, lambda: None)
    assert one.session is other.session
    assert not one.is_full
    room = one.write(data[: 8 * BLOCK])
    assert room is not None
    assert one.is_full
    await room
    assert not one.is_full
    await blocks.finish(upload, one)
    with pytest.raises(problems.ProblemError):
        await blocks.finish(upload, one)
    await blocks.abandon(upload, other, "cut")
    assert other.session.is_over
    await service.close()
