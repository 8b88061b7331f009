"""The service of uploads by blocks: restarts, the base of a delta, and stores without the power."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import digests, wire
from holdfast.digests import BLOCK
from tests.support.blocks import content, listed, publish, read, send_missing, whole
from tests.support.files import file_service
from tests.support.store_conformance import without_powers
from tornado_app import problems
from tornado_app.files.service import FileService
from tornado_app.files.uploads.blocks import sources
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


@pytest.mark.parametrize("step", ["prepare_blocks", "find_content"])
async def test_a_creation_that_fails_leaves_nothing(
    service: FileService, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Nobody would know the id of the upload, nor close the version that it takes blocks from."""
    etag = await publish(service, "a", DATA)
    opened, closed = [], []
    base = sources.open_base

    def watched(*arguments: Any) -> Any:
        reader = base(*arguments)
        opened.append(reader)
        close = reader.close
        reader.close = lambda: (closed.append(reader), close())  # type: ignore[method-assign]
        return reader

    def broken(*arguments: object, **named: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(sources, "open_base", watched)
    monkeypatch.setattr(type(service.store), step, broken)
    needs_base = step != "find_content"
    with pytest.raises(OSError, match="Input/output"):
        await service.block_uploads.create(
            wire.BlockUploadRequest("a", len(CHANGED), True, base=etag if needs_base else None, blocks=listed(CHANGED))
        )
    await service.uploads.wait_for_tasks()
    assert [upload.id for upload in service.uploads if not upload.complete] == []
    assert service.store.staged_ids() == [upload.id for upload in service.uploads]
    assert opened == closed
