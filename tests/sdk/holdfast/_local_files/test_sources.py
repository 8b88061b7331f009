"""Sources of uploads: they notice changes, keep what is not confirmed, and hash while the transfer runs."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from pathlib import Path

import pytest

from holdfast._local_files.sources import (
    HEAD,
    BytesSource,
    FileSource,
    HashWorker,
    SeekableSource,
    StreamSource,
    is_at,
    name_of,
    sha256_of,
    source_of,
)
from holdfast.errors import LocalChanged, TransferError


def test_an_iterator_can_not_go_back_before_what_was_confirmed() -> None:
    source = StreamSource([b"abc", b"def"])
    assert source.read(0, 4) == b"abcd"
    source.forget(3)
    assert source.read(3, 9) == b"def"
    with pytest.raises(TransferError, match="the server asks for byte 2 again"):
        source.read(2, 1)


def test_a_file_that_ends_early_is_noticed_while_it_is_hashed() -> None:
    data = bytes(3 << 20)
    source = BytesSource(data)
    worker = HashWorker(source.read_into)
    worker.advance(1 << 20)
    assert worker.finish(len(data)) == hashlib.sha256(data).hexdigest()
    worker = HashWorker(source.read_into)
    worker.advance(4 << 20)
    with pytest.raises(TransferError, match=r"the file ends at 3145728, before byte"):
        worker.finish(4 << 20)


def test_a_file_is_stated_once_and_a_later_change_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    source = FileSource(path)
    assert source.stat() is source
    assert (source.size, source.read(2, 3), source.head_digest()) == (
        10,
        b"234",
        hashlib.sha256(b"0123456789").hexdigest(),
    )
    path.write_bytes(b"0123456789abc")
    with pytest.raises(LocalChanged, match="Pass restart=True"):
        source.read(0, 1)
    source.close()
    with pytest.raises(LocalChanged, match="Pass restart=True"):
        source.read_into(0, memoryview(bytearray(4)))
    source.close()


def test_the_head_digest_is_of_the_first_bytes_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(HEAD) + b"the rest")
    source = FileSource(path).stat()
    assert source.head_digest() == hashlib.sha256(bytes(HEAD)).hexdigest()
    source.close()


def test_a_folder_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="Use upload_folder"):
        FileSource(tmp_path).stat()


def test_a_path_becomes_the_source_for_what_is_there(tmp_path: Path) -> None:
    path, pipe = tmp_path / "a", tmp_path / "pipe"
    path.write_bytes(b"abc")
    os.mkfifo(pipe)
    assert isinstance(source_of(path).stat(), FileSource)
    stream = source_of(str(pipe)).stat()
    assert (type(stream), stream.size) == (StreamSource, None)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"through the pipe",))
    writer.start()
    assert stream.read(0, 100) == b"through the pipe"
    writer.join()
    stream.close()


def test_an_open_file_is_read_from_its_position_and_stays_open() -> None:
    file = io.BytesIO(b"header and body")
    file.seek(11)
    source = source_of(file)
    assert isinstance(source, SeekableSource)
    assert (source.size, source.read(0, 10), source.read(2, 10)) == (4, b"body", b"dy")
    source.close()
    assert not file.closed


@pytest.mark.parametrize("content", [b"abc", bytearray(b"abc"), memoryview(b"abc"), [b"a", b"bc"], iter([b"abc"])])
def test_bytes_and_iterables_are_sources(content: bytes) -> None:
    source = source_of(content)
    buffer = bytearray(2)
    assert source.read_into(0, memoryview(buffer)) == 2
    assert buffer == b"ab"
    assert source.stat() is source
    source.forget(1)
    assert source.read(1, 9) == b"bc"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (5, "takes a path, bytes, a binary file or an iterable of bytes, not int"),
        (io.StringIO("text"), "open in text mode"),
    ],
)
def test_other_content_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        source_of(content)


def test_text_from_an_iterable_is_refused_when_it_comes() -> None:
    source = source_of(["text"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="is text, not bytes"):
        source.read(0, 1)


def test_the_name_is_that_of_the_file_if_it_has_one(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"")
    with path.open("rb") as file:
        assert [name_of(path), name_of(str(path)), name_of(file)] == ["a.bin"] * 3
    for nameless in (b"abc", io.BytesIO(), "/dev/stdin"):
        with pytest.raises(ValueError, match="Pass the name for the server"):
            name_of(nameless)


def test_an_open_file_is_recognized_at_its_path(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256_of(path) == hashlib.sha256(b"abc").hexdigest()
    with path.open("rb") as file:
        assert is_at(file.fileno(), path)
        path.rename(tmp_path / "b")
        assert not is_at(file.fileno(), path)
        path.write_bytes(b"abc")
        assert not is_at(file.fileno(), path)


def test_a_failed_read_is_raised_by_the_next_one_too() -> None:
    def pieces() -> object:
        yield b"abc"
        raise OSError("the disk broke")

    source = StreamSource(pieces())  # type: ignore[arg-type]
    assert source.read(0, 3) == b"abc"
    for _ in range(2):
        with pytest.raises(OSError, match="the disk broke"):
            source.read(3, 1)
