"""Links are followed inside of the files directory and nowhere else, and only regular files are opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.support.store_conformance import content, put, refused
from tornado_app import problems
from tornado_app.files.store.interface import ABSENT
from tornado_app.files.store.local.published import LocalStore


def test_a_link_that_stays_inside_is_followed(root: Path, store: LocalStore) -> None:
    (root / "real/deep").mkdir(parents=True)
    (root / "real/deep/data").write_text("data")
    (root / "file").symlink_to("real/deep/data")
    (root / "folder").symlink_to(root / "real")
    (root / "real/up").symlink_to("../real/deep/../deep")
    (root / "chain").symlink_to("folder/up/data")
    (root / "self").symlink_to(root)
    for name in ("file", "folder/deep/data", "real/up/data", "chain", "self/file", "self/self/chain"):
        assert content(store, name) == b"data", name


def test_a_link_that_leaves_is_refused_even_if_it_comes_back(root: Path, store: LocalStore) -> None:
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


def test_links_to_hidden_places_and_endless_links_are_refused(root: Path, store: LocalStore) -> None:
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


def test_replacing_and_deleting_a_link_leave_its_target_alone(root: Path, store: LocalStore) -> None:
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


def test_a_link_to_a_folder_is_not_listed_and_not_replaced_by_a_file(root: Path, store: LocalStore) -> None:
    put(store, "real/a", b"")
    (root / "link").symlink_to("real")
    for call in (lambda: store.check_target("link"), lambda: put(store, "link", b""), lambda: store.delete("link")):
        assert "is a folder" in refused(call).detail
    (root / "file").symlink_to("real/a")
    assert [found.name for found in store.listing()] == ["file", "real/a"]


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder"])
def test_what_is_no_file_is_refused_without_waiting(root: Path, store: LocalStore, kind: str) -> None:
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
