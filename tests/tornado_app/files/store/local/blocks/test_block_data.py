"""Blocks on a local disk: after a power cut, over a changed source, and with a full disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.digests import ABSENT, BLOCK, SIZE
from tests.support.blocks import content, listed
from tests.support.store_conformance import put
from tornado_app.files.store.local.blocks import cloning
from tornado_app.files.store.local.blocks.block_data import LocalBlockData
from tornado_app.files.store.local.published import LocalStore

DATA = content(3 * BLOCK + 999)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path / "files")
    yield store
    store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files" / ".holdfast" / "uploads" / "up"


@pytest.fixture
def data(store: LocalStore) -> Iterator[LocalBlockData]:
    staged = store.create("up", b"")
    store.prepare_blocks(staged, None)
    opened = store.open_blocks(staged, len(DATA))
    for index in range(4):
        opened.write(index, [DATA[index * BLOCK : (index + 1) * BLOCK]], listed(DATA)[index * SIZE :][:SIZE])
    yield opened
    opened.close()


def reopened(store: LocalStore, size: int = len(DATA)) -> bytes:
    """The digests that the next server sees."""
    opened = store.open_blocks(store.load("up"), size)
    try:
        return opened.digests
    finally:
        opened.close()


def test_after_another_boot_blocks_whose_bytes_were_lost_are_missing(
    store: LocalStore, data: LocalBlockData, folder: Path
) -> None:
    with (folder / "data").open("r+b") as file:  # the power cut took the bytes of one block, not its digest
        file.seek(BLOCK)
        file.write(bytes(4096))
    assert reopened(store) == listed(DATA)  # in the same boot nothing is lost
    (folder / "boot").write_bytes(b"another")
    expected = listed(DATA)[:SIZE] + ABSENT + listed(DATA)[2 * SIZE :]
    assert reopened(store) == expected
    assert reopened(store) == expected
    assert (folder / "blocks").read_bytes() == expected


def test_after_another_boot_bytes_past_the_end_of_the_data_are_missing(
    store: LocalStore, data: LocalBlockData, folder: Path
) -> None:
    os.truncate(folder / "data", 2 * BLOCK + 5)
    (folder / "boot").unlink()
    assert reopened(store) == listed(DATA)[: 2 * SIZE] + ABSENT + ABSENT


def test_a_source_that_was_changed_by_hand_gives_no_block(
    store: LocalStore, data: LocalBlockData, tmp_path: Path
) -> None:
    put(store, "old", DATA)
    for index in range(4):
        data.drop(index)
    reader = store.open("old")
    with (tmp_path / "files" / "old").open("r+b") as file:
        file.write(b"changed")
    assert not data.copy(reader, 0, 0, listed(DATA))
    reader.close()
    assert data.digests == bytes(4 * SIZE)


def test_what_is_not_written_takes_no_space(store: LocalStore, folder: Path) -> None:
    size = 1000 * BLOCK
    staged = store.create("up", b"")
    store.prepare_blocks(staged, None)
    opened = store.open_blocks(staged, size)
    opened.write(999, [DATA[:BLOCK]], listed(DATA)[:SIZE])
    opened.close()
    status = (folder / "data").stat()
    assert status.st_size == size
    assert status.st_blocks * 512 <= 2 * BLOCK


# -- published content under another name


@pytest.mark.parametrize("when", ["linked", "edited", "changed meanwhile"])
def test_what_is_sent_after_an_adoption_never_reaches_the_published_file(
    store: LocalStore, folder: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", DATA)
    monkeypatch.setattr(cloning, "clone", lambda source, target: False)  # as on ext4
    staged = store.create("up", b"")
    store.prepare_blocks(staged, listed(DATA))
    opened, reader = store.open_blocks(staged, len(DATA)), store.open("a")
    if when == "changed meanwhile":
        monkeypatch.setattr(reader, "changed", lambda: True)
    assert opened.adopt(reader) is (when != "changed meanwhile")
    reader.close()
    opened.close()
    path = folder.parents[2] / "a"
    if when == "linked":  # killed before the digests were noted
        (folder / "blocks").write_bytes(b"")
    elif when == "edited":
        with path.open("r+b") as file:
            file.write(b"by hand")
    before, tag = path.read_bytes(), store.stat("a").etag
    again = store.open_blocks(store.load("up"), len(DATA))
    try:
        assert ABSENT in again.digests
        for index in range(4):
            again.write(index, [DATA[index * BLOCK : (index + 1) * BLOCK]], listed(DATA)[index * SIZE :][:SIZE])
        assert again.digests == listed(DATA)
    finally:
        again.close()
    assert path.read_bytes() == before
    if when != "edited":  # a file without a digest has its ctime in its tag, and a link less changes that
        assert store.stat("a").etag == tag
    assert (folder / "data").read_bytes() == DATA
