"""The local store: it conforms, links can't lead out of it, and what is changed by hand is noticed."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import wait_until
from tests.support.store_conformance import content, put, sha256
from tornado_app import problems
from tornado_app.files.store.interface import ABSENT, Precondition
from tornado_app.files.store.local import digest_index
from tornado_app.files.store.local import root as root_module
from tornado_app.files.store.local.digest_index import DigestIndex
from tornado_app.files.store.local.published import LocalStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.fixture
def store(root: Path) -> Iterator[LocalStore]:
    store = LocalStore(root)
    store.start()
    yield store
    store.close()


def refused(call: object, *arguments: object) -> problems.ProblemError:
    with pytest.raises(problems.ProblemError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value


class TestLinks:
    def test_a_link_that_stays_inside_is_followed(self, root: Path, store: LocalStore) -> None:
        (root / "real/deep").mkdir(parents=True)
        (root / "real/deep/data").write_text("data")
        (root / "file").symlink_to("real/deep/data")
        (root / "folder").symlink_to(root / "real")
        (root / "real/up").symlink_to("../real/deep/../deep")
        (root / "chain").symlink_to("folder/up/data")
        (root / "self").symlink_to(root)
        for name in ("file", "folder/deep/data", "real/up/data", "chain", "self/file", "self/self/chain"):
            assert content(store, name) == b"data", name

    def test_a_link_that_leaves_is_refused_even_if_it_comes_back(self, root: Path, store: LocalStore) -> None:
        (root.parent / "secret").write_text("secret")
        (root / "a").mkdir()
        (root / "a/relative").symlink_to("../../secret")
        (root / "absolute").symlink_to(root.parent / "secret")
        (root / "folder").symlink_to("..")
        (root / "back").symlink_to("../files/a")
        (root / "etc").symlink_to("/etc")
        (root / "lookalike").symlink_to(str(root) + "x")
        for name in ("a/relative", "absolute", "folder/secret", "back/x", "etc/passwd", "folder/files/a", "lookalike"):
            error = refused(store.open, name)
            assert error.kind is problems.NO_SUCH_FILE, name
            assert "leaves the files directory" in error.detail
        for name in ("folder/new", "etc/new", "back/new", "absolute", "a/relative", "etc"):
            assert "leaves" in refused(store.check_target, name).detail
            assert "leaves" in refused(put, store, name, b"").detail
        assert "leaves" in refused(store.delete, "absolute").detail

    def test_links_to_hidden_places_and_endless_links_are_refused(self, root: Path, store: LocalStore) -> None:
        staged = store.create("up", b"")
        staged.write([b"in the making"])
        (root / "peek").symlink_to(".holdfast/uploads/up/data")
        (root / "x").symlink_to("y")
        (root / "y").symlink_to("x")
        (root / "aside").symlink_to("folder/../.holdfast")
        (root / "folder").mkdir()
        for name in ("peek", "aside/uploads/up/data"):
            assert "server's own" in refused(store.open, name).detail
            assert "server's own" in refused(store.check_target, name).detail
        assert "too many links" in refused(store.open, "x").detail
        assert store.listing() == []

    def test_replacing_and_deleting_a_link_leave_its_target_alone(self, root: Path, store: LocalStore) -> None:
        (root / "target").write_text("target")
        for link in ("one", "two", "dangling"):
            (root / link).symlink_to("target" if link != "dangling" else "nowhere")
        assert refused(put, store, "one", b"new", ABSENT).kind is problems.FILE_EXISTS
        put(store, "one", b"new")
        store.delete("two")
        assert refused(put, store, "dangling", b"new", ABSENT).kind is problems.FILE_EXISTS
        put(store, "dangling", b"new")
        assert (root / "target").read_text() == "target"
        assert [found.name for found in store.listing()] == ["dangling", "one", "target"]
        assert not (root / "one").is_symlink()

    def test_a_link_to_a_folder_is_not_listed_and_not_replaced_by_a_file(self, root: Path, store: LocalStore) -> None:
        put(store, "real/a", b"")
        (root / "link").symlink_to("real")
        for call in (lambda: store.check_target("link"), lambda: put(store, "link", b""), lambda: store.delete("link")):
            assert "is a folder" in refused(call).detail
        (root / "file").symlink_to("real/a")
        assert [found.name for found in store.listing()] == ["file", "real/a"]


def edit(path: Path) -> None:
    """Change bytes in place so that neither size nor mtime tell of it."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"9")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


class TestByHand:
    def test_a_changed_file_gets_another_etag_and_loses_its_digest(self, root: Path, store: LocalStore) -> None:
        put(store, "a", b"12345")
        before = store.stat("a")
        (root / "a").write_text("54321")
        after = store.stat("a")
        assert before.sha256 == sha256(b"12345")
        assert after.sha256 is None
        assert after.etag != before.etag

    def test_an_edit_that_keeps_size_and_mtime_gets_another_etag(self, root: Path, store: LocalStore) -> None:
        (root / "by-hand").write_text("12345")
        put(store, "put", b"12345")
        for name in ("by-hand", "put"):
            before, reader = store.stat(name), store.open(name)
            edit(root / name)
            assert reader.changed()
            reader.close()
            again = LocalStore(root)
            for found in (store.stat(name), again.stat(name), *store.listing(name), store.check_target(name)):
                assert found is not None
                assert (found.size, found.modified_ns) == (before.size, before.modified_ns)
                assert (found.sha256, found.claimed) == (None, None)
                assert found.etag != before.etag
            again.close()

    @pytest.mark.parametrize("change", ["chmod", "rename", "link", "unlink", "times"])
    def test_a_change_that_keeps_the_content_keeps_the_etag_of_what_the_server_wrote(
        self, root: Path, store: LocalStore, change: str
    ) -> None:
        put(store, "a", b"12345")
        before = store.stat("a")
        reader = store.open("a")
        path, other = root / "a", root / "b"
        if change == "chmod":
            path.chmod(0o600)
        elif change == "rename":
            path.rename(other)
            other.rename(path)
        elif change == "times":
            os.utime(path, ns=(0, before.modified_ns))
        else:
            other.hardlink_to(path)
        if change == "unlink":
            other.unlink()
        assert store.listing("a") == [before]
        assert store.stat("a") == before
        assert reader.changed() == (change in ("rename", "times", "unlink"))  # nothing shows that it was no edit
        reader.close()
        edit(path)
        assert store.stat("a").sha256 is None

    def test_what_is_big_is_read_anew_in_the_background(
        self, root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(digest_index, "AT_ONCE", 3)
        monkeypatch.setattr(root_module, "LISTED_AT_ONCE", 3)
        for name in ("same", "edited"):
            put(store, name, b"12345")
        same, edited = store.stat("same"), store.stat("edited")
        go_on = threading.Event()
        verify = DigestIndex.verify
        monkeypatch.setattr(DigestIndex, "verify", lambda *args: (go_on.wait(60), verify(*args))[1])
        (root / "same").chmod(0o600)
        edit(root / "edited")
        for name, before in (("same", same), ("edited", edited)):
            for found in (store.stat(name), *store.listing(name)):
                assert (found.sha256, found.claimed) == (None, before.sha256)
                assert found.etag != before.etag
        go_on.set()
        wait_until(lambda: store.stat("same") == same, what="the digest is confirmed")
        wait_until(lambda: store.stat("edited").claimed is None, what="the digest is refuted")
        assert store.stat("edited").sha256 is None

    def test_a_digest_that_an_earlier_version_noted_is_confirmed(self, root: Path, store: LocalStore) -> None:
        for name in ("same", "edited"):
            put(store, name, b"12345")
            status = (root / name).stat()
            note = root / ".holdfast/digests" / f"{status.st_ino:x}"
            note.write_text(f"{status.st_size} {status.st_mtime_ns} {sha256(b'12345')}\n")
        edit(root / "edited")
        again = LocalStore(root)
        assert again.stat("same").sha256 == sha256(b"12345")
        assert again.stat("edited").sha256 is None
        again.close()

    def test_digests_survive_a_restart(self, root: Path, store: LocalStore) -> None:
        put(store, "a", b"12345")
        again = LocalStore(root)
        assert again.stat("a") == store.stat("a")
        again.close()

    def test_a_spoilt_digest_note_counts_for_nothing(self, root: Path, store: LocalStore) -> None:
        put(store, "a", b"12345")
        note = root / ".holdfast/digests" / f"{(root / 'a').stat().st_ino:x}"
        for spoilt in (b"", b"5 6", b"\xff\xfe", note.read_bytes()[:30]):
            note.write_bytes(spoilt)
            again = LocalStore(root)
            assert again.stat("a").sha256 is None
            again.close()

    def test_no_digest_note_outlives_its_file(self, root: Path, store: LocalStore) -> None:
        for number in range(5):
            put(store, "a", b"%d" % number)
        assert len(os.listdir(root / ".holdfast/digests")) == 1
        store.delete("a")
        assert os.listdir(root / ".holdfast/digests") == []

    @pytest.mark.parametrize("kind", ["fifo", "socket", "folder"])
    def test_what_is_no_file_is_refused_without_waiting(self, root: Path, store: LocalStore, kind: str) -> None:
        if kind == "fifo":
            os.mkfifo(root / "a")
        elif kind == "folder":
            (root / "a").mkdir()
        else:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(root / "a"))
        for call in (store.open, store.stat):
            assert refused(call, "a").kind is problems.NO_SUCH_FILE
        for call in (store.delete, store.check_target):
            assert refused(call, "a").kind is problems.BAD_NAME
        assert store.listing() == []

    def test_names_that_nobody_can_ask_for_are_not_listed(self, root: Path, store: LocalStore) -> None:
        for raw in (b".holdfast/x", b"bad\xff", b"new\nline", b"back\\slash", b"good", b".hidden"):
            (Path(os.fsdecode(os.fsencode(root) + b"/" + raw))).write_bytes(b"")
        assert [found.name for found in store.listing()] == [".hidden", "good"]


class TestPublishing:
    def test_of_many_at_once_the_first_wins(self, store: LocalStore) -> None:
        won: list[int] = []
        lost: list[tuple[int, problems.Kind]] = []
        barrier = threading.Barrier(8)

        def publish(number: int) -> None:
            staged = store.create(f"u{number}", b"")
            staged.write([b"%d" % number])
            barrier.wait()
            try:
                staged.publish("folder/a", None, ABSENT)
                won.append(number)
            except problems.ProblemError as error:
                lost.append((number, error.kind))

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert content(store, "folder/a") == b"%d" % won[0]
        assert [kind for _, kind in lost] == [problems.FILE_EXISTS] * 7
        assert all(store.load(f"u{number}").offset == 1 for number, _ in lost)

    def test_a_file_system_without_links_publishes_by_renaming(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_links(*args: object, **kwargs: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_links)
        put(store, "a", b"1", ABSENT)
        assert refused(put, store, "a", b"2", ABSENT).kind is problems.FILE_EXISTS
        assert content(store, "a") == b"1"

    def test_another_error_of_the_disk_is_told_as_it_is(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: object, **kwargs: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "link", broken)
        with pytest.raises(OSError, match="Input/output error"):
            put(store, "a", b"1", ABSENT)
        assert store.listing() == []

    def test_what_a_crash_left_half_made_is_swept(self, root: Path, store: LocalStore) -> None:
        for name in (".new-a", ".gone-b"):
            (root / ".holdfast/uploads" / name).mkdir()
            (root / ".holdfast/uploads" / name / "data").write_text("x")
        store.start()
        assert os.listdir(root / ".holdfast/uploads") == []

    @pytest.mark.parametrize("way", ["not implemented", "not allowed", "nothing"])
    def test_where_the_system_does_not_copy_parts_are_joined_all_the_same(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch, way: str
    ) -> None:
        def copy(*args: object) -> int:
            if way == "nothing":
                return 0
            raise OSError({"not implemented": errno.ENOSYS, "not allowed": errno.EPERM}[way], way)

        monkeypatch.setattr(os, "copy_file_range", copy, raising=False)
        parts = [os.urandom(size) for size in (3 << 20, 0, 5)]
        staged = [store.create(f"p{number}", b"") for number in range(len(parts))]
        for one, data in zip(staged, parts, strict=True):
            one.write([data])
        whole = store.create("whole", b"")
        whole.join(staged)
        assert whole.offset == len(whole.read(0, 1 << 30)) == (3 << 20) + 5
        assert whole.read(0, 1 << 30) == b"".join(parts)

    def test_many_parts_hold_no_descriptors(self, root: Path, store: LocalStore) -> None:
        parts = [store.create(f"p{number}", b"") for number in range(20)]
        for part in parts:
            part.write([b"x"])
            part.close()
        whole = store.create("whole", b"")
        whole.join(parts)
        paths = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
        assert [path for path in paths if path.startswith(f"{root}/.holdfast/uploads/")] == [
            f"{root}/.holdfast/uploads/whole/data"
        ]
        assert whole.offset == 20

    def test_a_part_that_is_shorter_than_it_was_is_told(self, root: Path, store: LocalStore) -> None:
        part, whole = store.create("p", b""), store.create("whole", b"")
        part.write([b"abc"])
        os.truncate(root / ".holdfast/uploads/p/data", 1)
        with pytest.raises(OSError, match="ended early"):
            whole.join([part])
        assert whole.offset == 0

    @pytest.mark.slow
    def test_folders_that_come_and_go_at_once_lose_no_file(self, store: LocalStore) -> None:
        failures: list[BaseException] = []

        def come_and_go(number: int) -> None:
            try:
                for turn in range(40):
                    name = f"a/b/c/f{number}"
                    staged = store.create(f"u{number}", b"")
                    staged.write([b"%d" % turn])
                    staged.publish(name, None, ABSENT)
                    staged.discard()
                    assert content(store, name) == b"%d" % turn
                    store.delete(name)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert store.listing() == []

    def test_what_is_refused_leaves_no_folder_behind(self, root: Path, store: LocalStore) -> None:
        staged = store.create("u", b"")
        with pytest.raises(problems.ProblemError) as refusal:
            staged.publish("a/b/f", None, Precondition(present=True))
        assert refusal.value.kind is problems.PRECONDITION_FAILED
        assert not (root / "a").exists()
        assert staged.publish("a/b/f", None).size == 0

    def test_a_published_upload_whose_note_is_lost_is_gone(self, root: Path, store: LocalStore) -> None:
        store.create("u", b"info").close()
        (root / ".holdfast/uploads" / "u" / "data").unlink()
        with pytest.raises(problems.ProblemError) as refusal:
            store.load("u")
        assert refusal.value.kind is problems.NO_SUCH_UPLOAD


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


class TestDurability:
    """What is told has been told to the disk before."""

    @pytest.fixture
    def synced(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The last two segments of the path of everything that was synced."""
        found: list[str] = []
        for name in ("fsync", "fdatasync"):
            sync = getattr(os, name, os.fsync)

            def noted(fd: int, sync: Any = sync) -> None:
                sync(fd)
                found.append("/".join(os.readlink(f"/proc/self/fd/{fd}").split("/")[-2:]))

            monkeypatch.setattr(os, name, noted, raising=False)
        return found

    def test_that_bytes_are_settled_or_taken_back(self, root: Path, synced: list[str]) -> None:
        store = LocalStore(root, durable=True)
        assert [path.rpartition("/")[2] for path in synced] == [
            "files",
            ".holdfast",
            ".holdfast",
        ]  # what the server keeps
        staged = store.create("u", b"")
        staged.write([b"abc"])
        staged.begin()
        synced.clear()
        staged.commit()
        assert synced == ["uploads/u"]  # that the mark is gone
        staged.truncate(1)
        assert synced[1:] == ["u/data"]
        store.close()

    def test_that_bytes_are_there_after_a_crash(self, root: Path, synced: list[str]) -> None:
        store = LocalStore(root, durable=True)
        store.create("u", b"").write([b"abc"])
        synced.clear()
        assert store.load("u").offset == 3
        assert synced == ["u/data"]
        store.close()
