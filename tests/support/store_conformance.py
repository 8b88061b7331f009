"""Conformance suite of `FileStore`: what every store promises. A new store is one line in `STORES`.

`tests/tornado_app/files/store/test_interface.py` runs it.
"""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from holdfast.digests import BLOCK, of_block, of_blocks
from tornado_app import problems
from tornado_app.files.store import powers
from tornado_app.files.store.interface import (
    ABSENT,
    UNKNOWN,
    FileDigests,
    FileReader,
    FileStore,
    PlacedFile,
    Precondition,
    SmallFile,
    StagedData,
)
from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.store.memory.contents import MemoryContents
from tornado_app.files.store.memory.store import MemoryStore
from tornado_app.files.store.optional_powers import (
    GrowsInView,
    HasDescription,
    HasDescriptor,
    JoinsParts,
    KeepsDigests,
    MarksDigests,
    ReadsStagedData,
    Truncates,
)

OpenStore = Callable[[], FileStore]
"""Opens one more store on the same place, as after a crash of the server that had it open."""


class Bare:
    """Proxy with the required members of a protocol and without any optional power."""

    def __init__(self, target: Any, protocol: type) -> None:
        self._target = target
        self._protocol = protocol

    def __getattr__(self, name: str) -> Any:
        if not hasattr(self._protocol, name):
            raise AttributeError(name)
        value = getattr(self._target, name)
        if self._protocol is FileStore and name in ("create", "load", "open"):
            return lambda *arguments: Bare(value(*arguments), FileReader if name == "open" else StagedData)
        return value


def in_memory(folder: Path) -> OpenStore:
    contents = MemoryContents()
    return lambda: MemoryStore(contents, marks_digests=True)


def without_powers(folder: Path) -> OpenStore:
    contents = MemoryContents()
    return lambda: cast(FileStore, Bare(MemoryStore(contents), FileStore))


STORES: dict[str, Callable[[Path], OpenStore]] = {
    "local": lambda folder: lambda: LocalStore(folder / "files", marks_digests=True),
    "durable local": lambda folder: lambda: LocalStore(folder / "files", durable=True, marks_digests=True),
    "memory": in_memory,
    "without optional powers": without_powers,
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(store: FileStore, name: str, data: bytes, expect: Precondition | None = None) -> None:
    """Publish `data` as `name`."""
    staged = store.create(f"put-{abs(hash(name))}", b"{}")
    try:
        staged.write([data])
        staged.publish(name, FileDigests(sha256(data)), expect or Precondition())
    finally:
        staged.discard()


def content(store: FileStore, name: str) -> bytes:
    reader = store.open(name)
    try:
        return reader.read(0, 1 << 30)
    finally:
        reader.close()


def refused(call: Callable[..., object], *arguments: object) -> problems.ProblemError:
    """Make a call and return the refusal."""
    with pytest.raises(problems.ProblemError) as caught:
        call(*arguments)
    return caught.value


class StoreConformance:
    """The suite. `store` is started and empty; `reopened` is another instance on the same place, after a crash."""

    @pytest.fixture(params=STORES)
    def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
        self._open = STORES[request.param](tmp_path)
        self._opened = [self._open()]
        self._opened[0].start()
        yield self._opened[0]
        for store in self._opened:
            store.close()
            store.close()

    def reopened(self) -> FileStore:
        self._opened.append(self._open())
        self._opened[-1].start()
        return self._opened[-1]

    # -- published files

    def test_what_is_published_is_read_as_it_was_written(self, store: FileStore) -> None:
        put(store, "folder/a.txt", b"hello")
        stat = store.stat("folder/a.txt")
        assert (stat.name, stat.size, stat.sha256, stat.etag) == ("folder/a.txt", 5, sha256(b"hello"), sha256(b"hello"))
        assert content(store, "folder/a.txt") == b"hello"

    def test_a_range_is_read_and_nothing_past_the_end(self, store: FileStore) -> None:
        put(store, "a", b"0123456789")
        reader = store.open("a")
        assert [reader.read(2, 3), reader.read(8, 100), reader.read(10, 1), reader.read(99, 5)] == [
            b"234",
            b"89",
            b"",
            b"",
        ]
        reader.close()
        reader.close()

    def test_a_reader_keeps_its_version_when_the_name_gets_another(self, store: FileStore) -> None:
        put(store, "a", b"old content")
        reader = store.open("a")
        put(store, "a", b"new")
        assert reader.read(0, 100) == b"old content"
        assert reader.stat.size == 11
        reader.close()
        assert content(store, "a") == b"new"

    @pytest.mark.slow
    def test_readers_in_other_threads_see_one_whole_version_while_the_name_is_replaced(self, store: FileStore) -> None:
        versions = [bytes([number]) * 50_000 for number in range(12)]
        put(store, "a", versions[0])
        stop = threading.Event()

        def read_until_stopped() -> int:
            count = 0
            while not stop.is_set() or not count:
                reader = store.open("a")
                first = reader.read(0, 25_000)
                data = first + reader.read(25_000, 1 << 20)
                assert reader.stat.sha256 in (sha256(data), None)  # None while a digest is confirmed
                assert data in versions
                assert store.stat("a").size == len(data)
                reader.close()
                count += 1
            return count

        with ThreadPoolExecutor(3) as pool:
            reading = [pool.submit(read_until_stopped) for _ in range(3)]
            try:
                for data in versions:
                    put(store, "a", data)
            finally:
                stop.set()
            assert all(read.result() for read in reading)

    def test_another_content_has_another_etag_even_at_the_same_size(self, store: FileStore) -> None:
        etags = set()
        for digit in b"0123456789":
            put(store, "a", bytes([digit]))
            etags.add(store.stat("a").etag)
        assert len(etags) == 10

    def test_a_digest_that_is_not_known_is_none_and_the_etag_is_there(self, store: FileStore) -> None:
        staged = store.create("x", b"")
        staged.write([b"data"])
        stat = staged.publish("a")
        assert stat.sha256 is None
        assert stat.etag
        assert store.stat("a") == stat

    @pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1])
    def test_block_digests_are_kept_with_the_file_and_make_its_etag(self, store: FileStore, size: int) -> None:
        data = bytes(size)
        blocks = b"".join(of_block(data[at : at + BLOCK]) for at in range(0, size, BLOCK))
        for name in ("a", "b"):
            staged = store.create(name, b"")
            staged.write([data])
            stat = staged.publish(name, FileDigests(sha256(data), blocks))
            assert (stat.block_digest, stat.sha256) == (of_blocks(blocks).hex(), sha256(data))
            assert stat.etag == of_blocks(blocks).hex()[:32]
            for seen in (store.stat(name), self.reopened().stat(name), *self.reopened().listing(name)):
                assert seen == stat
        put(store, "only-sha256", data)
        assert store.stat("only-sha256").etag == sha256(data)

    def test_small_files_are_published_together_each_whole_or_refused_by_itself(self, store: FileStore) -> None:
        put(store, "there", b"before")
        digests = FileDigests(sha256(b"new"), of_block(b"new"))
        files = [
            SmallFile("folder/new", b"new", digests, ABSENT),
            SmallFile("there", b"refused", expect=ABSENT),
            SmallFile("../out", b"refused"),
            SmallFile("folder", b"refused"),
            SmallFile("there", bytearray(b"after")),
            SmallFile("deep/er/empty", b""),
            SmallFile("twice", b"first"),
            SmallFile("twice", b"second"),
            SmallFile("nowhere", b"refused", expect=Precondition(present=True)),
        ]
        results = powers.publish_small(store, files)
        kinds = [None if isinstance(one, PlacedFile) else cast(problems.ProblemError, one).kind for one in results]
        exists, bad, failed = problems.FILE_EXISTS, problems.BAD_NAME, problems.PRECONDITION_FAILED
        assert kinds == [None, exists, bad, bad, None, None, None, None, failed]
        placed = [one for one in results if isinstance(one, PlacedFile)]
        assert [one.replaces for one in placed] == [False, True, False, False, True]
        assert placed[0].stat.sha256 == sha256(b"new")
        assert placed[0].stat.etag == of_blocks(of_block(b"new")).hex()[:32]
        again = self.reopened()
        for one in (placed[0], *placed[1:3], placed[4]):
            assert again.stat(one.stat.name) == store.stat(one.stat.name) == one.stat
        wanted = {"deep/er/empty": b"", "folder/new": b"new", "there": b"after", "twice": b"second"}
        assert {stat.name: content(store, stat.name) for stat in store.listing()} == wanted
        assert store.staged_ids() == []

    def test_a_digest_that_becomes_known_later_leaves_the_etag_as_it_is(self, store: FileStore) -> None:
        if not isinstance(store, KeepsDigests):
            pytest.skip("this store keeps no digests but those of the publication")
        data = bytes(BLOCK) + b"x"
        blocks = of_block(data[:BLOCK]) + of_block(b"x")
        for number, first in enumerate((UNKNOWN, FileDigests(sha256(data)), FileDigests(None, blocks))):
            staged = store.create(f"up-{number}", b"")
            staged.write([data])
            before = staged.publish("a", first)
            for later in (FileDigests(sha256(data)), FileDigests(None, blocks)):
                reader = store.open_for_digest("a")
                assert store.block_digests(reader) in (first.blocks, blocks)
                found = store.record_digests(reader, later)
                assert found is not None
                assert found == store.stat("a")
                reader.close()
            seen = self.reopened()
            after = seen.stat("a")
            assert (after.etag, after.sha256, after.block_digest) == (
                before.etag,
                sha256(data),
                of_blocks(blocks).hex(),
            )
            reader = seen.open("a")
            assert cast(KeepsDigests, seen).block_digests(reader) == blocks
            reader.close()

    def test_no_digest_is_recorded_of_a_version_that_was_replaced(self, store: FileStore) -> None:
        if not isinstance(store, KeepsDigests):
            pytest.skip("this store keeps no digests but those of the publication")
        put(store, "a", b"old")
        reader = store.open_for_digest("a")
        put(store, "a", b"new")
        after = store.stat("a")
        assert store.record_digests(reader, FileDigests(sha256(b"OLD"))) is None
        assert store.stat("a") == self.reopened().stat("a") == after
        reader.close()

    def test_a_file_without_a_sha256_is_marked_until_it_has_one(self, store: FileStore) -> None:
        if not isinstance(store, MarksDigests):
            pytest.skip("this store does not mark files that lack a digest")
        data = bytes(100_000)
        put(store, "with", data)
        for name in ("folder/a", "b"):
            staged = store.create("up", b"")
            staged.write([data])
            staged.publish(name)
            staged.discard()
        seen = self.reopened()
        assert isinstance(seen, MarksDigests)
        assert seen.pending_count == 2
        marks = {mark.name: mark for mark in seen.pending_digests(10)}
        assert set(marks) == {"folder/a", "b"}
        assert [mark.name for mark in seen.pending_digests(10, {marks["b"].key})] == ["folder/a"]
        assert len(seen.pending_digests(1)) == 1
        reader = seen.open_pending(marks["b"])
        assert reader is not None
        assert cast(KeepsDigests, seen).record_digests(reader, FileDigests(sha256(data))) is not None
        reader.close()
        put(seen, "folder/a", b"another")
        assert [seen.open_pending(mark) for mark in marks.values()] == [None, None]
        assert seen.pending_digests(10) == []
        assert seen.pending_count == 0

    def test_a_file_that_was_just_written_can_be_opened_for_its_digest(self, store: FileStore) -> None:
        if not isinstance(store, KeepsDigests):
            pytest.skip("this store keeps no digests but those of the publication")
        put(store, "a", b"content")
        reader = store.open_for_digest("a")
        assert reader.read(0, 100) == b"content"
        reader.close()
        assert refused(store.open_for_digest, "missing").kind is problems.NO_SUCH_FILE

    @pytest.mark.parametrize("name", ["missing", "folder/missing", "a/b"])
    def test_what_is_not_there_is_no_such_file(self, store: FileStore, name: str) -> None:
        for call in (store.stat, store.open, store.delete):
            with pytest.raises(problems.ProblemError) as caught:
                call(name)
            assert caught.value.kind is problems.NO_SUCH_FILE
        assert store.check_target(name) is None

    @pytest.mark.parametrize("name", ["", "/a", "../a", "a/../../b", "a\0b", ".holdfast", ".holdfast/uploads", "a//b"])
    def test_under_a_bad_name_there_is_nothing_and_nothing_can_be_put(self, store: FileStore, name: str) -> None:
        staged = store.create("x", b"")
        for call in (store.stat, store.open):
            with pytest.raises(problems.ProblemError) as caught:
                call(name)
            assert caught.value.kind is problems.NO_SUCH_FILE
        for call in (store.delete, store.check_target, lambda name: staged.publish(name)):
            with pytest.raises(problems.ProblemError) as caught:
                call(name)
            assert caught.value.kind is problems.BAD_NAME

    @pytest.mark.parametrize("name", [".gitattributes", ".zgroup/.zarray", "a/.git/HEAD", "...", ".uploads/x"])
    def test_names_with_a_leading_dot_are_names_like_any_other(self, store: FileStore, name: str) -> None:
        put(store, name, b"dotted")
        assert content(store, name) == b"dotted"
        assert [found.name for found in store.listing()] == [name]
        store.delete(name)
        assert store.listing() == []

    def test_a_file_is_no_folder_and_a_folder_no_file(self, store: FileStore) -> None:
        put(store, "a/b", b"")
        put(store, "c", b"")
        for name in ("a", "c/d"):
            staged = store.create("x", b"")
            with pytest.raises(problems.ProblemError) as caught:
                staged.publish(name)
            assert caught.value.kind is problems.BAD_NAME
            with pytest.raises(problems.ProblemError) as caught:
                store.check_target(name)
            assert caught.value.kind is problems.BAD_NAME
            staged.discard()
            for call in (store.stat, store.open):
                with pytest.raises(problems.ProblemError) as caught:
                    call(name)
                assert caught.value.kind is problems.NO_SUCH_FILE

    def test_files_are_listed_in_the_order_of_their_names(self, store: FileStore) -> None:
        names = ["A", "a-b", "a.txt", "a/b", "a/c/d", "a0", "ab", "b/x", "ä", "日"]
        for name in reversed(names):
            put(store, name, name.encode())
        assert [found.name for found in store.listing()] == sorted(names, key=str.encode)
        assert [found.sha256 for found in store.listing(limit=1)] == [sha256(b"A")]

    def test_a_listing_goes_on_after_any_name_and_keeps_to_its_prefix(self, store: FileStore) -> None:
        names = sorted(["a", "a/b", "a/b/c1", "a/b/c2", "a/bc", "a0", "b", "b/c/d"], key=str.encode)
        names.remove("a"), names.remove("a/b"), names.remove("b")  # a file and a folder can't share a name
        for name in names:
            put(store, name, b"")
        for after in ["", *names, "a/b", "a/c", "zz"]:
            for prefix in ["", "a", "a/", "a/b", "a/b/", "a/b/c1", "x"]:
                wanted = [n for n in names if n.startswith(prefix) and n.encode() > after.encode()]
                assert [found.name for found in store.listing(prefix, after)] == wanted
                assert [found.name for found in store.listing(prefix, after, 2)] == wanted[:2]
        assert store.listing(limit=0) == []

    def test_a_level_has_files_and_folders_and_goes_on_after_any_of_them(self, store: FileStore) -> None:
        names = ["A", "a-b", "a/b", "a/c/d", "a/c/e/f", "a0", "ab", "b/x", "b0/x", "ä/ö/ü"]
        for name in names:
            put(store, name, b"")

        def level(prefix: str, after: str) -> list[str]:
            """From the whole list, as object stores define it."""
            below = [name for name in names if name.startswith(prefix) and name.encode() > after.encode()]
            cut = {prefix + head + slash for name in below for head, slash, _ in [name[len(prefix) :].partition("/")]}
            return sorted(cut - {after}, key=str.encode)

        def listed(prefix: str, after: str, limit: int) -> list[str]:
            found = powers.level(store, prefix, after, limit)
            return [item if isinstance(item, str) else item.name for item in found]

        for prefix in ("", "a", "a/", "a/c", "a/c/", "a/c/e/f", "b", "ä/", "ä", "x", "x/", "/", "a//", "../", "./a"):
            for after in ("", *names, "a/", "a/c/", "a/c", "b/", "b", "zz", "ä/"):
                wanted = level(prefix, after)
                found = [
                    item if isinstance(item, str) else item.name for item in powers.level(store, prefix, after, 99)
                ]
                assert found == wanted, (prefix, after)
                cut = listed(prefix, after, 2)
                assert cut == found[:2]

    def test_a_file_is_deleted_and_leaves_no_folder(self, store: FileStore) -> None:
        put(store, "a/b/c", b"1")
        put(store, "a/d", b"2")
        store.delete("a/b/c")
        assert [found.name for found in store.listing()] == ["a/d"]
        put(store, "a/b", b"now a file")
        assert content(store, "a/b") == b"now a file"

    def test_expectations_are_checked_at_publishing_and_deleting(self, store: FileStore) -> None:
        put(store, "a", b"one")
        one = store.stat("a").etag
        with pytest.raises(problems.ProblemError) as caught:
            put(store, "a", b"two", ABSENT)
        assert caught.value.kind is problems.FILE_EXISTS
        put(store, "a", b"two", Precondition(etags=frozenset({one})))
        for expect in (Precondition(etags=frozenset({one})), Precondition(etags=frozenset())):
            with pytest.raises(problems.ProblemError) as caught:
                put(store, "a", b"three", expect)
            assert caught.value.kind is problems.PRECONDITION_FAILED
            with pytest.raises(problems.ProblemError) as caught:
                store.delete("a", expect)
            assert caught.value.kind is problems.PRECONDITION_FAILED
        with pytest.raises(problems.ProblemError) as caught:
            put(store, "new", b"", Precondition(present=True))
        assert caught.value.kind is problems.PRECONDITION_FAILED
        assert content(store, "a") == b"two"
        store.delete("a", Precondition(present=True))
        put(store, "a", b"again", ABSENT)
        assert content(store, "a") == b"again"

    # -- staged bytes

    def test_staged_bytes_and_info_are_there_after_a_crash_and_show_under_no_name(self, store: FileStore) -> None:
        staged = store.create("up", b"info")
        staged.write([b"abc", b"", b"def"])
        assert (staged.id, staged.info, staged.offset, staged.published) == ("up", b"info", 6, None)
        again = self.reopened().load("up")
        assert (again.id, again.info, again.offset, again.published) == ("up", b"info", 6, None)
        again.write([b"ghi"])
        again.sync()
        assert store.listing() == []
        assert self.reopened().load("up").offset == 9
        assert store.staged_ids() == ["up"]

    def test_closing_keeps_the_bytes_and_any_use_opens_them_again(self, store: FileStore) -> None:
        staged = store.create("up", b"")
        staged.write([b"abc"])
        staged.close()
        staged.close()
        staged.write([b"def"])
        staged.close()
        staged.publish("a")
        assert content(store, "a") == b"abcdef"

    def test_info_is_replaced(self, store: FileStore) -> None:
        staged = store.create("up", b"old and long")
        staged.set_info(b"new")
        assert staged.info == b"new"
        assert self.reopened().load("up").info == b"new"

    def test_an_id_is_taken_once_and_bad_ids_are_no_uploads(self, store: FileStore) -> None:
        store.create("up", b"")
        with pytest.raises(problems.ProblemError) as caught:
            store.create("up", b"")
        assert caught.value.kind is problems.CONFLICT
        for id in ("nope", "", "..", "a/b", "a\0", ".new-up", "x" * 200, "ü"):
            with pytest.raises(problems.ProblemError) as caught:
                store.load(id)
            assert caught.value.kind is problems.NO_SUCH_UPLOAD

    def test_a_crash_takes_back_the_bytes_of_a_transaction_unless_it_was_committed(self, store: FileStore) -> None:
        staged = store.create("up", b"")
        staged.write([b"sure"])
        staged.begin()
        staged.write([b"perhaps"])
        assert staged.offset == 11
        again = self.reopened().load("up")
        assert again.offset == 4
        again.begin()
        again.write([b"yes"])
        again.commit()
        last = self.reopened().load("up")
        assert last.offset == 7
        last.publish("a")
        assert content(store, "a") == b"sureyes"

    def test_a_rollback_takes_back_the_bytes_of_the_transaction_alone(self, store: FileStore) -> None:
        staged = store.create("up", b"")
        staged.write([b"sure"])
        for pieces in ([b"perhaps"], []):
            staged.begin()
            staged.write(pieces)
            staged.rollback()
            assert staged.offset == 4
        staged.write([b", yes"])
        assert self.reopened().load("up").offset == 9
        staged.publish("a")
        assert content(store, "a") == b"sure, yes"

    def test_pieces_may_be_reused_once_they_are_written(self, store: FileStore) -> None:
        staged = store.create("up", b"")
        piece = bytearray(b"abc")
        staged.write([memoryview(piece)])
        piece[:] = b"xyz"
        staged.publish("a")
        assert content(store, "a") == b"abc"

    def test_what_was_published_says_so_after_a_crash_until_it_is_discarded(self, store: FileStore) -> None:
        staged = store.create("up", b"info")
        staged.write([b"abc"])
        stat = staged.publish("a", FileDigests(sha256(b"abc")), ABSENT)
        assert staged.published == stat
        again = self.reopened().load("up")
        assert (again.published, again.offset, again.info) == (stat, 3, b"info")
        again.discard()
        again.discard()
        assert store.staged_ids() == []
        assert content(store, "a") == b"abc"

    def test_a_refused_publication_changes_nothing(self, store: FileStore) -> None:
        put(store, "a", b"first")
        staged = store.create("up", b"")
        staged.write([b"second"])
        with pytest.raises(problems.ProblemError):
            staged.publish("a", UNKNOWN, ABSENT)
        assert staged.published is None
        again = self.reopened().load("up")
        assert (again.offset, again.published) == (6, None)
        assert content(store, "a") == b"first"
        again.publish("b", UNKNOWN, ABSENT)
        assert content(store, "b") == b"second"

    def test_discarded_bytes_are_gone(self, store: FileStore) -> None:
        staged = store.create("up", b"")
        staged.write([b"abc"])
        staged.discard()
        assert store.staged_ids() == []
        with pytest.raises(problems.ProblemError):
            store.load("up")
        store.create("up", b"again").discard()

    # -- the store itself

    def test_free_space_is_a_number_or_not_known(self, store: FileStore) -> None:
        free = store.free_space()
        assert free is None or free > 0

    def test_the_part_size_is_a_number_of_bytes(self, store: FileStore) -> None:
        assert store.part_size >= 1
        assert store.is_persistent in (True, False)

    def test_another_process_opens_the_store_from_its_description(self, store: FileStore) -> None:
        if not isinstance(store, HasDescription):
            pytest.skip("no other process can open this store")
        put(store, "a", b"hello")
        store.create("up", b"info").write([b"staged"])
        self._opened.append(pickle.loads(pickle.dumps(store.description())).open())
        assert content(self._opened[-1], "a") == b"hello"
        assert self._opened[-1].load("up").offset == 6

    def test_the_time_is_noted_for_the_next_server(self, store: FileStore) -> None:
        assert store.noted_time() is None
        for now in (1_700_000_000.25, 1_600_000_000.0):
            store.note_time(now)
            assert self.reopened().noted_time() == now

    # -- optional powers

    def test_a_descriptor_is_of_the_version_that_was_opened(self, store: FileStore) -> None:
        put(store, "a", b"old")
        reader = store.open("a")
        if not isinstance(reader, HasDescriptor):
            pytest.skip("this store has no descriptors")
        put(store, "a", b"new")
        with open(reader.fileno(), "rb", closefd=False) as file:
            assert file.read() == b"old"
        reader.close()

    def test_parts_are_joined_in_order(self, store: FileStore) -> None:
        parts: list[StagedData] = []
        for number in range(4):
            part = store.create(f"part{number}", b"")
            part.write([bytes([65 + number]) * (number * 5000)])
            parts.append(part)
        whole = store.create("whole", b"")
        whole.write([b"head"])
        if not isinstance(whole, JoinsParts | ReadsStagedData):
            with pytest.raises(problems.ProblemError):
                powers.join(whole, parts)
            return
        powers.join(whole, parts)
        wanted = b"head" + b"B" * 5000 + b"C" * 10000 + b"D" * 15000
        assert whole.offset == len(wanted)
        whole.publish("whole")
        assert content(store, "whole") == wanted

    def test_staged_bytes_are_read(self, store: FileStore) -> None:
        staged = store.create("up", b"")
        staged.write([b"abc", b"def"])
        if not isinstance(staged, ReadsStagedData):
            pytest.skip("this store reads no staged bytes")
        assert (staged.read(1, 3), staged.read(5, 9), staged.read(6, 1)) == (b"bcd", b"f", b"")

    def test_staged_bytes_are_truncated(self, store: FileStore) -> None:
        staged = store.create("up", b"")
        staged.write([b"0123456789"])
        if not isinstance(staged, Truncates):
            pytest.skip("this store truncates no staged bytes")
        staged.truncate(4)
        staged.write([b"x"])
        with pytest.raises(ValueError, match="5 bytes to 6"):
            staged.truncate(6)
        staged.publish("a")
        assert content(store, "a") == b"0123x"

    def test_bytes_show_under_their_name_while_they_grow(self, store: FileStore) -> None:
        staged = store.create("up", b"")
        if not isinstance(staged, GrowsInView):
            pytest.skip("nothing grows in view in this store")
        put(store, "a", b"old")
        staged.write([b"one"])
        with pytest.raises(problems.ProblemError) as caught:
            staged.expose("a", ABSENT)
        assert caught.value.kind is problems.FILE_EXISTS
        staged.expose("a")
        staged.expose("a", ABSENT)
        first = store.stat("a").etag
        staged.write([b"two"])
        assert content(store, "a") == b"onetwo"
        assert store.stat("a").etag != first
        stat = staged.publish("a", FileDigests(sha256(b"onetwo")), ABSENT)
        assert store.stat("a") == stat
        staged.discard()
        assert content(store, "a") == b"onetwo"

    def test_what_grows_in_view_is_withdrawn_and_nothing_else_is(self, store: FileStore) -> None:
        staged = store.create("up", b"")
        if not isinstance(staged, GrowsInView):
            pytest.skip("nothing grows in view in this store")
        staged.write([b"one"])
        staged.expose("folder/a")
        staged.withdraw("folder/b")
        staged.withdraw("folder/a")
        assert store.listing() == []
        staged.expose("folder/a")
        put(store, "folder/a", b"another")
        staged.withdraw("folder/a")
        assert content(store, "folder/a") == b"another"
