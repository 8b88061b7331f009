"""Errors of the server as errors of the built-in `open`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast import errors


def os_error(number: int, name: str) -> OSError:
    """Return the `OSError` for a file name."""
    return OSError(number, os.strerror(number), name)


_NUMBERS: list[tuple[type[errors.HoldfastError], int]] = [
    (errors.NotFound, errno.ENOENT),
    (errors.FileExists, errno.EEXIST),
    (errors.Unauthorized, errno.EACCES),
    (errors.Forbidden, errno.EACCES),
    (errors.BadRequest, errno.EINVAL),
    (errors.NoSpace, errno.ENOSPC),
    (errors.TooLarge, errno.EFBIG),
]


@contextmanager
def as_os_errors(name: str) -> Iterator[None]:
    """Translate errors of the server into those of the built-in `open`; the original is the cause."""
    try:
        yield
    except errors.HoldfastError as error:
        for kind, number in _NUMBERS:
            if isinstance(error, kind):
                raise OSError(number, str(error), name) from error
        raise
