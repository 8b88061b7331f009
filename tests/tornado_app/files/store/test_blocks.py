"""Conformance of stores that take blocks: any order, several threads at once, crashes, copies and known content."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.digests import ABSENT, BLOCK, SIZE
from tests.support.blocks import content as made
from tests.support.blocks import listed, whole
from tests.support.store_conformance import STORES, content
from tornado_app.files.store.blocks import HINTED, BlockData, FindsContent, TakesBlocks
from tornado_app.files.store.interface import FileDigests, FileStore, StagedData

DATA = made(3 * BLOCK + 999)
OTHER = made(3 * BLOCK + 999, seed=1)


def block(data: bytes, index: int) -> bytes:
    return data[index * BLOCK : (index + 1) * BLOCK]


def digest(data: bytes, index: int) -> bytes:
    return listed(data)[index * SIZE : (index + 1) * SIZE]


def publish(store: FileStore, name: str, data: bytes) -> None:
    staged = store.create("published", b"")
    staged.write([data])
    staged.publish(name, FileDigests(blocks=listed(data)))
    staged.discard()


class TestTakesBlocks:
    @pytest.fixture(params=[name for name in STORES if name != "without optional powers"])
    def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
        self._open = STORES[request.param](tmp_path)
        self._opened = [self._open()]
        self._opened[0].start()
        yield self._opened[0]
        for store in self._opened:
            store.close()

    def reopened(self) -> FileStore:
        self._opened.append(self._open())
        self._opened[-1].start()
        return self._opened[-1]

    def prepared(self, store: FileStore, expected: bytes | None = None) -> tuple[StagedData, BlockData]:
        assert isinstance(store, TakesBlocks)
        staged = store.create("up", b"info")
        store.prepare_blocks(staged, expected)
        return staged, store.open_blocks(staged, len(DATA))

    def again(self) -> tuple[StagedData, BlockData]:
        store = self.reopened()
        assert isinstance(store, TakesBlocks)
        staged = store.load("up")
        return staged, store.open_blocks(staged, len(DATA))

    def test_blocks_are_written_in_any_order_and_their_digests_survive_a_crash(self, store: FileStore) -> None:
        _, data = self.prepared(store)
        assert data.digests == bytes(4 * SIZE)
        assert data.write(3, [block(DATA, 3)], digest(DATA, 3))
        assert data.write(1, [memoryview(block(DATA, 1))[:7], b"", block(DATA, 1)[7:]], digest(DATA, 1))
        data.close()
        staged, data = self.again()
        assert data.digests == ABSENT + digest(DATA, 1) + ABSENT + digest(DATA, 3)
        assert data.expected is None
        for index in (2, 0):
            data.write(index, [block(DATA, index)], digest(DATA, index))
        data.sync()
        data.close()
        data.close()
        staged.publish("a", FileDigests(blocks=listed(DATA)))
        assert content(self._opened[-1], "a") == DATA

    def test_the_same_block_again_is_not_written_and_another_replaces_it(self, store: FileStore) -> None:
        _, data = self.prepared(store)
        assert data.write(0, [block(OTHER, 0)], digest(OTHER, 0))
        assert not data.write(0, [block(OTHER, 0)], digest(OTHER, 0))
        assert data.write(0, [block(DATA, 0)], digest(DATA, 0))
        assert data.digests[:SIZE] == digest(DATA, 0)
        data.drop(0)
        assert data.digests[:SIZE] == ABSENT
        data.close()

    def test_whatever_is_written_at_once_a_digest_is_that_of_the_bytes(self, store: FileStore) -> None:
        staged, data = self.prepared(store)

        def write(number: int) -> None:
            source = (DATA, OTHER)[number % 2]
            index = number // 2 % 4
            data.write(index, [block(source, index)], digest(source, index))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(write, range(64)))
        digests = data.digests
        data.close()
        staged.publish("a", FileDigests(blocks=digests))
        assert listed(content(store, "a")) == digests

    def test_the_digests_that_are_expected_are_kept(self, store: FileStore) -> None:
        _, data = self.prepared(store, listed(DATA))
        data.close()
        _, data = self.again()
        assert data.expected == listed(DATA)
        data.close()

    def test_blocks_are_copied_from_a_file_but_not_over_those_that_are_there(self, store: FileStore) -> None:
        publish(store, "old", DATA)
        staged, data = self.prepared(store)
        data.write(1, [block(OTHER, 1)], digest(OTHER, 1))
        reader = store.open("old")
        assert data.copy(reader, 0, 0, listed(DATA)[: 3 * SIZE])
        assert data.copy(reader, 3, 3, digest(DATA, 3))
        reader.close()
        mixed = block(DATA, 0) + block(OTHER, 1) + DATA[2 * BLOCK :]
        assert data.digests == listed(mixed)
        data.close()
        staged.publish("new", FileDigests(blocks=listed(mixed)))
        assert (content(store, "new"), content(store, "old")) == (mixed, DATA)

    def test_blocks_are_copied_to_another_place(self, store: FileStore) -> None:
        publish(store, "old", DATA)
        _, data = self.prepared(store)
        reader = store.open("old")
        assert data.copy(reader, 0, 1, listed(DATA)[: 2 * SIZE])
        reader.close()
        assert data.digests == ABSENT + listed(DATA)[: 2 * SIZE] + ABSENT
        data.close()

    def test_a_file_with_the_same_content_is_found_and_adopted(self, store: FileStore) -> None:
        publish(store, "folder/old", DATA)
        assert isinstance(store, FindsContent)
        assert store.find_content(whole(OTHER)) is None
        name = store.find_content(whole(DATA))
        assert name == "folder/old"
        staged, data = self.prepared(store, listed(DATA))
        data.write(2, [block(DATA, 2)], digest(DATA, 2))
        reader = store.open(name)
        assert data.adopt(reader)
        reader.close()
        assert data.digests == listed(DATA)
        data.close()
        staged.close()
        staged.publish("new", FileDigests(blocks=listed(DATA)))
        assert content(store, "new") == DATA
        assert store.stat("new").block_digest == store.stat("folder/old").block_digest == whole(DATA)
        assert store.stat("new").etag == store.stat("folder/old").etag
        store.delete("folder/old")
        assert content(store, "new") == DATA
        assert store.stat("new").block_digest == whole(DATA)

    def test_content_is_not_found_once_its_last_file_is_deleted_or_replaced(self, store: FileStore) -> None:
        assert isinstance(store, FindsContent)
        publish(store, "a", DATA)
        publish(store, "a", OTHER)
        assert store.find_content(whole(DATA)) is None
        assert store.find_content(whole(OTHER)) == "a"
        store.delete("a")
        assert store.find_content(whole(OTHER)) is None

    def test_a_small_file_is_not_found(self, store: FileStore) -> None:
        assert isinstance(store, FindsContent)
        publish(store, "a", b"small")
        assert store.find_content(whole(b"small")) is None

    @pytest.mark.slow
    def test_a_big_file_is_found_by_its_size_and_first_block(self, store: FileStore) -> None:
        big = bytes(HINTED + 5)
        assert isinstance(store, FindsContent)
        publish(store, "a", big)
        publish(store, "b", DATA)
        assert store.find_similar(len(big), digest(big, 0)) == "a"
        assert store.find_similar(len(big), digest(DATA, 0)) is None
        assert store.find_similar(len(big) + 1, digest(big, 0)) is None
        assert store.find_similar(len(DATA), digest(DATA, 0)) is None
        store.delete("a")
        assert store.find_similar(len(big), digest(big, 0)) is None
