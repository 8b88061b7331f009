"""Supervisor: a small process between the server and one program, which ends all that the program starts.

It is run by its path and imports the standard library only. When the server dies, in whatever way, the pipe on standard
input ends, and the supervisor ends the program. Because it is single-threaded it can use a parent-death signal, which
the kernel ties to the thread that forked.

Standard input takes one letter for each request. STATUS, a file descriptor, gets one line for each event: `pid N` or
`failed ERRNO`; the letter of each request that is done; `exit N` (negative: the signal) when nothing is left that the
program started. A stop that is not possible is answered with `running PID...` in place of its letter.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

try:
    from tornado_app.processes.supervision.descendants import Descendants, Wake
except ModuleNotFoundError:  # run by its path: our packages are not on sys.path
    sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3)))
    from tornado_app.processes.supervision.descendants import Descendants, Wake

STOP, RESUME, INTERRUPT, TERMINATE, KILL = b"s", b"g", b"i", b"t", b"k"
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
_PR_SET_PDEATHSIG = 1
_CGROUP_AFTER = 0.1  # seconds that a program runs before it is moved to a cgroup
_PATIENCE = 5.0  # seconds within which all must be stopped


def die_with_parent() -> None:
    """Linux: get SIGKILL when the thread that forked us ends, even if we are stopped (prctl(2))."""
    if sys.platform == "linux":
        libc: Any = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(status: int, grace: float, command: list[str]) -> None:
    """Run `command` until it and all that it started have ended. TERMINATE becomes KILL after `grace` seconds."""
    isolate()
    tree, wake = Descendants(), Wake()
    pid = _start(command, status, tree)
    # Readers of the program's output see its end only when we don't hold the pipe.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    wait_status = Watch(tree, wake, pid, grace, lambda line: _report(status, line)).run(0)
    _report(status, f"exit {os.waitstatus_to_exitcode(wait_status)}")


def isolate() -> None:
    """Let children inherit no file descriptor of ours, and ignore signals that are meant for the server."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            if int(name) > 2:
                os.set_inheritable(int(name), False)


class Watch:
    """Loop over one program and all that it starts. Requests come one letter at a time."""

    def __init__(
        self, tree: Descendants, wake: Wake, pid: int, grace: float, report: Callable[[str], object] = lambda line: None
    ) -> None:
        self._tree = tree
        self._wake = wake
        self._pid = pid
        self._grace = grace
        self._report = report
        self._status: int | None = None
        self._kill_at: float | None = None
        self._began = time.monotonic()

    def run(self, requests: int) -> int:
        """Return the wait status of the program once it has ended and nothing is left that it started.

        What it leaves running is killed, after TERMINATE only when the grace is over. The end of `requests` kills all.
        """
        while True:
            ended, more = self._tree.reap()
            for pid, wait_status in ended:
                self._take(pid, wait_status)
            if not more or (self._status is not None and self._kill_at is None) or self._is_late():
                break
            if not self._tree.cgroup_was_tried and time.monotonic() > self._began + _CGROUP_AFTER:
                self._tree.join_cgroup()
            if requests in self._wake.wait(self._timeout(), requests) and not self._handle(_read(requests)):
                break
        self._tree.end(self._wake.wait, self._take)
        assert self._status is not None  # noqa: S101 - it was the first child, and none is left
        return self._status

    def _take(self, pid: int, wait_status: int) -> None:
        if pid == self._pid:
            self._status = wait_status

    def _timeout(self) -> float | None:
        if self._kill_at is not None:
            return max(0.0, self._kill_at - time.monotonic())
        return None if self._tree.cgroup_was_tried else _CGROUP_AFTER

    def _is_late(self) -> bool:
        return self._kill_at is not None and time.monotonic() >= self._kill_at

    def _handle(self, request: bytes) -> bool:
        """Handle a request. Returns False when all must be killed: on KILL, and when the server has gone."""
        reply = request.decode(errors="replace")
        if request == STOP:
            left = self._tree.stop(_PATIENCE, self._take)
            reply = " ".join(["running", *(str(process.pid) for process in left)]) if left else reply
        elif request == RESUME:
            self._tree.resume()
        elif request == INTERRUPT:
            self._tree.interrupt()
        elif request == TERMINATE:
            self._tree.terminate()
            if self._kill_at is None:
                self._kill_at = time.monotonic() + self._grace
        if request:
            self._report(reply)
        return request in (STOP, RESUME, INTERRUPT, TERMINATE) and bool(request)


def _start(command: list[str], status: int, tree: Descendants) -> int:
    parent = os.getpid()
    failed_read, failed_write = os.pipe()
    pid = tree.fork()
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            os.setsid()
            die_with_parent()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number in (*_IGNORED, signal.SIGCHLD, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            if os.getppid() == parent:  # else the parent died before prctl
                os.execvp(command[0], command)  # noqa: S606 - no shell is what we want
        except OSError as error:
            os.write(failed_write, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(failed_write)
    failure = os.read(failed_read, 16).decode()
    os.close(failed_read)
    if not failure:
        _report(status, f"pid {pid}")
        tree.group = pid
        return pid
    tree.end(lambda timeout: time.sleep(timeout), lambda pid, wait_status: None)
    _report(status, f"failed {failure}")
    os._exit(0)


def _read(requests: int) -> bytes:
    try:
        return os.read(requests, 1)
    except OSError:  # the other end died before it read what we sent
        return b""


def _report(status: int, line: str) -> None:
    with contextlib.suppress(OSError):  # the server has gone
        os.write(status, f"{line}\n".encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
