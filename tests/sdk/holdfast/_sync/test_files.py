"""`client.files`, `client.transfers` and `client.seed` in sync code, against a real server."""

from __future__ import annotations

import hashlib
import time
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


def test_a_file_is_written_read_and_deleted(client: holdfast.Client, prefix: str) -> None:
    name = f"{prefix}a"
    written = client.files.write(name, b"0123456789")
    assert (written.name, written.size) == (name, 10)
    assert (client.files.info(name)).etag == written.etag
    assert client.files.read(name) == b"0123456789"
    assert client.files.read(name, 2, 5) == b"234"
    assert client.files.read(name, 5, 5) == b""
    with pytest.raises(errors.PreconditionFailed):
        client.files.write(name, b"other")
    replaced = client.files.write(name, b"other", etag=written.etag)
    with pytest.raises(errors.PreconditionFailed):
        client.files.delete(name, etag=written.etag)
    client.files.delete(name, etag=replaced.etag)
    with pytest.raises(errors.NotFound, match="there is no file"):
        client.files.info(name)


def test_a_level_has_files_and_folders_over_pages(client: holdfast.Client, prefix: str) -> None:
    for name in ("b/c", "b/d", "a", "e"):
        client.files.write(prefix + name, b"")
    level = list(client.files.list_folder(prefix.rstrip("/"), page_size=2))
    assert [item.name for item in level] == [f"{prefix}a", f"{prefix}b/", f"{prefix}e"]
    assert [type(item) for item in level] == [wire.FileInfo, wire.Folder, wire.FileInfo]
    below = [item.name for item in client.files.list(prefix, page_size=1)]
    assert below == [prefix + name for name in ("a", "b/c", "b/d", "e")]


def test_an_upload_and_a_download_are_transfers(client: holdfast.Client, prefix: str, tmp_path: Path) -> None:
    sent = client.files.upload(b"content", f"{prefix}a").wait(60)
    assert sent.size == 7
    path = client.files.download(f"{prefix}a", f"{tmp_path}/").wait(60)
    assert (path, path.read_bytes()) == (tmp_path / "a", b"content")
    client.files.write(f"{prefix}a", b"another", overwrite=True)
    with pytest.raises(errors.LocalExists, match="Pass overwrite=True"):
        client.files.download(f"{prefix}a", tmp_path).wait(60)


def test_a_folder_goes_there_and_back(client: holdfast.Client, prefix: str, tmp_path: Path) -> None:
    (tmp_path / "here/sub").mkdir(parents=True)
    (tmp_path / "here/a").write_bytes(b"a")
    (tmp_path / "here/sub/b").write_bytes(b"b")
    sent = client.files.upload_folder(tmp_path / "here", prefix).wait(60)
    assert [file.name for file in sent.sent] == [f"{prefix}a", f"{prefix}sub/b"]
    back = client.files.download_folder(prefix, tmp_path / "back").wait(60)
    assert [path.relative_to(tmp_path / "back").as_posix() for path in back] == ["a", "sub/b"]


def test_a_remote_file_is_read_like_a_local_one(client: holdfast.Client, prefix: str) -> None:
    client.files.write(f"{prefix}a", b"0123456789")
    file = client.files.open(f"{prefix}a")
    assert (file.size, file.read(3), file.seek(-2, 2), file.read(), file.tell()) == (10, b"012", 8, b"89", 10)


def test_a_link_needs_no_token_until_it_is_revoked(client: holdfast.Client, prefix: str) -> None:
    client.files.write(f"{prefix}a", b"content")
    link = client.files.download_link(f"{prefix}a", expires=60)
    assert isinstance(link, DownloadLink)
    assert httpx.get(link.url).content == b"content"
    elsewhere = client.files.download_link(f"{prefix}a", base_url="http://outside/")
    assert elsewhere.url.startswith("http://outside/")
    client.files.revoke_links()
    assert httpx.get(link.url).status_code == 401


def test_uploads_of_every_client_are_listed_and_cancelled(client: holdfast.Client, prefix: str) -> None:
    client.seed.upload(f"{prefix}a", 0, b"part", file_size=100)
    upload = next(each for each in client.files.uploads(page_size=1) if each.name == f"{prefix}a")
    assert (upload.offset, upload.length, upload.complete) == (4, 100, False)
    assert (client.files.get_upload(upload.id)).offset == 4
    client.files.cancel_upload(upload.id)
    with pytest.raises(errors.NotFound):
        client.files.get_upload(upload.id)


def test_a_paused_transfer_is_pending_and_can_be_resumed_or_cancelled(
    client: holdfast.Client, prefix: str, tmp_path: Path
) -> None:
    path = tmp_path / "big"
    path.write_bytes(bytes(3 << 20))
    for end in ("resume", "cancel"):
        transfer = client.files.upload(path, prefix + end, limit=100_000)
        while not client.transfers.pending():
            time.sleep(0.01)
        transfer.pause()
        (record,) = client.transfers.pending()
        assert (record.kind, record.name, record.path) == ("upload", prefix + end, str(path))
        if end == "resume":
            assert (client.transfers.resume(record).wait(60)).size == 3 << 20
        else:
            client.transfers.cancel(record)
        assert client.transfers.pending() == []


def test_the_seeds_files(client: holdfast.Client, prefix: str) -> None:
    name = f"{prefix}a"
    assert (client.seed.upload(name, 0, b"text ", file_size=9)).bytes_read == 5
    assert (client.seed.upload_status(name)).bytes_read == 5
    client.seed.upload_cancel(name)
    with pytest.raises(errors.NotFound):
        client.seed.upload_status(name)
    done = client.seed.upload(name, 0, b"text", is_complete=True, encoding="base64")
    assert done.is_complete
    piece = client.seed.download(name)
    assert (piece.file_content, piece.is_complete) == ("text", True)


def test_a_digest_that_the_server_has_to_make_is_waited_for(
    client: holdfast.Client, served: ServerProcess, prefix: str
) -> None:
    data = bytes(3_000_000)
    (served.files_dir / prefix).mkdir()
    (served.files_dir / prefix / "a").write_bytes(data)
    before = client.files.info(f"{prefix}a")
    assert before.sha256 is None
    after = client.files.info(f"{prefix}a", sha256=True)
    assert (after.sha256, after.etag) == (hashlib.sha256(data).hexdigest(), before.etag)
    with pytest.raises(errors.NotFound, match="there is no file"):
        client.files.info(f"{prefix}b", sha256=True)
