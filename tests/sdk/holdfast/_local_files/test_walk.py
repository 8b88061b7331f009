"""Files of a folder that are uploaded, and those that are left out and named."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast._local_files.walk import WalkResult, checked_links, in_one_line, walk
from holdfast.errors import TransferError

PRIVATE = f".holdfast-{'0' * 32}.part"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Everything that a folder can hold."""
    root = tmp_path / "data"
    (root / "in" / "void").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    for name in ("a", ".hidden", "in/b", "in/.zattrs"):
        (root / name).write_text(name)
    (root / PRIVATE).write_text("half")
    (root / "back\\slash").write_text("x")
    (root / "line\nbreak").write_text("x")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).write_text("x")
    for link, target in {
        "to-a": "a",
        "to-in": "in",
        "absolute": str(root / "a"),
        "up": ".",
        "in/parent": "..",
        "broken": "nowhere",
        "circle": "circle",
        "out": "../outside",
        "secret": "../outside/secret",
        "zigzag": "out/../a",
    }.items():
        (root / link).symlink_to(target)
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(root)  # a path to a socket is short
        listener.bind("socket")
        os.chdir(here)
    return root


ALWAYS = {
    PRIVATE: "a download that is not whole",
    "\udcff": "a name that no file of a server can have",
    "pipe": "a pipe",
    "socket": "a socket",
    "in/void/": "an empty folder",
}
ODD = {"back\\slash", "line\nbreak"}  # whether they can be names is the server's to say
CIRCLES = dict.fromkeys(("up", "in/parent", "to-in/parent"), "a link to a folder that it is in")


def test_links_are_followed_inside_the_folder(folder: Path) -> None:
    found = walk(folder, "inside")
    inside = {".hidden", "a", "absolute", "in/.zattrs", "in/b", "to-a", "to-in/.zattrs", "to-in/b"}
    assert set(found.files) == inside | ODD
    outside = "a link that leads out of the folder"
    assert found.left_out == {
        **ALWAYS,
        **CIRCLES,
        "to-in/void/": "an empty folder",
        "broken": "a broken link",
        "circle": "a broken link",
        "out": outside,
        "secret": outside,
        "zigzag": "a broken link",
    }
    assert found.files["a"] == 1


def test_all_are_followed_when_asked(folder: Path) -> None:
    found = walk(folder, "follow")
    assert found.files.keys() >= {"secret", "out/secret", "to-in/b"}
    assert found.left_out.keys() == {*ALWAYS, *CIRCLES, "to-in/void/", "broken", "circle", "zigzag"}


def test_none_is_followed_when_asked(folder: Path) -> None:
    found = walk(folder, "skip")
    assert set(found.files) == {".hidden", "a", "in/.zattrs", "in/b"} | ODD
    assert {name for name, reason in found.left_out.items() if reason == "a link"} == {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink()
    }


def test_any_is_an_error_when_asked(folder: Path) -> None:
    with pytest.raises(TransferError, match="is a link"):
        walk(folder, "error")


def test_there_is_no_other_rule() -> None:
    with pytest.raises(ValueError, match=r"'maybe'\. It must be one of inside, follow, skip, error"):
        checked_links("maybe")


def test_two_links_to_folders_in_each_other_end(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / "root" / one).mkdir(parents=True)
        (tmp_path / "root" / one / "file").write_text("x")
        (tmp_path / "root" / one / "other").symlink_to(f"../{other}")
    found = walk(tmp_path / "root", "inside")
    assert found.files.keys() >= {"a/file", "b/file", "a/other/file", "b/other/file"}
    assert set(found.left_out) == {"a/other/other", "b/other/other"}


def test_a_folder_that_is_a_link_itself_is_looked_through(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert walk(tmp_path / "link", "inside") == walk(folder, "inside")


@pytest.mark.slow
def test_very_deep_folders_are_looked_through(tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        Path("file").write_text("x")
        os.chdir(here)
        found = walk(tmp_path, "inside")
        assert list(found.files) == ["d/" * 1500 + "file"]
        assert found.left_out == {}
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # too deep for Python, and so for pytest


@pytest.fixture
def no_root() -> Iterator[None]:
    """Root may read everything: be another user meanwhile."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    yield
    os.seteuid(was)


def test_what_can_not_be_read_is_an_error(no_root: None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "closed").mkdir(mode=0)
        with pytest.raises(PermissionError):
            walk(Path(folder), "inside")


def test_an_empty_folder_is_named_itself(tmp_path: Path) -> None:
    assert walk(tmp_path, "inside") == WalkResult({}, {"./": "an empty folder"})


def test_one_line_counts_and_names() -> None:
    names = [(f"p{number}", "a pipe") for number in range(7)]
    line = in_one_line([*names, ("v/", "an empty folder"), ("\x1b[31m\n", "a broken link")])
    assert line == (
        "left out 9: 7 pipes (p0, p1, p2, p3, p4 and 2 more); 1 empty folder (v/); 1 broken link (\\x1b[31m\\n)"
    )
