"""What a file may be called: pure checks, no disk. The same rules hold on every way in."""

from __future__ import annotations

import re

from tornado_app import problems

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

SEGMENT_BYTES = 255
NAME_BYTES = 1024


def check(name: str) -> str:
    """`name` itself: a relative POSIX path in UTF-8 without anything that hides, escapes or confuses.

    Raises:
        ProblemError: BAD_NAME, saying which rule it breaks.
    """
    reason = flaw(name)
    if reason is not None:
        raise problems.BAD_NAME(f"{name[:200]!r} is not a file name here: {reason}", field="file_name")
    return name


def flaw(name: str) -> str | None:
    """Why `name` can't be a file's name, or None when it can."""
    if not name:
        return "it is empty; give a relative path such as data/flights.csv"
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if len(encoded) > NAME_BYTES:
        return f"it has {len(encoded)} bytes; {NAME_BYTES} are allowed"
    if _CONTROL.search(name):
        return "it has control characters"
    if "\\" in name:
        return "it has a backslash; folders are separated by /"
    if name.startswith("/"):
        return "it is absolute; give a path relative to the files directory"
    for segment in name.split("/"):
        if not segment:
            return "it has an empty segment; a name has no // and no / at the end"
        if segment.startswith("."):
            return f"its segment {segment[:80]!r} starts with a dot"
        if len(segment.encode("utf-8")) > SEGMENT_BYTES:
            return f"a segment has more than {SEGMENT_BYTES} bytes"
    return None
