"""Bounds of pages in bytes: however many rows are asked for, a page stays small enough to be read at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

PAGE_BYTES = 4 << 20
"""Bytes of rows after which a page ends. A page holds one row at least."""


def as_many_as_fit(items: Iterable[T], size: Callable[[T], int]) -> Iterator[T]:
    """Items up to the one with which they have `PAGE_BYTES` together."""
    together = 0
    for item in items:
        yield item
        together += size(item)
        if together > PAGE_BYTES:
            return


def is_full(items: Iterable[T], size: Callable[[T], int]) -> bool:
    """Return whether a page ends with these, so that more may follow."""
    return sum(map(size, items)) > PAGE_BYTES
