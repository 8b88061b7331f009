"""Which files of a folder go up, and what is left out and why. It blocks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from holdfast._local_files.part_file import is_private
from holdfast.errors import TransferError

Links = Literal["inside", "follow", "skip", "error"]
"""Symbolic links: followed where they lead to something inside the folder, always, never; or any is an error."""

SHOWN = 5  # names of each kind in one line
NO_NAME = "a name that no file of a server can have"

_PLURALS = {
    "a broken link": "broken links",
    "a link": "links",
    "a link that leads out of the folder": "links that lead out of the folder",
    "a link to a folder that it is in": "links to folders that they are in",
    "a pipe": "pipes",
    "a socket": "sockets",
    "a device": "devices",
    "an empty folder": "empty folders",
    NO_NAME: "names that no file of a server can have",
    "a download that is not whole": "downloads that are not whole",
}


def checked_links(links: str) -> Links:
    """The rule of that name. Raises `ValueError`."""
    for known in get_args(Links):
        if links == known:
            return known  # type: ignore[no-any-return]
    raise ValueError(f"links is one of {', '.join(get_args(Links))}, not {links!r}")


@dataclass
class FoundFile:
    """Sizes of the files by their names below the folder, and reasons by the names of what is left out."""

    files: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def walk(folder: Path, links: Links) -> FoundFile:
    """Look through a folder. Hidden files are files like any other.

    Raises:
        OSError: the folder, or one in it, can't be read.
        TransferError: there is a link, and links are an error.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    found = FoundFile()
    root = os.path.realpath(folder)
    status = os.stat(root)
    waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(root, "", ((status.st_dev, status.st_ino),))]
    while waiting:
        path, prefix, above = waiting.pop()
        with os.scandir(path) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        if not listed:
            found.left_out[prefix or "./"] = "an empty folder"
        for entry in listed:
            name = prefix + entry.name
            if entry.is_symlink():
                status_or_reason = _follow(entry, links, root)
                if isinstance(status_or_reason, str):
                    found.left_out[name] = status_or_reason
                    continue
                status = status_or_reason
            else:
                status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                itself = status.st_dev, status.st_ino
                if itself in above:
                    found.left_out[name] = "a link to a folder that it is in"
                else:
                    waiting.append((entry.path, name + "/", (*above, itself)))
            elif reason := _reason(entry.name, status):
                found.left_out[name] = reason
            else:
                found.files[name] = status.st_size
    return FoundFile(dict(sorted(found.files.items())), dict(sorted(found.left_out.items())))


def _follow(entry: os.DirEntry[str], links: Links, root: str) -> os.stat_result | str:
    """The status of what a link leads to, or why the link is left out."""
    if links == "error":
        raise TransferError(f'{entry.path} is a link, and links="error" allows none')
    if links == "skip":
        return "a link"
    try:
        status = os.stat(entry.path)
    except OSError:
        return "a broken link"
    if links == "inside" and not Path(os.path.realpath(entry.path)).is_relative_to(root):
        return "a link that leads out of the folder"
    return status


def _reason(name: str, status: os.stat_result) -> str:
    """Why something that is no folder is left out; empty when it goes along."""
    if stat.S_ISFIFO(status.st_mode):
        return "a pipe"
    if stat.S_ISSOCK(status.st_mode):
        return "a socket"
    if not stat.S_ISREG(status.st_mode):
        return "a device"
    if is_private(name):
        return "a download that is not whole"
    try:
        name.encode()
    except UnicodeEncodeError:
        return NO_NAME
    return ""  # whether the server takes the name is the server's to say


def in_one_line(left_out: Iterable[tuple[str, str]]) -> str:
    """Counts and names of what is left out, for people: names by their reasons."""
    kinds: dict[str, list[str]] = {}
    for name, reason in left_out:
        kinds.setdefault(reason, []).append(name if name.isprintable() else ascii(name)[1:-1])
    told = []
    for reason, names in kinds.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        what = f"1 {reason.partition(' ')[2]}" if len(names) == 1 else f"{len(names)} {_PLURALS.get(reason, reason)}"
        told.append(f"{what} ({', '.join(names[:SHOWN])}{more})")
    return f"left out {sum(map(len, kinds.values()))}: {'; '.join(told)}"
