"""The private file of a download: nothing that was not asked for is written to, whoever put it there."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

import holdfast
from holdfast import errors
from holdfast._local_files import part_file, records
from holdfast._local_files.part_file import PartFile
from holdfast._local_files.records import PartMark
from holdfast._transfers.handles import Transfer
from tests.support.servers import wait_until

MIB = 1 << 20


def test_a_part_is_created_exclusively_and_never_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = iter(["0" * 32, "0" * 32, "1" * 32])
    monkeypatch.setattr("secrets.token_hex", lambda count: next(tokens))
    first, second = PartFile(tmp_path / "x"), PartFile(tmp_path / "x")
    assert first.create().name != second.create().name
    first.close()
    second.close()
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("planted", ["file", "link", "hard link", "fifo", "folder", "nothing"])
def test_a_part_is_taken_up_only_when_it_is_the_very_file(tmp_path: Path, planted: str) -> None:
    part = PartFile(tmp_path / "x")
    mark = part.create()
    part.write(0, b"ours")
    part.close()
    part.path.rename(tmp_path / "moved")
    other = tmp_path / "theirs"
    other.write_bytes(b"theirs")
    if planted == "file":
        part.path.write_bytes(b"ours")
    elif planted == "link":
        part.path.symlink_to(tmp_path / "moved")
    elif planted == "hard link":
        part.path.hardlink_to(other)
    elif planted == "fifo":
        os.mkfifo(part.path)
    elif planted == "folder":
        part.path.mkdir()
    again = PartFile(tmp_path / "x")
    assert not again.take_up(mark)
    again.remove(mark)
    assert os.path.lexists(part.path) == (planted != "nothing")
    assert other.read_bytes() == b"theirs"


def test_the_owner_is_part_of_the_proof(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "x")
    mark = part.create()
    part.close()
    assert not PartFile(tmp_path / "x").take_up(msgspec.structs.replace(mark, owner=mark.owner + 1))
    again = PartFile(tmp_path / "x")
    assert again.take_up(mark)
    again.close()


@pytest.mark.parametrize("name", ["../x", "x", "/etc/passwd", ".holdfast-1.part", ".holdfast-" + "0" * 32 + ".part/x"])
def test_a_record_can_name_no_other_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(b"mine")
    status = (tmp_path / "x").stat()
    mark = PartMark(name, status.st_ino, status.st_uid)
    part = PartFile(tmp_path / "y")
    assert not part.take_up(mark)
    part.remove(mark)
    assert (tmp_path / "x").read_bytes() == b"mine"


def test_what_was_planned_is_removed_and_never_taken_up(tmp_path: Path) -> None:
    """A process was killed between the record and the end of its first second."""
    part = PartFile(tmp_path / "x")
    planned = part.plan()
    part.remove(planned)
    assert part.create(planned).name == planned.name
    part.close()
    again = PartFile(tmp_path / "x")
    assert not again.take_up(planned)
    again.remove(planned)
    assert os.listdir(tmp_path) == []


def test_what_was_swapped_before_the_rename_is_not_published(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "x")
    part.create()
    part.write(0, b"ours")
    part.path.unlink()
    part.path.write_bytes(b"theirs")
    with pytest.raises(errors.TransferError, match="was moved or replaced"):
        part.publish(4, overwrite=True)
    part.close()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("there", ["file", "dangling link", "nothing"])
def test_publishing_replaces_only_what_may_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool, there: str
) -> None:
    """Without hard links, too, as on FAT."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "x"
    if there == "file":
        target.write_bytes(b"mine")
    elif there == "dangling link":
        target.symlink_to(tmp_path / "elsewhere")
    part = PartFile(target)
    part.create()
    part.write(0, b"ours")
    if there != "nothing":
        with pytest.raises(errors.LocalExists, match="overwrite=True"):
            part.publish(4, overwrite=False)
        assert target.is_symlink() or target.read_bytes() == b"mine"
    part.publish(4, overwrite=there != "nothing")
    assert target.read_bytes() == b"ours"
    assert os.listdir(tmp_path) == ["x"], "nothing else, and the link's other end is not there"


class Half:
    """Files on the server, and downloads of them that stop half-way."""

    def __init__(self, client: holdfast.Client) -> None:
        self.client = client
        self.prefix = uuid.uuid4().hex

    def publish(self, name: str, data: bytes) -> str:
        self.client.files.write(f"{self.prefix}/{name}", data)
        return f"{self.prefix}/{name}"

    def begin(self, name: str, target: Path) -> Transfer[Path]:
        transfer = self.client.files.download(name, target, limit=MIB)
        wait_until(lambda: transfer.progress.done > 0)
        transfer.pause()
        return transfer


@pytest.fixture
def half(client: holdfast.Client) -> Half:
    return Half(client)


@pytest.mark.slow
def test_a_folder_with_names_that_look_like_parts_comes_down_whole(half: Half, tmp_path: Path) -> None:
    data = {"x": os.urandom(12 * MIB), "x.part": os.urandom(1800), "x.part.part": b"1", "x.json": b"2", "x.lock": b"3"}
    for name, content in data.items():
        half.publish(name, content)
    half.client.files.download_folder(half.prefix, tmp_path / "down").wait(60)
    assert {path.name: path.read_bytes() for path in (tmp_path / "down").iterdir()} == data


@pytest.mark.slow
@pytest.mark.parametrize("planted", ["file", "link"])
def test_a_users_own_file_beside_the_target_is_left_alone(half: Half, tmp_path: Path, planted: str) -> None:
    name = half.publish("y", b"y" * 1000)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    if planted == "link":
        (tmp_path / "y.part").symlink_to(elsewhere)
    else:
        (tmp_path / "y.part").write_bytes(b"mine")
    half.client.files.download(name, tmp_path / "y").wait(30)
    assert (tmp_path / "y").read_bytes() == b"y" * 1000
    assert (tmp_path / "y.part").read_bytes() == elsewhere.read_bytes() == b"mine"
    assert (tmp_path / "y.part").is_symlink() == (planted == "link")


@pytest.mark.slow
def test_a_name_as_long_as_names_may_be_comes_down(half: Half, tmp_path: Path) -> None:
    half.client.files.download(half.publish("short", b"x"), tmp_path / ("n" * 255)).wait(30)
    assert (tmp_path / ("n" * 255)).read_bytes() == b"x"


@pytest.mark.slow
def test_what_is_planted_in_place_of_a_part_is_not_gone_on_with(half: Half, tmp_path: Path) -> None:
    data = os.urandom(2 * MIB)
    transfer = half.begin(half.publish("x", data), tmp_path / "x")
    [part] = [path for path in tmp_path.iterdir() if part_file.is_private(path.name)]
    planted = bytes(part.stat().st_size)
    part.rename(tmp_path / "moved")  # removed, its inode might be the planted one's
    part.write_bytes(planted)
    transfer.limit = None
    transfer.resume()
    transfer.wait(30)
    assert (tmp_path / "x").read_bytes() == data
    assert part.read_bytes() == planted, "it is somebody's"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_what_another_user_has_planted_is_not_taken_up(half: Half, tmp_path: Path, state_dir: Path) -> None:
    data = os.urandom(2 * MIB)
    transfer = half.begin(half.publish("x", data), tmp_path / "x")
    [part] = [path for path in tmp_path.iterdir() if part_file.is_private(path.name)]
    os.chown(part, 12345, 12345)
    transfer.limit = None
    transfer.resume()
    transfer.wait(30)
    assert (tmp_path / "x").read_bytes() == data
    assert (tmp_path / "x").stat().st_uid == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_record_that_another_user_has_planted_is_none(tmp_path: Path) -> None:
    record = records.new("download", "http://x", "x", str(tmp_path / "x"))
    path = tmp_path / "x.json"
    path.write_bytes(msgspec.json.encode(record))
    assert records.read(path) is not None
    os.chown(path, 12345, 12345)
    assert records.read(path) is None


@pytest.mark.slow
def test_what_came_to_the_place_is_left_there_however_it_came(half: Half, tmp_path: Path) -> None:
    name = half.publish("x", b"x" * 5)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").mkdir()
    for place in ("link", "pipe"):
        with pytest.raises(errors.LocalExists):
            half.client.files.download(name, tmp_path / place).wait(30)
    with pytest.raises(errors.LocalExists, match="a pipe"):
        half.client.files.download(name, tmp_path / "pipe", overwrite=True).wait(30)
    with pytest.raises(IsADirectoryError):
        half.client.files.download(name, tmp_path / "folder", overwrite=True).wait(30)
    assert (tmp_path / "link").is_symlink()
    assert not (tmp_path / "nowhere").exists()
    half.client.files.download(name, tmp_path / "link", overwrite=True).wait(30)
    assert not (tmp_path / "link").is_symlink()
    assert not (tmp_path / "nowhere").exists(), "the link is replaced, and not followed"


@pytest.mark.slow
def test_two_names_that_are_one_place_are_an_error_before_anything_comes(half: Half, tmp_path: Path) -> None:
    for name in ("a/x", "b/x"):
        half.publish(name, name.encode())
    (tmp_path / "down" / "b").mkdir(parents=True)
    (tmp_path / "down" / "a").symlink_to("b")
    transfer = half.client.files.download_folder(half.prefix, tmp_path / "down", overwrite=True)
    with pytest.raises(errors.LocalExists, match="have the same target"):
        transfer.wait(30)
    assert list((tmp_path / "down" / "b").iterdir()) == []


@pytest.mark.slow
def test_a_download_that_an_earlier_version_began_goes_on_and_its_file_is_left(
    half: Half, tmp_path: Path, state_dir: Path
) -> None:
    data = os.urandom(4 * MIB)
    transfer = half.begin(half.publish("x", data), tmp_path / "x")
    [part] = [path for path in tmp_path.iterdir() if part_file.is_private(path.name)]
    [path] = (state_dir / "transfers").glob("*.json")
    record = records.read(path)
    assert record is not None
    record.part = None
    path.write_bytes(msgspec.json.encode(record))
    part.rename(tmp_path / "x.part")
    again = half.client.files.download(transfer.name, tmp_path / "x", limit=MIB)
    wait_until(lambda: again.progress.done > 0)
    again.pause()
    assert again.progress.done >= sum(end - begin for begin, end in record.done)
    again.limit = None
    again.resume()
    again.wait(30)
    assert (tmp_path / "x").read_bytes() == data
    assert (tmp_path / "x.part").exists()


def test_a_part_that_is_not_open_says_so(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "x")
    with pytest.raises(ValueError, match="is not open"):
        part.write(0, b"x")
    assert not part.holds([(0, 1)])


def test_a_disk_that_is_too_small_is_told_before_it_is_full(tmp_path: Path) -> None:
    with pytest.raises(errors.TransferError, match="bytes free, and 1000000000000000000 are needed"):
        PartFile(tmp_path / "x").check_space(10**18)


def test_what_was_known_of_a_part_holds_while_no_other_has_written_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = PartFile(tmp_path / "x")
    mark = part.create()
    part.write(0, b"12345")
    unclosed, closed = part.state(closing=False), part.state(closing=True)
    part.close()
    assert part.take_up(mark)
    assert part.has_state(unclosed)
    assert part.has_state(closed)
    assert not part.has_state(None)
    part.write(0, b"other")
    os.utime(part.path, ns=(0, 0))
    assert part.has_state(unclosed), "a process that was killed has written on after its last record"
    assert not part.has_state(closed)
    os.truncate(part.path, 1)
    assert not part.has_state(unclosed)
    os.truncate(part.path, 5)
    monkeypatch.setattr(part_file, "boot_id", lambda: "another")
    assert not part.has_state(unclosed), "the machine was started again: bytes may not have reached the disk"
    part.close()


def test_a_part_is_read_back_and_one_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "x")
    part.create()
    part.write(0, b"12345")
    source, buffer = part_file.PartSource(part, 10), bytearray(8)
    assert source.read(1, 3) == b"234"
    assert source.read_into(2, memoryview(buffer)) == 3
    assert buffer[:3] == b"345"
    with pytest.raises(errors.TransferError, match=r"cut off\. Start the download again"):
        source.read_into(5, memoryview(buffer))
    part.close()
