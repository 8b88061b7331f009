"""What the journal keeps of a checkpoint or a result: JSON, without NaN and infinity (RFC 8259, section 6)."""

from __future__ import annotations

import math
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def as_json(value: Any) -> bytes:
    """A value as JSON that reads back as what it was. Raises `ValueError`, saying why, for what is none."""
    try:
        encoded = _encode(value)
        lost = _not_finite(msgspec.to_builtins(value)) if b"null" in encoded else None  # what msgspec makes of NaN
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if lost is not None:
        raise ValueError(f"{lost} is no number of JSON: give None or a text in its place")
    return encoded


def _not_finite(value: Any) -> float | None:
    """The first number in it that is not finite."""
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
