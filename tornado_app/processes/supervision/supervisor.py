"""Runs one program with all that it starts, and ends them all when the server is gone.

A small process between the server and the program, run by its path: it needs the standard library alone. The server is
gone when the pipe that is our standard input ends, however it went. Being single-threaded, it may use a parent-death
signal, which the kernel ties to the thread that forked.

Standard input takes a letter for each wish. STATUS, a file descriptor, gets a line for each thing that happened:
`pid N` or `failed ERRNO`, then the letter of each wish that was done, then `exit N` (negative: the signal) when nothing
that the program started is left. A stop that could not be done is `running PID...` in place of its letter.
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
except ModuleNotFoundError:  # run by its path, where our packages are not known
    sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3)))
    from tornado_app.processes.supervision.descendants import Descendants, Wake

STOP, GO_ON, INTERRUPT, TERMINATE, KILL = b"s", b"g", b"i", b"t", b"k"
_OURS_TO_IGNORE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
_PR_SET_PDEATHSIG = 1
_SETTLED = 0.1  # seconds after which it is worth a cgroup
_PATIENCE = 5.0  # seconds in which what runs must be stopped


def die_with_parent() -> None:
    """Linux: SIGKILL when the thread that forked us ends, even if no thread of ours can run (prctl(2))."""
    if sys.platform == "linux":
        libc: Any = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(status: int, grace: float, command: list[str]) -> None:
    """Run `command` until it and all that it started have ended. TERMINATE becomes KILL after `grace` seconds."""
    keep_to_ourselves()
    tree, wake = Descendants(), Wake()
    pid = _start(command, status, tree)
    # Whoever reads the program's output sees its end only when we don't hold it, too.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    how = Watch(tree, wake, pid, grace, lambda line: _say(status, line)).until_all_is_over(0)
    _say(status, f"exit {os.waitstatus_to_exitcode(how)}")


def keep_to_ourselves() -> None:
    """Let nothing that we start inherit what we hold; ignore signals that are meant for the server."""
    for number in _OURS_TO_IGNORE:
        signal.signal(number, signal.SIG_IGN)
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            if int(name) > 2:
                os.set_inheritable(int(name), False)


class Watch:
    """Over one program and all that it starts, by wishes that come one letter at a time."""

    def __init__(
        self, tree: Descendants, wake: Wake, pid: int, grace: float, say: Callable[[str], object] = lambda line: None
    ) -> None:
        self._tree = tree
        self._wake = wake
        self._pid = pid
        self._grace = grace
        self._say = say
        self._how: int | None = None
        self._kill_at: float | None = None
        self._began = time.monotonic()

    def until_all_is_over(self, wishes: int) -> int:
        """The wait status of the program, once it has ended and nothing is left that it started.

        What it leaves running is killed; after TERMINATE it has the rest of the grace. The end of `wishes` kills all.
        """
        while True:
            ended, more = self._tree.reap()
            for pid, how in ended:
                self._take(pid, how)
            if not more or (self._how is not None and self._kill_at is None) or self._is_late():
                break
            if not self._tree.is_settled and time.monotonic() > self._began + _SETTLED:
                self._tree.settle()
            if wishes in self._wake.wait(self._timeout(), wishes) and not self._obey(_read(wishes)):
                break
        self._tree.end(self._wake.wait, self._take)
        assert self._how is not None  # noqa: S101 - it was the first child, and none is left
        return self._how

    def _take(self, pid: int, how: int) -> None:
        if pid == self._pid:
            self._how = how

    def _timeout(self) -> float | None:
        if self._kill_at is not None:
            return max(0.0, self._kill_at - time.monotonic())
        return None if self._tree.is_settled else _SETTLED

    def _is_late(self) -> bool:
        return self._kill_at is not None and time.monotonic() >= self._kill_at

    def _obey(self, wish: bytes) -> bool:
        """Do what was asked for. False when all must go: also when nobody can ask any more."""
        said = wish.decode(errors="replace")
        if wish == STOP:
            left = self._tree.stop(_PATIENCE, self._take)
            said = " ".join(["running", *(str(process.pid) for process in left)]) if left else said
        elif wish == GO_ON:
            self._tree.go_on()
        elif wish == INTERRUPT:
            self._tree.interrupt()
        elif wish == TERMINATE:
            self._tree.terminate()
            if self._kill_at is None:
                self._kill_at = time.monotonic() + self._grace
        if wish:
            self._say(said)
        return wish in (STOP, GO_ON, INTERRUPT, TERMINATE) and bool(wish)


def _start(command: list[str], status: int, tree: Descendants) -> int:
    parent = os.getpid()
    told, tell = os.pipe()
    pid = tree.fork()
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            os.setsid()
            die_with_parent()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number in (*_OURS_TO_IGNORE, signal.SIGCHLD, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            if os.getppid() == parent:  # else it died before we could ask to be told
                os.execvp(command[0], command)  # noqa: S606 - no shell is what we want
        except OSError as error:
            os.write(tell, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(tell)
    failure = os.read(told, 16).decode()
    os.close(told)
    if not failure:
        _say(status, f"pid {pid}")
        tree.group = pid
        return pid
    tree.end(lambda timeout: time.sleep(timeout), lambda pid, how: None)
    _say(status, f"failed {failure}")
    os._exit(0)


def _read(wishes: int) -> bytes:
    try:
        return os.read(wishes, 1)
    except OSError:  # a socket of somebody who died before he had read what we sent
        return b""


def _say(status: int, line: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(status, f"{line}\n".encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
