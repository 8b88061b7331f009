"""Runs one program in a session of its own, and ends it with all that it started when the server is gone.

A small process between the server and the program, run by its path: it needs the standard library alone. The server is
gone when the pipe that is our standard input ends, however it went. Being single-threaded, it may use a parent-death
signal, which the kernel ties to the thread that forked.

Standard input takes a letter for each wish (`WISHES`). STATUS, a file descriptor, gets a line for each thing that
happened: `pid N` or `failed ERRNO`, then the letter of each wish that was done, then `exit N` (negative: the signal).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from typing import Any

STOP, GO_ON, INTERRUPT, TERMINATE, KILL = b"s", b"g", b"i", b"t", b"k"
WISHES = {
    STOP: (signal.SIGSTOP,),
    GO_ON: (signal.SIGCONT,),
    INTERRUPT: (signal.SIGINT,),
    TERMINATE: (signal.SIGTERM, signal.SIGCONT),  # what is stopped can't act on SIGTERM
    KILL: (signal.SIGKILL,),
}
_OURS_TO_IGNORE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Linux: SIGKILL when the thread that forked us ends, even if no thread of ours can run (prctl(2))."""
    if sys.platform == "linux":
        libc: Any = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(status: int, grace: float, command: list[str]) -> None:
    """Run `command` until it ends. TERMINATE becomes KILL after `grace` seconds."""
    os.set_inheritable(status, False)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    for number in _OURS_TO_IGNORE:
        signal.signal(number, signal.SIG_IGN)
    pid = _start(command, status)
    # Whoever reads the program's output sees its end only when we don't hold it, too.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    kill_at = None
    while True:
        timeout = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        ready, _, _ = select.select([0, wake], [], [], timeout)
        if wake in ready:
            os.read(wake, 512)
            if _ended(pid, status):
                return
        if 0 in ready:
            wish = os.read(0, 1)
            for number in WISHES.get(wish, (signal.SIGKILL,)):  # nothing to read: the server is gone
                _signal(pid, number)
            if not wish:
                _ended(pid, status, flags=0)
                return
            if wish == TERMINATE and kill_at is None:
                kill_at = time.monotonic() + grace
            _say(status, wish.decode())
        if kill_at is not None and time.monotonic() >= kill_at:
            _signal(pid, signal.SIGKILL)
            kill_at = None


def _start(command: list[str], status: int) -> int:
    parent = os.getpid()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            die_with_parent()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number in (*_OURS_TO_IGNORE, signal.SIGXFSZ):
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
    _say(status, f"failed {failure}" if failure else f"pid {pid}")
    if failure:
        os._exit(0)
    return pid


def _ended(pid: int, status: int, flags: int = os.WNOHANG) -> bool:
    """Whether the program has ended; then nothing that it started is left behind, and the server is told."""
    ended, how = os.waitpid(pid, flags)
    if ended:
        _signal(pid, signal.SIGKILL)
        _say(status, f"exit {os.waitstatus_to_exitcode(how)}")
    return bool(ended)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended; macOS refuses a group of zombies
        os.killpg(group, number)


def _say(status: int, line: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(status, f"{line}\n".encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
