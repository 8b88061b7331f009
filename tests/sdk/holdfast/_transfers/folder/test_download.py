"""Whole folders up and down."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

import holdfast
from holdfast import errors
from holdfast._transfers.handles import TransferState
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess, wait_until

MIB = 1 << 20

pytestmark = pytest.mark.slow

Faulty = Callable[..., FaultyProxy]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Small and big files, in folders, hidden ones among them, and some things that can't be sent."""
    root = tmp_path / "data"
    rng = random.Random(3)
    for name, size in {
        "a.txt": 10,
        "empty": 0,
        "in/b.bin": 3 * MIB,
        "in/deep/ünïcode.txt": 1000,
        "z.bin": 200_000,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(size))
    (root / ".hidden").write_text("x")
    (root / "in" / ".zarr").mkdir()
    (root / "in" / ".zarr" / ".zattrs").write_text("x")
    (root / "void").mkdir()
    os.mkfifo(root / "pipe")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_folder_goes_up_and_down_and_nothing_twice(client: holdfast.Client, folder: Path, tmp_path: Path) -> None:
    prefix = uuid.uuid4().hex
    transfer = client.files.upload_folder(folder, prefix)
    result = transfer.wait(60)
    assert [file.name for file in result.sent] == sorted(f"{prefix}/{name}" for name in contents(folder))
    assert result.reasons == {"pipe": "a pipe", "void/": "an empty folder"}
    assert result.left_out == ["pipe", "void/"]
    assert transfer.progress.done == transfer.progress.total == sum(map(len, contents(folder).values()))
    (folder / "new").write_text("new")
    again = client.files.upload_folder(folder, prefix).wait(60)
    assert [file.name for file in again.sent] == [f"{prefix}/new"]
    assert len(again.same) == len(result.sent)
    target = tmp_path / "down"
    paths = client.files.download_folder(prefix, target).wait(60)
    assert contents(target) == contents(folder)
    assert sorted(paths) == sorted(path for path in target.rglob("*") if path.is_file())
    inode = (target / "z.bin").stat().st_ino
    client.files.download_folder(prefix, target).wait(60)
    assert (target / "z.bin").stat().st_ino == inode


def test_what_differs_is_replaced_only_when_asked(client: holdfast.Client, folder: Path, tmp_path: Path) -> None:
    prefix = uuid.uuid4().hex
    client.files.upload_folder(folder, prefix).wait(60)
    (folder / "a.txt").write_bytes(b"0123456789")
    (folder / "z.bin").write_bytes(b"short")
    with pytest.raises(errors.FileExists):
        client.files.upload_folder(folder, prefix).wait(60)
    client.files.upload_folder(folder, prefix, overwrite=True).wait(60)
    target = tmp_path / "down"
    target.mkdir()
    (target / "a.txt").write_text("mine")
    with pytest.raises(errors.LocalExists):
        client.files.download_folder(prefix, target).wait(60)
    client.files.download_folder(prefix, target, overwrite=True).wait(60)
    assert contents(target) == contents(folder)


def test_a_folder_survives_cuts_and_pauses(
    client: holdfast.Client, folder: Path, faulty: Faulty, tmp_path: Path
) -> None:
    prefix = uuid.uuid4().hex
    proxy = faulty(
        Fault(when=b"GET ", cut_down=100), Fault(when=b"PATCH ", cut_up=MIB), Fault(when=b"PATCH ", stall_up=100_000)
    )
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload_folder(folder, prefix)
        proxy.wait_for(lambda p: p.happened == 3)
        transfer.pause()
        assert transfer.state is TransferState.PAUSED
        transfer.resume()
        transfer.wait(60)
        proxy.add(Fault(when=b"in/b.bin", stall_down=MIB))
        down = through.files.download_folder(prefix, tmp_path / "down")
        proxy.wait_for(lambda p: p.happened == 4)
        wait_until(lambda: down.progress.done > 0)
        down.pause()
        down.resume()
        down.wait(60)
    assert contents(tmp_path / "down") == contents(folder)


def test_a_cancelled_folder_leaves_no_half_files(
    client: holdfast.Client, served: ServerProcess, folder: Path, faulty: Faulty, tmp_path: Path
) -> None:
    prefix = uuid.uuid4().hex
    proxy = faulty(Fault(when=b"PATCH ", stall_up=MIB))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload_folder(folder, prefix)
        proxy.wait_for(lambda p: p.happened == 1)
        transfer.cancel()
        # A PUT that was cut ends a moment later, by itself.
        wait_until(lambda: not [u for u in client.files.uploads() if u.name.startswith(prefix) and not u.complete])
        through.files.upload_folder(folder, prefix).wait(60)
        proxy.add(Fault(when=b"in/b.bin", stall_down=MIB))
        down = through.files.download_folder(prefix, tmp_path / "down")
        proxy.wait_for(lambda p: p.happened == 2)
        wait_until(lambda: down.progress.done > MIB // 2)
        down.cancel()
    assert not list((tmp_path / "down").rglob(".holdfast-*"))


def test_a_file_that_changed_since_it_was_half_sent_begins_anew_when_asked(
    client: holdfast.Client, served: ServerProcess, tmp_path: Path
) -> None:
    folder, prefix = tmp_path / "one", uuid.uuid4().hex
    folder.mkdir()
    (folder / "a.bin").write_bytes(bytes(MIB))
    transfer = client.files.upload_folder(folder, prefix, limit=MIB // 8)
    wait_until(lambda: transfer.progress.done > 0)
    transfer.pause()
    (folder / "a.bin").write_bytes(b"1" * MIB)
    with pytest.raises(errors.LocalChanged, match="restart=True"):
        client.files.upload_folder(folder, prefix).wait(30)
    client.files.upload_folder(folder, prefix, restart=True).wait(30)
    assert (served.files_dir / prefix / "a.bin").read_bytes() == b"1" * MIB

    down = client.files.download_folder(prefix, tmp_path / "down", limit=MIB // 8)
    wait_until(lambda: down.progress.done > 0)
    down.pause()
    client.files.write(f"{prefix}/a.bin", b"2" * MIB, overwrite=True)
    with pytest.raises(errors.RemoteChanged, match="restart=True"):
        client.files.download_folder(prefix, tmp_path / "down").wait(30)
    client.files.download_folder(prefix, tmp_path / "down", restart=True).wait(30)
    assert (tmp_path / "down" / "a.bin").read_bytes() == b"2" * MIB


def test_what_is_no_folder_is_an_error(client: holdfast.Client, tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        client.files.upload_folder(tmp_path / "nowhere", "x").wait(30)


async def test_the_async_face_does_the_same(aclient: holdfast.AsyncClient, folder: Path, tmp_path: Path) -> None:
    prefix = uuid.uuid4().hex
    result = await aclient.files.upload_folder(folder, prefix)
    assert len(result.sent) == 7
    await aclient.files.download_folder(prefix, tmp_path / "down")
    assert contents(tmp_path / "down") == contents(folder)


NAMES = {
    "family \U0001f468\u200d\U0001f469\u200d\U0001f467.txt": True,  # joiners that are seen
    "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.txt": True,  # Persian
    "non\u00a0breaking.txt": True,
    "private\ue000.txt": True,
    "in/turned\u202etxt.exe": False,
    "back\\slash": False,
    "line\nbreak": False,
    "in/hid\u200bden": False,
    ".holdfast/own": True,  # below a prefix it is a name like any other
}


def test_what_names_go_up_is_for_the_server_to_say(client: holdfast.Client, tmp_path: Path) -> None:
    root, prefix = tmp_path / "names", uuid.uuid4().hex
    for name in NAMES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    transfer = client.files.upload_folder(root, prefix)
    result = transfer.wait(60)
    assert {file.name for file in result.sent} == {f"{prefix}/{name}" for name, good in NAMES.items() if good}
    assert result.reasons == {
        name: "a name that no file of a server can have" for name, good in sorted(NAMES.items()) if not good
    }
    assert result.left_out == [*result.reasons]
    assert transfer.progress.done == transfer.progress.total
    assert client.transfers.pending() == []
    again = client.files.upload_folder(root, prefix).wait(60)
    assert len(again.same) == len(result.sent)
    assert again.reasons == result.reasons


def test_a_prefix_that_no_name_can_have_is_an_error(client: holdfast.Client, tmp_path: Path) -> None:
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "good").write_text("x")
    with pytest.raises(errors.BadRequest, match="backslash"):
        client.files.upload_folder(tmp_path / "names", "back\\slash/").wait(60)
    assert client.transfers.pending() == []
