"""Files of a folder to upload, and what is left out, with reasons. Blocks."""

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
"""Rule for symbolic links: follow those that stay inside the folder, follow all, skip all, or raise an error."""

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
    """Return a valid rule. Raises `ValueError`."""
    for known in get_args(Links):
        if links == known:
            return known  # type: ignore[no-any-return]
    raise ValueError(f"links is {links!r}. It must be one of {', '.join(get_args(Links))}")


@dataclass
class WalkResult:
    """Result of `walk`: sizes by file name below the folder, and reasons by the name of what is left out."""

    files: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def walk(folder: Path, links: Links) -> WalkResult:
    """List the files below a folder. Hidden files are included.

    Raises:
        OSError: the folder, or one in it, can't be read.
        TransferError: there is a link, and `links` is "error".
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    found = WalkResult()
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
    return WalkResult(dict(sorted(found.files.items())), dict(sorted(found.left_out.items())))


def _follow(entry: os.DirEntry[str], links: Links, root: str) -> os.stat_result | str:
    """Return the status of the target of a link, or the reason to leave the link out."""
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
    """Return the reason to leave out an entry that is no folder; "" if it is included."""
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
    return ""  # the server decides which names it accepts


def in_one_line(left_out: Iterable[tuple[str, str]]) -> str:
    """Return counts and names of what is left out, by reason, as one line for people."""
    kinds: dict[str, list[str]] = {}
    for name, reason in left_out:
        kinds.setdefault(reason, []).append(name if name.isprintable() else ascii(name)[1:-1])
    parts = []
    for reason, names in kinds.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        what = f"1 {reason.partition(' ')[2]}" if len(names) == 1 else f"{len(names)} {_PLURALS.get(reason, reason)}"
        parts.append(f"{what} ({', '.join(names[:SHOWN])}{more})")
    return f"left out {sum(map(len, kinds.values()))}: {'; '.join(parts)}"
