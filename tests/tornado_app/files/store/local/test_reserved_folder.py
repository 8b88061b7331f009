"""The server's own folder in the files directory, and directories of earlier versions."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from tests.support.store_conformance import content, put, sha256
from tornado_app import problems
from tornado_app.files.store.interface import FileStore
from tornado_app.files.store.local import reserved_folder
from tornado_app.files.store.local.published import LocalStore
from tornado_app.settings import Settings, SettingsError

ROOT = [".holdfast", "a"]


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A files directory as an earlier version left it: a file with its digest, and an upload in the making."""
    store = LocalStore(tmp_path)
    put(store, "a", b"published")
    store.create("up", b"info").write([b"in the making"])
    store.close()
    for name in ("uploads", "digests"):
        (tmp_path / ".holdfast" / name).rename(tmp_path / f".{name}")
    shutil.rmtree(tmp_path / ".holdfast")
    return tmp_path


def assert_all_is_there(root: Path) -> None:
    store: FileStore = LocalStore(root)
    try:
        assert sorted(os.listdir(root)) == ROOT
        assert store.load("up").read(0, 99) == b"in the making"
        assert content(store, "a") == b"published"
        assert store.stat("a").sha256 == sha256(b"published")
    finally:
        store.close()


def test_the_folders_of_an_earlier_version_move_in(before: Path) -> None:
    assert_all_is_there(before)
    assert_all_is_there(before)


@pytest.mark.parametrize("step", [1, 2])
def test_a_move_that_was_cut_off_is_gone_on_with(before: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    rename, done = os.rename, []

    def dies(*args: object, **kwargs: object) -> None:
        done.append(args)
        if len(done) == step:
            raise KeyboardInterrupt
        rename(*args, **kwargs)  # type: ignore[arg-type, call-overload]

    with monkeypatch.context() as patched:
        patched.setattr(reserved_folder.os, "rename", dies)
        with pytest.raises(KeyboardInterrupt):
            LocalStore(before)
    assert len(done) == step
    assert_all_is_there(before)


def test_folders_that_a_running_server_uses_stay_where_they_are(before: Path) -> None:
    fd = os.open(before / ".uploads", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="another server"):
            LocalStore(before)
        assert (before / ".uploads/up/data").exists()
    finally:
        os.close(fd)
    assert_all_is_there(before)


def test_folders_of_a_user_by_the_old_names_are_files_like_any_other(tmp_path: Path) -> None:
    (tmp_path / ".uploads").mkdir()
    (tmp_path / ".uploads/mine").write_text("mine")
    for _ in range(2):
        store = LocalStore(tmp_path)
        put(store, ".digests/too", b"mine, too")
        store.start()
        assert [found.name for found in store.listing()] == [".digests/too", ".uploads/mine"]
        store.close()


@pytest.mark.parametrize("taken", ["file", "link"])
def test_a_name_that_is_taken_is_told(tmp_path: Path, taken: str) -> None:
    if taken == "file":
        (tmp_path / ".holdfast").write_text("")
    else:
        (tmp_path / ".holdfast").symlink_to(tmp_path)
    with pytest.raises(OSError, match=r"\.holdfast is not a folder\. Move it away"):
        LocalStore(tmp_path)


def test_nobody_else_may_look_into_it(tmp_path: Path) -> None:
    LocalStore(tmp_path).close()
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in (".holdfast", ".holdfast/uploads")] == [0o700] * 2


@pytest.mark.parametrize("place", [".", "data", ".data", "deep/er", "../files/x"])
def test_the_servers_own_state_is_not_published(tmp_path: Path, place: str) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / ".token").write_text("secret")
    with pytest.raises(SettingsError, match=r"--data-dir .* lies in --files-dir"):
        reserved_folder.check_places(Settings(files_dir=files, data_dir=files / place))
    with pytest.raises(SettingsError, match=r"--token-file .* lies in --files-dir"):
        reserved_folder.check_places(Settings(files_dir=files, data_dir=tmp_path / "data", token_file=files / ".token"))
    reserved_folder.check_places(Settings(files_dir=files, data_dir=files / ".holdfast"))
    reserved_folder.check_places(Settings(files_dir=files, data_dir=tmp_path))


def test_state_under_the_reserved_folder_can_not_be_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / ".holdfast/journal.sqlite").write_text("state")
    with pytest.raises(problems.ProblemError) as caught:
        store.open(".holdfast/journal.sqlite")
    assert caught.value.kind is problems.NO_SUCH_FILE
    assert store.listing() == []
    store.close()
