"""What the SDK reads from and writes to on this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from holdfast._local_files.part_file import PartFile
from holdfast._local_files.sources import BytesSource, HashWorker, StreamSource
from holdfast.errors import TransferError


def test_an_iterator_can_not_go_back_before_what_was_confirmed() -> None:
    source = StreamSource([b"abc", b"def"])
    assert source.read(0, 4) == b"abcd"
    source.forget(3)
    assert source.read(3, 9) == b"def"
    with pytest.raises(TransferError, match="the server asks for byte 2 again"):
        source.read(2, 1)


def test_a_part_that_is_not_open_says_so(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "x")
    with pytest.raises(ValueError, match="is not open"):
        part.write(0, b"x")
    assert not part.holds([(0, 1)])


def test_a_disk_that_is_too_small_is_told_before_it_is_full(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="bytes free, and 1000000000000000000 are still to come"):
        PartFile(tmp_path / "x").check_space(10**18)


def test_a_file_that_ends_early_is_noticed_while_it_is_hashed() -> None:
    data = bytes(3 << 20)
    source = BytesSource(data)
    follower = HashWorker(source.read_into)
    follower.advance(1 << 20)
    assert follower.finish(len(data)) == hashlib.sha256(data).hexdigest()
    follower = HashWorker(source.read_into)
    follower.advance(4 << 20)
    with pytest.raises(TransferError, match=r"the file ends at 3145728, before byte"):
        follower.finish(4 << 20)
