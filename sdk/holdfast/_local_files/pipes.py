"""Streams that can be read only once: pipes, FIFOs, devices, by path or as standard input. Blocks."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator

PIECE = 1 << 20
_POLL_INTERVAL = 200  # milliseconds between checks whether the reader was interrupted


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Return whether `path` is a stream that can be read only once. Raises `OSError` if there is nothing."""
    mode = os.stat(path).st_mode
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def is_of_this_process(path: str | os.PathLike[str]) -> bool:
    """Return whether a path names something that only this process has open, as `/dev/stdin` and `<(...)` do."""
    return os.fspath(path).startswith(("/dev/", "/proc/"))


class PipeReader:
    """Reads a descriptor until its end. A read that waits for bytes can be interrupted from any thread."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._interrupted = False

    def read(self, size: int = PIECE) -> bytes:
        """Return available bytes, at most `size`; none at the end. Raises `InterruptedError` after `interrupt`."""
        poll = select.poll()
        # A FIFO hangs up only after a writer has opened it: until then this waits, as a blocking open would.
        poll.register(self._number, select.POLLIN)
        while not self._interrupted:
            if poll.poll(_POLL_INTERVAL):
                return os.read(self._number, size)
        raise InterruptedError("reading was interrupted")

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the bytes until the end."""
        while piece := self.read():
            yield piece

    def interrupt(self) -> None:
        """Make `read` raise `InterruptedError`."""
        self._interrupted = True


def pieces_of(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Iterate over the bytes of a stream at `path`, which is opened by the first step."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield from PipeReader(number).pieces()
    finally:
        os.close(number)
