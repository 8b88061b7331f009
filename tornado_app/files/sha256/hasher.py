"""Hashing of open files by pieces: in a child process where the store has descriptors, else in a worker thread."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from tornado_app.files.sha256 import child
from tornado_app.files.store.interface import FileReader
from tornado_app.files.store.optional_powers import HasDescriptor

STEP = 16 << 20
"""Bytes that are hashed between two decisions about what comes next: 40 ms on a processor without SHA instructions."""

_PIECE = 1 << 20
_numbers = itertools.count(1)


class RunInThread(Protocol):
    """Calls a blocking function in a worker thread."""

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Awaitable[Any]: ...


class HasherFailedError(Exception):
    """The child process could not be started, or has ended: what it had read has to be read again."""


class FileInHand:
    """One version of a file on its way through a hasher, with `offset` bytes behind it; `close` it after use."""

    def __init__(self, reader: FileReader) -> None:
        self.reader = reader
        self.number = next(_numbers)
        self.offset = 0
        self.sha256 = hashlib.sha256()  # for the worker thread; the child has its own
        self.hasher: Hasher | None = None
        self.channel: socket.socket | None = None  # of the child that has it open

    async def close(self, run: RunInThread) -> None:
        """Release the file here and in the child; the last to close a removed file waits for the disk."""
        if self.hasher is not None:
            self.hasher.forget(self)
        await run(self.reader.close)


class Hasher:
    """One child process, started when it is needed and ended by `close`; one step at a time."""

    def __init__(self, run: RunInThread, *, idle: bool) -> None:
        """`idle`: the child gets the processor only while nothing else wants it."""
        self._run = run
        self._idle = idle
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id of the child; None while there is none."""
        return None if self._process is None else self._process.pid

    async def step(self, file: FileInHand, count: int = STEP) -> str | None:
        """Hash about `count` bytes more; return the digest as hex once all is read, else None.

        Raises:
            OSError: the file can't be read.
            HasherFailedError: there is no child; the file has to begin again, as a new `FileInHand`.
        """
        if not isinstance(file.reader, HasDescriptor):
            found: str | None = await self._run(_hash_here, file, count)
            return found
        try:
            state, offset, digest = await self._ask(file, file.reader.fileno(), count)
        except OSError as error:
            await self.close()
            raise HasherFailedError(str(error)) from error
        if state == child.FAILED:
            raise OSError(offset, os.strerror(offset))
        file.offset = offset
        return digest.hex() if state == child.WHOLE else None

    async def _ask(self, file: FileInHand, fd: int, count: int) -> tuple[int, int, bytes]:
        if self._channel is None:
            self._process, self._channel = await self._run(_start, self._idle)
        channel, request = self._channel, child.REQUEST.pack(file.number, count)
        # A few bytes into an empty socket: this never blocks.
        if file.channel is None:
            socket.send_fds(channel, [request], [fd])
            file.hasher, file.channel = self, channel
        elif file.channel is not channel:
            raise ConnectionError("it has ended meanwhile")
        else:
            channel.send(request)
        reply = b""
        while len(reply) < child.REPLY.size:
            part = await asyncio.get_running_loop().sock_recv(channel, child.REPLY.size - len(reply))
            if not part:
                raise ConnectionError("it has ended")
            reply += part
        state, offset, digest = child.REPLY.unpack(reply)
        return state, offset, digest

    def forget(self, file: FileInHand) -> None:
        """Let the child close a file."""
        if self._channel is not None and file.channel is self._channel:
            with contextlib.suppress(OSError):  # it has ended, and the next step says so
                self._channel.send(child.REQUEST.pack(file.number, 0))
        file.hasher = file.channel = None

    def abort(self) -> None:
        """End a step that is under way: it raises `HasherFailedError`."""
        if self._channel is not None:
            with contextlib.suppress(OSError):  # it has ended
                self._channel.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """End the child, between two steps. May be called twice."""
        process, self._process = self._process, None
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        if process is not None:
            await self._run(_end, process)


def _hash_here(file: FileInHand, count: int) -> str | None:
    end = file.offset + count
    while file.offset < end:
        piece = file.reader.read(file.offset, _PIECE)
        if not piece:
            return file.sha256.hexdigest()
        file.sha256.update(piece)
        file.offset += len(piece)
    return None


def _start(idle: bool) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the child and return it with our end of its channel. Raises `OSError`."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            # -I -S: it needs nothing that is installed. A session of its own: Ctrl-C at the terminal is the server's.
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", child.__file__, *([child.IDLE] if idle else [])],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        ours.setblocking(False)
    except BaseException:
        ours.close()
        raise
    return process, ours


_END_S = 5.0  # an idle process of a busy machine needs the processor once more, to end


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):  # it reads from a disk that does not answer
        process.wait(_END_S)
