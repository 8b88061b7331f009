"""Sources that can be read only once: pipes, FIFOs, devices, by a path or as the standard input. All of it blocks."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator

PIECE = 1 << 20
_EVERY = 200  # milliseconds between looks at whether reading was given up


def comes_once(path: str | os.PathLike[str]) -> bool:
    """Whether there is something at `path` that can be read once alone. Raises `OSError` where there is nothing."""
    mode = os.stat(path).st_mode
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def is_of_this_process(path: str | os.PathLike[str]) -> bool:
    """Whether a path means what this process has open, as `/dev/stdin` and `<(...)` do; in another it is another."""
    return os.fspath(path).startswith(("/dev/", "/proc/"))


class PipeReader:
    """Reads a descriptor until its end; a reader that waits for more can be told to give up, from any thread."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._given_up = False

    def read(self, size: int = PIECE) -> bytes:
        """Return the bytes that are there, at most `size`; none at the end. Raises `InterruptedError` once given up."""
        poll = select.poll()
        # A FIFO hangs up only after somebody has written into it: until then this waits for that, as opening would.
        poll.register(self._number, select.POLLIN)
        while not self._given_up:
            if poll.poll(_EVERY):
                return os.read(self._number, size)
        raise InterruptedError("reading was given up")

    def pieces(self) -> Iterator[bytes]:
        """All that comes."""
        while piece := self.read():
            yield piece

    def give_up(self) -> None:
        """Let whoever reads stop waiting."""
        self._given_up = True


def pieces_of(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """All that comes at `path`, opened when the first piece is asked for."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield from PipeReader(number).pieces()
    finally:
        os.close(number)
