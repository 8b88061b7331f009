"""Files as work sees them: names, reading, and staged files that survive a crash at any moment."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.work import FilesForWork
from tests.support.store_conformance import put
from tornado_app import problems
from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.workspace import WorkFile, Workspace, open_workspace


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
def files(store: LocalStore, tmp_path: Path) -> FilesForWork:
    return Workspace(store)


@pytest.mark.parametrize("pickled", ["the description", "the workspace"])
def test_another_process_opens_it_from_its_description(store: LocalStore, tmp_path: Path, pickled: str) -> None:
    (tmp_path / "a").write_text("abc")
    files = Workspace(store, reserve=7).of("me")
    if pickled == "the description":
        again = open_workspace(pickle.loads(pickle.dumps(files.description())))
    else:
        again = pickle.loads(pickle.dumps(files))
    assert again.list() == ["a"]
    assert again.description() == files.description()
    again.stage("b", "key").write(b"staged")
    assert (again.owners(), files.stage("b", "key").tell()) == ({"me"}, 6)
    assert files.modules == ("tornado_app.files.workspace", "tornado_app.files.store.local.published")


def test_names_sizes_and_contents(files: FilesForWork, store: LocalStore) -> None:
    put(store, "b/x", b"hello")
    put(store, "a", b"")
    assert files.list() == ["a", "b/x"]
    assert files.list("b/") == ["b/x"]
    assert files.size("b/x") == 5
    with files.open("b/x") as file:
        assert (file.seekable(), file.readable()) == (True, True)
        assert file.seek(-3, io.SEEK_END) == 2
        assert (file.read(2), file.tell()) == (b"ll", 4)
        assert file.seek(0) == 0
        assert [*file] == [b"hello"]
        with pytest.raises(OSError, match="before the start"):
            file.seek(-1)
    with files.open("b/x") as file:
        put(store, "b/x", b"other")
        assert file.read() == b"hello"


@pytest.mark.parametrize("name", ["missing", "../etc/passwd", "/etc/passwd", ""])
def test_what_is_not_there_or_can_not_be_is_not_found(files: FilesForWork, name: str) -> None:
    for call in (files.size, files.open):
        with pytest.raises(FileNotFoundError):
            call(name)


def test_a_staged_file_is_invisible_until_it_is_published(files: FilesForWork, tmp_path: Path) -> None:
    staged = files.stage("d/out.csv", "key-1")
    assert staged.tell() == 0
    assert staged.write(b"one,") == 4
    staged.write(b"two")
    assert (staged.tell(), files.list()) == (7, [])
    assert staged.publish() == hashlib.sha256(b"one,two").hexdigest()
    assert (tmp_path / "d/out.csv").read_bytes() == b"one,two"
    staged.discard()
    assert os.listdir(tmp_path / ".holdfast/uploads") == []
    assert files.list() == ["d/out.csv"]


def test_another_attempt_goes_on_under_the_same_key(tmp_path: Path) -> None:
    first = Workspace(LocalStore(tmp_path)).stage("out", "key")
    first.write(b"0123456789")
    again = Workspace(LocalStore(tmp_path)).stage("out", "key")
    assert again.tell() == 10
    again.truncate(4)
    again.write(b"x")
    assert again.publish() == hashlib.sha256(b"0123x").hexdigest()
    other = Workspace(LocalStore(tmp_path)).stage("out", "other key")
    assert other.tell() == 0


def test_a_truncation_past_the_end_is_refused(files: FilesForWork) -> None:
    staged = files.stage("out", "key")
    staged.write(b"abc")
    with pytest.raises(ValueError, match="3 bytes to 4"):
        staged.truncate(4)


def test_it_replaces_what_was_published_before(files: FilesForWork, tmp_path: Path) -> None:
    for number in range(3):
        staged = files.stage("out", f"run-{number}")
        staged.write(b"%d" % number)
        staged.publish()
    assert (tmp_path / "out").read_bytes() == b"2"


class TestAfterPublishing:
    """Work that died between publishing and its last checkpoint runs again from the checkpoint before."""

    @pytest.fixture
    def again(self, tmp_path: Path) -> Callable[[], WorkFile]:
        staged = Workspace(LocalStore(tmp_path)).stage("out", "key")
        staged.write(b"0123456789")
        staged.publish()
        return lambda: Workspace(LocalStore(tmp_path)).stage("out", "key")

    def test_publishing_again_gives_the_same_digest(self, again: Callable[[], WorkFile]) -> None:
        staged = again()
        assert staged.tell() == 10
        staged.truncate(10)
        assert staged.publish() == hashlib.sha256(b"0123456789").hexdigest()

    @pytest.mark.parametrize("size", [0, 4, 10])
    def test_it_goes_on_from_any_earlier_size(self, again: Callable[[], WorkFile], tmp_path: Path, size: int) -> None:
        staged = again()
        staged.truncate(size)
        staged.write(b"xyz")
        assert (tmp_path / "out").read_bytes() == b"0123456789"  # until it is published again
        wanted = b"0123456789"[:size] + b"xyz"
        assert staged.publish() == hashlib.sha256(wanted).hexdigest()
        assert (tmp_path / "out").read_bytes() == wanted

    def test_a_replaced_file_is_not_gone_on_from(self, again: Callable[[], WorkFile], tmp_path: Path) -> None:
        put(LocalStore(tmp_path), "out", b"somebody else's")
        staged = again()
        with pytest.raises(ValueError, match="replaced since"):
            staged.truncate(4)
        with pytest.raises(ValueError, match="10 bytes to 11"):
            staged.truncate(11)
        staged.truncate(0)
        assert staged.tell() == 0


def test_bad_names_are_refused_at_once(files: FilesForWork) -> None:
    for name in ("../x", "", "/x"):
        with pytest.raises(problems.ProblemError):
            files.stage(name, "key")


def test_many_threads_read_and_stage_at_once(files: FilesForWork) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            staged = files.stage(f"f{number}", f"key-{number}")
            for _ in range(50):
                staged.write(b"%d" % number * 100)
            staged.publish()
            with files.open(f"f{number}") as file:
                assert file.read() == b"%d" % number * 5000
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(files.list()) == 8


def test_what_work_drops_keeps_no_descriptor(files: Workspace, tmp_path: Path) -> None:
    def opened() -> list[str]:
        links = [Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
        return [
            found for link in links if (found := os.path.realpath(link)).startswith(f"{tmp_path}/.holdfast/uploads/")
        ]

    staged = files.stage("out", "key")
    staged.write(b"x")
    assert opened()
    del staged
    assert not opened()
    assert files.stage("out", "key").tell() == 1
