"""Tracebacks of work for its author: without the lines of the server and the SDK."""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path

import holdfast.work

_SERVER = str(Path(__file__).parents[2]) + "/"
_WORK_TYPES = f"{_SERVER}work_types/"
_INSTALLED = ("<frozen ", *(f"{path}/" for path in sysconfig.get_paths().values()))
_SDK = str(Path(holdfast.work.__file__).parents[1]) + "/"


def format_error(error: BaseException) -> str:
    """Return the traceback of an error and its causes, without the lines of the server and the SDK."""
    trace = traceback.TracebackException.from_exception(error)
    _leave_out_ours(trace, set())
    return "".join(trace.format())


def location_of(error: BaseException) -> str:
    """Return the last line of the work's own code in a traceback as "FILE:LINE"; "" when there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _is_ours(frame.filename) and not frame.filename.startswith(_INSTALLED)]
    return f"{theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""


def remember(sources: Mapping[str, Mapping[int, str]]) -> None:
    """Keep source lines, by file name and first line number, for code that was sent without its files."""
    for name, texts in sources.items():
        known: dict[int, str] = {}
        for first, text in texts.items():
            known |= dict(enumerate(text.splitlines(keepends=True), first))
        lines = [known.get(number, "\n") for number in range(1, max(known, default=0) + 1)]
        linecache.cache[name] = (sum(map(len, lines)), None, lines, name)


def _leave_out_ours(trace: traceback.TracebackException, seen: set[int]) -> None:
    if id(trace) in seen:
        return
    seen.add(id(trace))
    if trace.stack is not None:
        trace.stack[:] = [frame for frame in trace.stack if not _is_ours(frame.filename)]
    for other in (trace.__cause__, trace.__context__, *(trace.exceptions or ())):
        if other is not None:
            _leave_out_ours(other, seen)


def _is_ours(filename: str) -> bool:
    """Return whether a file belongs to the server or the SDK. Its work types do not count: they are work."""
    return filename.startswith((_SERVER, _SDK)) and not filename.startswith(_WORK_TYPES)
