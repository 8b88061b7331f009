"""`client.files`, `client.transfers` and `client.seed` in async code, against a real server."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from pathlib import Path

import httpx
import pytest

import holdfast
from holdfast import errors, wire
from holdfast.widgets import DownloadLink
from tests.support.servers import ServerProcess

pytestmark = pytest.mark.slow


@pytest.fixture
def prefix() -> str:
    """A folder of names that no other test has."""
    return f"{uuid.uuid4().hex}/"


async def test_a_file_is_written_read_and_deleted(aclient: holdfast.AsyncClient, prefix: str) -> None:
    name = f"{prefix}a"
    written = await aclient.files.write(name, b"0123456789")
    assert (written.name, written.size) == (name, 10)
    assert (await aclient.files.info(name)).etag == written.etag
    assert await aclient.files.read(name) == b"0123456789"
    assert await aclient.files.read(name, 2, 5) == b"234"
    assert await aclient.files.read(name, 5, 5) == b""
    with pytest.raises(errors.PreconditionFailed):
        await aclient.files.write(name, b"other")
    replaced = await aclient.files.write(name, b"other", etag=written.etag)
    with pytest.raises(errors.PreconditionFailed):
        await aclient.files.delete(name, etag=written.etag)
    await aclient.files.delete(name, etag=replaced.etag)
    with pytest.raises(errors.NotFound, match="there is no file"):
        await aclient.files.info(name)


async def test_a_level_has_files_and_folders_over_pages(aclient: holdfast.AsyncClient, prefix: str) -> None:
    for name in ("b/c", "b/d", "a", "e"):
        await aclient.files.write(prefix + name, b"")
    level = [item async for item in aclient.files.list_folder(prefix.rstrip("/"), page_size=2)]
    assert [item.name for item in level] == [f"{prefix}a", f"{prefix}b/", f"{prefix}e"]
    assert [type(item) for item in level] == [wire.FileInfo, wire.Folder, wire.FileInfo]
    below = [item.name async for item in aclient.files.list(prefix, page_size=1)]
    assert below == [prefix + name for name in ("a", "b/c", "b/d", "e")]


async def test_an_upload_and_a_download_are_transfers(
    aclient: holdfast.AsyncClient, prefix: str, tmp_path: Path
) -> None:
    sent = await aclient.files.upload(b"content", f"{prefix}a")
    assert sent.size == 7
    path = await aclient.files.download(f"{prefix}a", f"{tmp_path}/")
    assert (path, path.read_bytes()) == (tmp_path / "a", b"content")
    await aclient.files.write(f"{prefix}a", b"another", overwrite=True)
    with pytest.raises(errors.LocalExists, match="Pass overwrite=True"):
        await aclient.files.download(f"{prefix}a", tmp_path)


async def test_a_folder_goes_there_and_back(aclient: holdfast.AsyncClient, prefix: str, tmp_path: Path) -> None:
    (tmp_path / "here/sub").mkdir(parents=True)
    (tmp_path / "here/a").write_bytes(b"a")
    (tmp_path / "here/sub/b").write_bytes(b"b")
    sent = await aclient.files.upload_folder(tmp_path / "here", prefix)
    assert [file.name for file in sent.sent] == [f"{prefix}a", f"{prefix}sub/b"]
    back = await aclient.files.download_folder(prefix, tmp_path / "back")
    assert [path.relative_to(tmp_path / "back").as_posix() for path in back] == ["a", "sub/b"]


async def test_a_remote_file_is_read_like_a_local_one(aclient: holdfast.AsyncClient, prefix: str) -> None:
    await aclient.files.write(f"{prefix}a", b"0123456789")
    file = await aclient.files.open(f"{prefix}a")
    assert (file.size, await file.read(3), file.seek(-2, 2), await file.read(), file.tell()) == (
        10,
        b"012",
        8,
        b"89",
        10,
    )


async def test_a_link_needs_no_token_until_it_is_revoked(aclient: holdfast.AsyncClient, prefix: str) -> None:
    await aclient.files.write(f"{prefix}a", b"content")
    link = await aclient.files.download_link(f"{prefix}a", expires=60)
    assert isinstance(link, DownloadLink)
    assert (await asyncio.to_thread(httpx.get, link.url)).content == b"content"
    elsewhere = await aclient.files.download_link(f"{prefix}a", base_url="http://outside/")
    assert elsewhere.url.startswith("http://outside/")
    await aclient.files.revoke_links()
    assert (await asyncio.to_thread(httpx.get, link.url)).status_code == 401


async def test_uploads_of_every_client_are_listed_and_cancelled(aclient: holdfast.AsyncClient, prefix: str) -> None:
    await aclient.seed.upload(f"{prefix}a", 0, b"part", file_size=100)
    upload = next(
        each for each in [item async for item in aclient.files.uploads(page_size=1)] if each.name == f"{prefix}a"
    )
    assert (upload.offset, upload.length, upload.complete) == (4, 100, False)
    assert (await aclient.files.get_upload(upload.id)).offset == 4
    await aclient.files.cancel_upload(upload.id)
    with pytest.raises(errors.NotFound):
        await aclient.files.get_upload(upload.id)


async def test_a_paused_transfer_is_pending_and_can_be_resumed_or_cancelled(
    aclient: holdfast.AsyncClient, prefix: str, tmp_path: Path
) -> None:
    path = tmp_path / "big"
    path.write_bytes(bytes(3 << 20))
    for end in ("resume", "cancel"):
        transfer = aclient.files.upload(path, prefix + end, limit=100_000)
        while not aclient.transfers.pending():
            await asyncio.sleep(0.01)
        await transfer.pause()
        (record,) = aclient.transfers.pending()
        assert (record.kind, record.name, record.path) == ("upload", prefix + end, str(path))
        if end == "resume":
            assert (await aclient.transfers.resume(record)).size == 3 << 20
        else:
            await aclient.transfers.cancel(record)
        assert aclient.transfers.pending() == []


async def test_the_seeds_files(aclient: holdfast.AsyncClient, prefix: str) -> None:
    name = f"{prefix}a"
    assert (await aclient.seed.upload(name, 0, b"text ", file_size=9)).bytes_read == 5
    assert (await aclient.seed.upload_status(name)).bytes_read == 5
    await aclient.seed.upload_cancel(name)
    with pytest.raises(errors.NotFound):
        await aclient.seed.upload_status(name)
    done = await aclient.seed.upload(name, 0, b"text", is_complete=True, encoding="base64")
    assert done.is_complete
    piece = await aclient.seed.download(name)
    assert (piece.file_content, piece.is_complete) == ("text", True)


async def test_a_digest_that_the_server_has_to_make_is_waited_for(
    aclient: holdfast.AsyncClient, served: ServerProcess, prefix: str
) -> None:
    data = bytes(3_000_000)
    folder = served.files_dir / prefix
    await asyncio.to_thread(folder.mkdir)
    await asyncio.to_thread((folder / "a").write_bytes, data)
    assert (await aclient.files.info(f"{prefix}a")).sha256 is None
    assert (await aclient.files.info(f"{prefix}a", sha256=True)).sha256 == hashlib.sha256(data).hexdigest()
