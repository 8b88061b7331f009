"""The service of uploads by blocks: restarts, the base of a delta, and stores without the power."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast import digests, wire
from holdfast.digests import BLOCK
from tests.support.blocks import content, listed, whole
from tests.support.files import file_service
from tests.support.store_conformance import without_powers
from tornado_app import problems
from tornado_app.files.service import FileService
from tornado_app.files.uploads.upload import Upload
from tornado_app.settings import Settings

DATA = content(5 * BLOCK + 77)
CHANGED = DATA[:BLOCK] + content(BLOCK, seed=2) + DATA[2 * BLOCK : 4 * BLOCK] + b"inserted" + DATA[4 * BLOCK :]
MOVED = content(BLOCK, seed=3) + DATA


@pytest.fixture(params=["local", "memory"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return dataclasses.replace(settings, store=request.param, reserve_space=0)


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[FileService]:
    service = file_service(settings)
    await service.open()
    yield service
    await service.close()


async def send(service: FileService, upload: Upload, data: bytes, first: int, end: int) -> None:
    body = await service.block_uploads.receive(upload, first, None, lambda: None)
    room = body.write(data[first * BLOCK : end * BLOCK])
    if room is not None:
        await room
    await service.block_uploads.finish(upload, body)


async def send_missing(service: FileService, upload: Upload, data: bytes) -> list[tuple[int, int]]:
    missing = (await service.block_uploads.state(upload)).missing
    for first, end in missing:
        await send(service, upload, data, first, end)
    return missing


async def publish(service: FileService, name: str, data: bytes) -> str:
    """Upload a file by blocks and return its ETag."""
    request = wire.BlockUploadRequest(name, len(data), overwrite=True)
    upload = await service.block_uploads.create(request)
    await send_missing(service, upload, data)
    stat, _ = await service.block_uploads.end(upload, wire.BlockUploadEnd(whole(data)))
    return stat.etag


async def read(service: FileService, name: str) -> bytes:
    reader = await service.run(service.store.open, name)
    try:
        return await service.run(reader.read, 0, 1 << 30)
    finally:
        await service.run(reader.close)


@pytest.mark.parametrize(
    ("new", "missing"), [(CHANGED, [(1, 2), (4, 6)]), (MOVED, [(0, 1)]), (DATA[: 2 * BLOCK], []), (DATA, [])]
)
async def test_a_delta_sends_only_the_blocks_that_the_base_has_nowhere(
    service: FileService, new: bytes, missing: list[tuple[int, int]]
) -> None:
    etag = await publish(service, "a", DATA)
    request = wire.BlockUploadRequest("a", len(new), etag=etag, base=etag, blocks=listed(new))
    upload = await service.block_uploads.create(request)
    assert await send_missing(service, upload, new) == missing
    stat, is_new = await service.block_uploads.end(upload, wire.BlockUploadEnd(whole(new)))
    assert is_new
    assert (stat.block_digest, await read(service, "a")) == (whole(new), new)


async def test_a_base_is_a_condition_unless_the_upload_has_another(service: FileService) -> None:
    etag = await publish(service, "a", DATA)
    upload = await service.block_uploads.create(
        wire.BlockUploadRequest("a", len(CHANGED), base=etag, blocks=listed(CHANGED))
    )
    await send_missing(service, upload, CHANGED)
    await publish(service, "a", MOVED)
    with pytest.raises(problems.ProblemError) as refused:
        await service.block_uploads.end(upload, wire.BlockUploadEnd(whole(CHANGED)))
    assert refused.value.kind is problems.PRECONDITION_FAILED
    assert await read(service, "a") == MOVED


async def test_a_base_that_is_another_version_or_gone_is_refused_and_nothing_is_made(service: FileService) -> None:
    for name in ("a", "none"):
        await publish(service, "a", DATA)
        with pytest.raises(problems.ProblemError) as refused:
            await service.block_uploads.create(
                wire.BlockUploadRequest(name, len(DATA), overwrite=True, base="other", blocks=listed(DATA))
            )
        assert refused.value.kind is problems.PRECONDITION_FAILED
    assert [upload for upload in service.uploads if not upload.complete] == []


def proof(state: wire.BlockUpload, data: bytes) -> str:
    assert state.nonce is not None
    blocks = [data[index * BLOCK : (index + 1) * BLOCK] for index in state.proof]
    return digests.of_proof(bytes.fromhex(state.nonce), blocks).hex()


class TestKnownContent:
    @pytest.fixture
    async def upload(self, service: FileService) -> Upload:
        """An upload of what the server has as the file `a`."""
        await publish(service, "a", DATA)
        return await self.create(service)

    async def create(self, service: FileService) -> Upload:
        request = wire.BlockUploadRequest("folder/b", len(DATA), blocks=listed(DATA))
        return await service.block_uploads.create(request)

    async def test_a_proof_gives_it_another_name_and_no_block_is_sent(
        self, service: FileService, upload: Upload
    ) -> None:
        state = await service.block_uploads.state(upload)
        assert (state.missing, state.proof) == ([], [0, 1, 2, 3, 4, 5])
        end = wire.BlockUploadEnd(whole(DATA), proof(state, DATA))
        stat, is_new = await service.block_uploads.end(upload, end)
        assert (is_new, stat.name, stat.block_digest) == (True, "folder/b", whole(DATA))
        assert await read(service, "folder/b") == DATA
        assert (await service.block_uploads.end(upload, end))[1] is False

    async def test_each_name_goes_its_own_way_afterwards(self, service: FileService, upload: Upload) -> None:
        end = wire.BlockUploadEnd(whole(DATA), proof(await service.block_uploads.state(upload), DATA))
        await service.block_uploads.end(upload, end)
        await publish(service, "a", CHANGED)
        for name, data in (("a", CHANGED), ("folder/b", DATA)):
            stat = await service.run(service.store.stat, name)
            assert (stat.block_digest, stat.unconfirmed) == (whole(data), None)
            assert await read(service, name) == data
        await service.run(service.store.delete, "folder/b")
        assert await read(service, "a") == CHANGED

    async def test_a_wrong_proof_is_refused_once_and_then_every_block_is_missing(
        self, service: FileService, upload: Upload
    ) -> None:
        state = await service.block_uploads.state(upload)
        with pytest.raises(problems.ProblemError) as refused:
            await service.block_uploads.end(upload, wire.BlockUploadEnd(whole(DATA), proof(state, CHANGED)))
        assert refused.value.kind is problems.DIGEST_MISMATCH
        with pytest.raises(problems.ProblemError) as refused:
            await service.block_uploads.end(upload, wire.BlockUploadEnd(whole(DATA), proof(state, DATA)))
        assert (refused.value.kind, refused.value.members["missing"]) == (problems.CONFLICT, [(0, 6)])
        assert await send_missing(service, upload, DATA) == [(0, 6)]
        await service.block_uploads.end(upload, wire.BlockUploadEnd(whole(DATA)))
        assert await read(service, "folder/b") == DATA

    async def test_nothing_is_published_without_a_proof(self, service: FileService, upload: Upload) -> None:
        with pytest.raises(problems.ProblemError) as refused:
            await service.block_uploads.end(upload, wire.BlockUploadEnd(whole(DATA)))
        assert refused.value.kind is problems.CONFLICT

    async def test_a_file_that_is_replaced_before_the_end_gives_nothing(
        self, service: FileService, upload: Upload
    ) -> None:
        state = await service.block_uploads.state(upload)
        await publish(service, "a", CHANGED)
        with pytest.raises(problems.ProblemError) as refused:
            await service.block_uploads.end(upload, wire.BlockUploadEnd(whole(DATA), proof(state, DATA)))
        assert refused.value.kind is problems.CONFLICT
        assert await send_missing(service, upload, DATA) == [(0, 6)]

    async def test_files_that_the_sender_may_not_read_are_neither_known_nor_a_base(self, service: FileService) -> None:
        etag = await publish(service, "a", DATA)
        asked: list[str] = []

        def may_read(name: str) -> bool:
            asked.append(name)
            return False

        request = wire.BlockUploadRequest("b", len(DATA), blocks=listed(DATA))
        upload = await service.block_uploads.create(request, may_read=may_read)
        state = await service.block_uploads.state(upload)
        assert (state.missing, state.proof, state.nonce) == ([(0, 6)], [], None)
        base = wire.BlockUploadRequest("a", len(DATA), base=etag, blocks=listed(DATA))
        with pytest.raises(problems.ProblemError) as refused:
            await service.block_uploads.create(base, may_read=may_read)
        assert refused.value.kind is problems.PRECONDITION_FAILED
        assert asked == ["a", "a"]


async def test_a_store_without_the_power_refuses_the_creation(settings: Settings, tmp_path: Path) -> None:
    service = FileService(settings, without_powers(tmp_path))
    await service.open()
    with pytest.raises(problems.ProblemError) as refused:
        await service.block_uploads.create(wire.BlockUploadRequest("a", 5))
    assert refused.value.kind is problems.NOT_FOUND
    await service.close()


class TestLocal:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, store="local")

    async def test_the_next_server_knows_what_is_missing_and_what_was_expected(self, settings: Settings) -> None:
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

    async def test_the_next_server_goes_on_with_copying_from_the_base(self, settings: Settings) -> None:
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
