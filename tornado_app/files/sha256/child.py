"""Program that computes SHA-256 digests in a process of its own; run by its path, with the standard library alone.

A process, because a thread shares the interpreter's lock with the event loop: one of idle priority that holds the lock
while other programs use the processor holds up the loop for as long.

The channel is its standard input, a Unix socket. A request names a file by a number of the caller's; its first request
carries the descriptor. Each request but one of no bytes gets a reply. At the end of the channel the program ends.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import sys

REQUEST = struct.Struct("!QQ")
"""Number of a file, and how many bytes of it to read on; 0 to forget the file."""

REPLY = struct.Struct("!BQ32s")
"""`MORE`, `WHOLE` or `FAILED`; the offset that was reached, or the errno; the digest of a whole file."""

MORE, WHOLE, FAILED = 0, 1, 2
IDLE = "idle"
_PIECE = 1 << 20
_NOTHING = bytes(32)


class HashedFile:
    """An open file, read so far to `offset`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.offset = 0
        self.sha256 = hashlib.sha256()

    def read_on(self, count: int, buffer: bytearray) -> tuple[int, int, bytes]:
        """Read about `count` bytes more, and return the reply."""
        view = memoryview(buffer)
        end = self.offset + count
        try:
            while self.offset < end:
                size = os.preadv(self.fd, [buffer], self.offset)
                if not size:
                    return WHOLE, self.offset, self.sha256.digest()
                self.sha256.update(view[:size])
                self.offset += size
        except OSError as error:
            return FAILED, error.errno or 0, _NOTHING
        return MORE, self.offset, _NOTHING


def serve(channel: socket.socket) -> None:
    """Answer requests until the channel ends."""
    files: dict[int, HashedFile] = {}
    buffer = bytearray(_PIECE)
    while True:
        request, fds, _, _ = socket.recv_fds(channel, REQUEST.size, 1, socket.MSG_WAITALL)
        if len(request) < REQUEST.size:
            return
        number, count = REQUEST.unpack(request)
        if fds:
            files[number] = HashedFile(fds[0])
        if count:
            channel.sendall(REPLY.pack(*files[number].read_on(count, buffer)))
        elif number in files:
            os.close(files.pop(number).fd)


def lower_priority() -> None:
    """Run only while nothing else wants the processor, where the system has such a class; else last of all."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):
        os.nice(19)


def main() -> None:
    """Serve the channel on standard input."""
    if sys.argv[1:] == [IDLE]:
        lower_priority()
    with socket.socket(fileno=os.dup(0)) as channel:
        try:
            serve(channel)
        except ConnectionError:
            pass  # the server has gone


if __name__ == "__main__":
    main()
