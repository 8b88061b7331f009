"""Checkpoints and results as JSON, without NaN and infinity (RFC 8259, section 6)."""

from __future__ import annotations

import linecache
import math
from collections.abc import Iterator
from types import FrameType
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_LONGEST_PATH = 200
_LONGEST_SOURCE = 160


class NotJson(ValueError):
    """A value can't be JSON. `path` leads to the part that can't, in Python's syntax."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


def as_json(value: Any, name: str = "value") -> bytes:
    """Return a value as JSON without loss. Raises `NotJson`, whose path begins with `name`."""
    try:
        encoded = _encode(value)
        lost = _not_finite(msgspec.to_builtins(value)) if b"null" in encoded else None  # msgspec encodes NaN as null
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise NotJson(str(error), _path(value, name)) from error
    if lost is not None:
        raise NotJson(f"{lost} is not a JSON number. Use None or a string instead", _path(value, name))
    return encoded


def fits(encoded: bytes, type: Any) -> str | None:
    """Return why JSON does not fit a type; None if it does."""
    try:
        msgspec.json.decode(encoded, type=type)
    except msgspec.ValidationError as error:
        return str(error)
    return None


def line_of(generator: Any, finished: FrameType | None = None) -> str:
    """Return the current line of a generator, or of the innermost one that it delegates to, as "FILE:LINE".

    After the end it is the line that returned. The text of the line follows for a notebook cell. "" if it is not known.
    """
    frame = finished
    while generator is not None:
        inner = getattr(generator, "gi_frame", None) or getattr(generator, "ag_frame", None)
        if inner is None:
            break
        frame = inner
        generator = getattr(generator, "gi_yieldfrom", None)
    if frame is None:
        return ""
    name, line = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(name, line).strip() if name in linecache.cache and not name.endswith(".py") else ""
    return f"{name}:{line}" + (f" ({text[:_LONGEST_SOURCE]})" if text else "")


def _not_finite(value: Any) -> float | None:
    """Return the first number in a value that is not finite."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return item
        elif isinstance(item, dict):
            left += item.values()
        elif isinstance(item, (list, tuple)):
            left += item
    return None


def _path(value: Any, name: str) -> str:
    """Return the path to the first part of a value that can't be JSON."""
    left: list[tuple[str, Any, tuple[int, ...]]] = [(name, value, ())]
    while left:
        path, item, above = left.pop()
        if id(item) in above:  # it contains itself
            return _short(path)
        inside = list(_inside(path, item))
        if not inside and not _is_json(item):
            return _short(path)
        left += [(longer, part, (*above, id(item))) for longer, part in reversed(inside)]
        for key in item if isinstance(item, dict) else ():
            if not _is_json({key: None}):
                return _short(f"{path}[{key!r}]")
    return name


def _inside(path: str, item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, dict):
        yield from ((f"{path}[{key!r}]", part) for key, part in item.items())
    elif isinstance(item, (list, tuple)):
        yield from ((f"{path}[{at}]", part) for at, part in enumerate(item))
    elif isinstance(item, (set, frozenset)):
        yield from ((path, part) for part in item)
    else:
        fields: Any = getattr(item, "__struct_fields__", ()) or getattr(item, "__dataclass_fields__", ())
        if not isinstance(item, type):
            yield from ((f"{path}.{field}", getattr(item, field)) for field in fields if hasattr(item, field))


def _is_json(value: Any) -> bool:
    try:
        return not (isinstance(value, float) and not math.isfinite(value)) and bool(_encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False


def _short(path: str) -> str:
    return path if len(path) <= _LONGEST_PATH else f"{path[: _LONGEST_PATH // 2]}...{path[-_LONGEST_PATH // 2 :]}"
