"""Files are opened at once only as they would be otherwise: inside, regular, and without a link."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tornado_app.files.store import page_cache
from tornado_app.files.store.local.cached_open import CachedOpener

NAMES = ["a", "folder/b", "folder"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "root" / "folder").mkdir(parents=True)
    (tmp_path / "root" / "a").write_bytes(b"1")
    (tmp_path / "root" / "folder" / "b").write_bytes(b"2")
    (tmp_path / "outside").write_bytes(b"3")
    (tmp_path / "root" / "link").symlink_to("a")
    (tmp_path / "root" / "out").symlink_to("../outside")
    (tmp_path / "root" / "way").symlink_to("folder")
    return tmp_path / "root"


@pytest.fixture
def opener(folder: Path) -> Iterator[CachedOpener]:
    fd = os.open(folder, os.O_RDONLY)
    yield CachedOpener(fd)
    os.close(fd)


@pytest.mark.skipif(sys.platform != "linux", reason="openat2 is of Linux")
def test_what_is_in_memory_is_opened(opener: CachedOpener, folder: Path) -> None:
    if page_cache.file_system(os.stat(folder).st_dev) not in ("ext4", "xfs", "btrfs", "tmpfs"):
        pytest.skip("the folder for tests is on a file system that might wait")
    for name, content in (("a", b"1"), ("folder/b", b"2")):
        fd = opener.open(name)
        assert fd is not None
        assert os.read(fd, 9) == content
        assert not os.get_inheritable(fd)
        os.close(fd)


@pytest.mark.parametrize(
    "name", ["none", "link", "out", "way/b", "../outside", "/etc/passwd", "folder/../../outside", "", "a/b", "\udcff"]
)
def test_nothing_else_is(opener: CachedOpener, name: str) -> None:
    assert opener.open(name) is None


def test_nothing_is_opened_on_a_file_system_that_might_wait(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_cache, "file_system", lambda device: "nfs4")
    fd = os.open(folder, os.O_RDONLY)
    try:
        assert CachedOpener(fd).open("a") is None
    finally:
        os.close(fd)
