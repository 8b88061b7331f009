"""Capture of what work prints and logs, as lines of its log.

In an OS process of its own everything that is written to standard output and error belongs to the work: by Python, by a
C library or by a program that it starts. In a thread or on the event loop, the context variable of the attempt decides
to whom a line of Python belongs; a thread that the work starts by itself has no such context.
"""

from __future__ import annotations

import codecs
import contextlib
import contextvars
import ctypes
import fcntl
import io
import logging
import os
import select
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from tornado_app.processes.executors.attempt import LONGEST_LINE

_MOST_AT_ONCE = 64 * 1024
_GATHER = 0.02  # seconds that output stays in the pipe, where the death of this process does not lose it
_MUCH = 16 * 1024  # bytes that are taken at once: a quarter of a pipe
_CHATTY = ("httpx", "httpcore")  # they log every request with its whole URL
_OWN = "holdfast"

WriteLine = Callable[[str], object]
"""Takes one line; may block while there is no room for it."""


class OutputLines:
    """Splits text into lines. Of a line that is written over, as a progress bar is, the last text counts.

    A line longer than `LONGEST_LINE` characters is written in pieces.
    """

    def __init__(self, write_line: WriteLine) -> None:
        self._write_line = write_line
        self._pending = ""

    def write(self, text: str) -> None:
        """Write the lines that are complete; keep the rest."""
        *lines, last = (self._pending + text).split("\n")
        for line in lines:
            self._pieces(line.rstrip("\r").rpartition("\r")[2])
        cut = last.rstrip("\r").rfind("\r") + 1
        while len(last) - cut > LONGEST_LINE:
            self._write_line(last[cut : cut + LONGEST_LINE])
            cut += LONGEST_LINE
        self._pending = last[cut:]

    def finish(self) -> None:
        """Write the last line, which has no newline."""
        pending, self._pending = self._pending.rstrip("\r"), ""
        if pending:
            self._pieces(pending.rpartition("\r")[2])

    def _pieces(self, line: str) -> None:
        for at in range(0, max(1, len(line)), LONGEST_LINE):
            self._write_line(line[at : at + LONGEST_LINE])


# -- in an OS process of its own


class ProcessOutput:
    """Output of this process and of what it starts, in order."""

    def __init__(self, read: int, write: int, write_line: WriteLine, flush: Callable[[], object]) -> None:
        """Make the pipe with the ends `read` and `write` the standard output and error.

        `flush` sends the lines that were written to the server.
        """
        self._write_line = write_line
        self._flush = flush
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._read = read
        self._raw = OutputLines(write_line)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        os.set_blocking(read, False)
        for fd in (1, 2):
            os.dup2(write, fd)
        os.close(write)
        self._streams = [_Stream(self, fd, write_line) for fd in (1, 2)]
        sys.stdout, sys.stderr = self._streams
        sys.__stdout__, sys.__stderr__ = self._streams  # type: ignore[assignment,misc]
        os.register_at_fork(after_in_child=self._forked)
        threading.Thread(target=self._drain_forever, daemon=True).start()

    def write_line(self, line: str) -> None:
        """Write a line that did not come by the pipe, after everything that was written before."""
        with self._lock:
            self.drain()
            self._write_line(line)

    def write(self, lines: OutputLines, text: str, fd: int) -> None:
        """Take text that Python writes to the stream of `fd`."""
        if os.getpid() != self._pid:  # a fork of the work: what it keeps in memory is lost
            os.write(fd, text.encode("utf-8", "backslashreplace"))
            return
        with self._lock:
            self.drain()
            lines.write(text)

    def drain(self) -> None:
        """Write what the pipe holds."""
        with self._lock, contextlib.suppress(BlockingIOError):
            while data := os.read(self._read, _MOST_AT_ONCE):
                self._raw.write(self._decode(data))

    def finish(self) -> None:
        """Write all that is left, after the end of the work."""
        with contextlib.suppress(Exception):  # C libraries buffer their output until then
            ctypes.CDLL(None).fflush(None)
        with self._lock:
            self.drain()
            for lines in (self._raw, *(stream.lines for stream in self._streams)):
                lines.finish()

    def _drain_forever(self) -> None:
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        while True:
            poll.poll()
            until = time.monotonic() + _GATHER
            while self._waiting() < _MUCH and time.monotonic() < until:
                time.sleep(_GATHER / 10)
            self.drain()
            self._flush()  # what was taken out of the pipe is lost with this process until it is sent

    def _waiting(self) -> int:
        """Return how many bytes the pipe holds."""
        return int.from_bytes(fcntl.ioctl(self._read, termios.FIONREAD, bytes(4)), sys.byteorder)

    def _forked(self) -> None:
        self._lock = threading.RLock()


class _Stream(io.TextIOBase):
    """Standard output or error as Python writes to it."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, output: ProcessOutput, fd: int, write_line: WriteLine) -> None:
        self._output = output
        self._fd = fd
        self.lines = OutputLines(write_line)
        self.buffer = open(fd, "wb", buffering=0, closefd=False)  # noqa: SIM115 - as long as the process

    def write(self, text: str) -> int:
        self._output.write(self.lines, text, self._fd)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        """Do nothing: what the work prints after it closed its output is still captured."""


def log_in_process(output: ProcessOutput) -> None:
    """Write what is logged in this process, from INFO on, unless the work configures logging itself."""
    root = logging.getLogger()
    handler = _Handler(lambda: output.write_line)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    configure = logging.basicConfig

    def basic_config(**options: Any) -> None:
        root.removeHandler(handler)  # else basicConfig finds a handler and does nothing
        configure(**options)

    logging.basicConfig = basic_config


# -- in a thread, or on the loop


class Captured:
    """Context manager that sends what is printed and logged in its context to `write_line`."""

    def __init__(self, write_line: WriteLine) -> None:
        self.write_line = write_line
        self._lock = threading.RLock()  # a context is copied for the threads of asyncio.to_thread
        self._streams: dict[str, OutputLines] = {}
        self._token: contextvars.Token[Captured | None] | None = None

    def __enter__(self) -> Captured:
        for name in ("stdout", "stderr"):
            if not isinstance(getattr(sys, name), (_CapturedStream, type(None))):
                setattr(sys, name, _CapturedStream(name, getattr(sys, name)))
        if _handler not in logging.getLogger().handlers:
            logging.getLogger().addHandler(_handler)
        self._token = _capture.set(self)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._token is not None:
            _capture.reset(self._token)
        with self._lock:
            for lines in self._streams.values():
                lines.finish()

    def write(self, stream: str, text: str) -> None:
        """Take text that was printed to a stream."""
        with self._lock:
            lines = self._streams.get(stream)
            if lines is None:
                lines = self._streams[stream] = OutputLines(self.write_line)
            lines.write(text)


_capture: contextvars.ContextVar[Captured | None] = contextvars.ContextVar("holdfast_capture", default=None)


class _CapturedStream:
    """Standard output or error of a server: what work writes goes to its log, all else to the stream itself."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self._name = name
        self.stream = stream

    def write(self, text: str) -> int:
        capture = _capture.get()
        if capture is None:
            return self.stream.write(text)
        capture.write(self._name, text)
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def restore() -> None:
    """Give the process its own streams back. What still runs prints to them."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, _CapturedStream):
            setattr(sys, name, stream.stream)
    logging.getLogger().removeHandler(_handler)


class _Handler(logging.Handler):
    """Writes log records, except those that another handler writes to a stream that is captured anyway."""

    def __init__(self, find_write_line: Callable[[], WriteLine | None]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        self._find_write_line = find_write_line

    def emit(self, record: logging.LogRecord) -> None:
        write_line = self._find_write_line()
        name = record.name.partition(".")[0]
        if write_line is None or name == _OWN or (name in _CHATTY and record.levelno < logging.WARNING):
            return
        if not _is_captured(record):
            try:
                write_line(self.format(record))
            except Exception:
                self.handleError(record)


def _is_captured(record: logging.LogRecord) -> bool:
    """Return whether a handler of the work writes that record to a captured stream."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        for handler in logger.handlers:
            stream = getattr(handler, "stream", None)
            if isinstance(stream, (_Stream, _CapturedStream)) and record.levelno >= handler.level:
                return True
        logger = logger.parent if logger.propagate else None
    return False


def _write_line_of_context() -> WriteLine | None:
    capture = _capture.get()
    return None if capture is None else capture.write_line


_handler = _Handler(_write_line_of_context)
