"""Output and logging of work, as lines of its log.

In an OS process of its own all that is written to its standard output and error is the work's, be it by Python, by a
library in C or by a program that it starts. In a thread, or on the loop, what Python writes there is told apart by the
context in which it is written; a thread that the work starts by itself has none.
"""

from __future__ import annotations

import codecs
import contextlib
import contextvars
import ctypes
import io
import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

LONGEST = 8192
"""Most characters of a line; a longer one comes in pieces."""

_MOST_AT_ONCE = 64 * 1024
_CHATTY = ("httpx", "httpcore")  # they log every request, with all that is in its URL
_OWN = "holdfast"

Say = Callable[[str], object]
"""Takes a line; may block while there is no room for it."""


class OutputLines:
    """Cuts text into lines. Of one that was written over, as progress bars are, what one would see."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._pending = ""

    def write(self, text: str) -> None:
        """Say the lines that end in it."""
        *lines, last = (self._pending + text).split("\n")
        for line in lines:
            self._pieces(line.rstrip("\r").rpartition("\r")[2])
        cut = last.rstrip("\r").rfind("\r") + 1
        while len(last) - cut > LONGEST:
            self._say(last[cut : cut + LONGEST])
            cut += LONGEST
        self._pending = last[cut:]

    def finish(self) -> None:
        """Say what has no end yet."""
        pending, self._pending = self._pending.rstrip("\r"), ""
        if pending:
            self._pieces(pending.rpartition("\r")[2])

    def _pieces(self, line: str) -> None:
        for at in range(0, max(1, len(line)), LONGEST):
            self._say(line[at : at + LONGEST])


# -- in an OS process of its own


class ProcessOutput:
    """All output of this process and of what it starts, in order."""

    def __init__(self, read: int, write: int, say: Say) -> None:
        """Takes the two ends of a pipe, which becomes standard output and error."""
        self._say = say
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._read = read
        self._raw = OutputLines(self._put)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        os.set_blocking(read, False)
        for fd in (1, 2):
            os.dup2(write, fd)
        os.close(write)
        self._streams = [_Stream(self, fd) for fd in (1, 2)]
        sys.stdout, sys.stderr = self._streams
        sys.__stdout__, sys.__stderr__ = self._streams  # type: ignore[assignment,misc]
        os.register_at_fork(after_in_child=self._forked)
        threading.Thread(target=self._drain_forever, daemon=True).start()

    def say(self, line: str) -> None:
        """Say a line that did not come by the pipe, behind all that was written before."""
        with self._lock:
            self.drain()
            self._say(line)

    def write(self, lines: OutputLines, text: str, fd: int) -> None:
        """Stream for what Python writes."""
        if os.getpid() != self._pid:  # a fork of the work: its memory is not ours
            os.write(fd, text.encode("utf-8", "backslashreplace"))
            return
        with self._lock:
            self.drain()
            lines.write(text)

    def drain(self) -> None:
        """Say what the pipe holds."""
        with self._lock, contextlib.suppress(BlockingIOError):
            while data := os.read(self._read, _MOST_AT_ONCE):
                self._raw.write(self._decode(data))

    def finish(self) -> None:
        """The work is over: say all that is left."""
        with contextlib.suppress(Exception):  # libraries in C keep some of it to themselves until then
            ctypes.CDLL(None).fflush(None)
        with self._lock:
            self.drain()
            for lines in (self._raw, *(stream.lines for stream in self._streams)):
                lines.finish()

    def _put(self, line: str) -> None:
        self._say(line)

    def _drain_forever(self) -> None:
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        while True:
            poll.poll()
            self.drain()

    def _forked(self) -> None:
        self._lock = threading.RLock()


class _Stream(io.TextIOBase):
    """Standard output or error as Python writes to it."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, output: ProcessOutput, fd: int) -> None:
        self._output = output
        self._fd = fd
        self.lines = OutputLines(output._put)
        self.buffer = open(fd, "wb", buffering=0, closefd=False)  # noqa: SIM115 - as long as the process

    def write(self, text: str) -> int:
        self._output.write(self.lines, text, self._fd)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        """Keep what the work prints after it has closed its output."""


def log_in_process(output: ProcessOutput) -> None:
    """Say what is logged in this process, from INFO on, unless the work sees to that itself."""
    root = logging.getLogger()
    handler = _Handler(lambda: output.say)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    configure = logging.basicConfig

    def basic_config(**options: Any) -> None:
        root.removeHandler(handler)  # else it would find that all is configured, and do nothing
        configure(**options)

    logging.basicConfig = basic_config


# -- in a thread, or on the loop


class _Speaker:
    """Who speaks in a context: one attempt."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self._lock = threading.RLock()  # a context is copied for the threads of asyncio.to_thread
        self._streams = {name: OutputLines(say) for name in ("stdout", "stderr")}

    def write(self, stream: str, text: str) -> None:
        with self._lock:
            self._streams[stream].write(text)

    def finish(self) -> None:
        with self._lock:
            for lines in self._streams.values():
                lines.finish()


_speaker: contextvars.ContextVar[_Speaker | None] = contextvars.ContextVar("holdfast_speaker", default=None)


class _Switch:
    """Standard output or error of a server: what work writes goes to its log, all else where it always went."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self._name = name
        self.stream = stream

    def write(self, text: str) -> int:
        speaker = _speaker.get()
        if speaker is None:
            return self.stream.write(text)
        speaker.write(self._name, text)
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def spoken_by(say: Say) -> Iterator[None]:
    """Send what is printed and logged in this context to `say`."""
    for name in ("stdout", "stderr"):
        if not isinstance(getattr(sys, name), (_Switch, type(None))):
            setattr(sys, name, _Switch(name, getattr(sys, name)))
    if _handler not in logging.getLogger().handlers:
        logging.getLogger().addHandler(_handler)
    speaker = _Speaker(say)
    token = _speaker.set(speaker)
    try:
        yield
    finally:
        _speaker.reset(token)
        speaker.finish()


def restore() -> None:
    """Take the switches out again. What goes on speaking is heard where it always was."""
    for name in ("stdout", "stderr"):
        switch = getattr(sys, name)
        if isinstance(switch, _Switch):
            setattr(sys, name, switch.stream)
    logging.getLogger().removeHandler(_handler)


class _Handler(logging.Handler):
    """Says records, but none that another handler writes where we would find it a second time."""

    def __init__(self, say: Callable[[], Say | None]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        say = self._say()
        name = record.name.partition(".")[0]
        if say is None or name == _OWN or (name in _CHATTY and record.levelno < logging.WARNING):
            return
        if not _is_written(record):
            try:
                say(self.format(record))
            except Exception:
                self.handleError(record)


def _is_written(record: logging.LogRecord) -> bool:
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        for handler in logger.handlers:
            stream = getattr(handler, "stream", None)
            if isinstance(stream, (_Stream, _Switch)) and record.levelno >= handler.level:
                return True
        logger = logger.parent if logger.propagate else None
    return False


def _say_of_speaker() -> Say | None:
    speaker = _speaker.get()
    return None if speaker is None else speaker.say


_handler = _Handler(_say_of_speaker)
