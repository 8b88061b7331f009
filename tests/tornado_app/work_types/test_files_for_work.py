"""The files as work sees them: the server's and those of the test kit keep the same promises."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.work import FilesForWork, WorkError
from holdfast.work.testing import MemoryFiles
from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.workspace import Workspace

Make = Callable[[], FilesForWork]


@pytest.fixture(params=["server", "test kit"])
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """The same files, as a later attempt (of a server that was started anew) sees them."""
    (tmp_path / "files").mkdir()
    memory = MemoryFiles()
    return lambda: memory if request.param == "test kit" else Workspace(LocalStore(tmp_path / "files"))


@pytest.fixture
def files(again: Make) -> FilesForWork:
    return again()


def test_what_is_staged_is_invisible_until_it_is_published(files: FilesForWork) -> None:
    staged = files.stage("a/b.txt", "key")
    assert staged.tell() == 0
    assert staged.write(b"hello") == 5
    assert staged.tell() == 5
    assert files.list() == []
    with pytest.raises(FileNotFoundError):
        files.open("a/b.txt")
    digest = hashlib.sha256(b"hello").hexdigest()
    assert staged.sha256() == digest
    assert staged.publish() == digest
    assert files.list() == ["a/b.txt"]
    assert files.list("a/") == ["a/b.txt"]
    assert files.list("b") == []
    assert files.size("a/b.txt") == 5
    with files.open("a/b.txt") as file:
        assert file.read() == b"hello"
        assert file.seek(1) == 1
        assert file.read(2) == b"el"


def test_a_later_attempt_finds_what_was_staged_under_its_key(again: Make) -> None:
    again().stage("f", "key").write(b"hello")
    staged = again().stage("f", "key")
    assert staged.tell() == 5
    staged.truncate(2)
    staged.write(b"y")
    assert again().stage("f", "key").sha256() == hashlib.sha256(b"hey").hexdigest()
    assert again().stage("f", "other").tell() == 0


def test_publishing_again_does_no_harm(again: Make) -> None:
    staged = again().stage("f", "key")
    staged.write(b"hello")
    digest = staged.publish()
    later = again().stage("f", "key")
    assert later.tell() == 5
    later.truncate(5)
    assert later.publish() == digest
    with again().open("f") as file:
        assert file.read() == b"hello"


def test_what_was_published_can_be_gone_on_from(again: Make) -> None:
    staged = again().stage("f", "key")
    staged.write(b"hello")
    staged.publish()
    later = again().stage("f", "key")
    later.truncate(4)
    with again().open("f") as file:
        assert file.read() == b"hello", "what is published stays until something else is"
    later.write(b"-fire")
    later.publish()
    with again().open("f") as file:
        assert file.read() == b"hell-fire"


def test_an_older_file_stays_when_what_was_staged_is_discarded(again: Make) -> None:
    first = again().stage("f", "first")
    first.write(b"old")
    first.publish()
    second = again().stage("f", "second")
    second.write(b"new")
    second.discard()
    again().stage("f", "second").discard()
    assert again().stage("f", "second").tell() == 0
    with again().open("f") as file:
        assert file.read() == b"old"


def test_more_than_is_there_can_not_be_cut_to(files: FilesForWork) -> None:
    staged = files.stage("f", "key")
    staged.write(b"abc")
    with pytest.raises(ValueError, match="can't cut 3 bytes to 4"):
        staged.truncate(4)
    assert staged.tell() == 3


def test_what_the_disk_keeps_free_stays_free(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    files = Workspace(LocalStore(tmp_path / "files"), reserve=1 << 60)
    for write in (lambda: files.stage("f", "key").write(b"x"), lambda: files.stage("f", "key").reserve(0)):
        with pytest.raises(WorkError, match=r"f needs \d bytes more, .* \(--reserve-space\)\. Make room, then resume"):
            write()
    assert files.of("other").stage("f", "key").tell() == 0
    with pytest.raises(WorkError, match="--reserve-space"):
        pickle.loads(pickle.dumps(files)).stage("f", "key").write(b"x")


def test_the_free_space_is_looked_at_again_while_it_is_written(tmp_path: Path) -> None:
    """Bytes that others write meanwhile count, too, and many small pieces cost few checks."""
    (tmp_path / "files").mkdir()
    store = LocalStore(tmp_path / "files")
    free, looks = 100 << 20, 0

    def space() -> int:
        nonlocal looks
        looks += 1
        return free

    store.free_space = space  # type: ignore[method-assign]
    staged = Workspace(store, reserve=50 << 20).stage("f", "key")

    def write() -> None:
        for _ in range(1000):
            staged.write(b"x" * 10_000)

    write()
    assert looks < 10
    free = 50 << 20
    with pytest.raises(WorkError, match="--reserve-space"):
        write()
    assert staged.tell() < 20_000_000
