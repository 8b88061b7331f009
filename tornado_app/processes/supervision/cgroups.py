"""Cgroups of version 2, which freeze and kill all their processes at once.

One can be made where the kernel and the administrator of the host allow it. Imports the standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import time
from typing import Any

_CLONE3 = 435  # the same number on every architecture
_CLONE_INTO_CGROUP = 0x200000000
_FREEZE = 1.0  # seconds; a process that reads from a dead disk does not freeze
_POLL = 0.0005  # seconds
_NAME = "holdfast-"


class Cgroup:
    """Cgroup below our own. It is removed at our end, or by the next process that makes one."""

    def __init__(self, path: str, handle: int) -> None:
        self._path = path
        self._handle = handle  # holds its lock until this process ends

    @classmethod
    def make(cls) -> Cgroup | None:
        """Make a cgroup; None where that is not possible. Ends what is in cgroups whose makers have died."""
        try:
            own = own_cgroup()
            if own is None:
                return None
            _sweep(own)
            path = f"{own}/{_NAME}{os.getpid()}-{time.monotonic_ns()}"
            os.mkdir(path)
        except (OSError, ValueError):
            return None
        cgroup = None
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            cgroup = cls(path, handle)
            if not os.access(f"{path}/cgroup.procs", os.W_OK) or not os.access(f"{own}/cgroup.procs", os.W_OK):
                raise PermissionError
        except OSError:
            if cgroup is not None:
                cgroup.remove()
            return None
        return cgroup

    def fork(self) -> int | None:
        """Fork into the cgroup; None where the kernel can't do that."""
        # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        # set_tid_size, cgroup
        arguments = (ctypes.c_uint64 * 11)(_CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, self._handle)
        libc: Any = ctypes.PyDLL(None, use_errno=True)  # keeps the GIL, which the child needs
        pid: int = libc.syscall(_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
        return None if pid < 0 else pid

    def take_in(self, pid: int) -> None:
        """Move a process into the cgroup; its children stay where they are."""
        if not self._holds(pid):
            self._write("cgroup.procs", str(pid))

    def _holds(self, pid: int) -> bool:
        try:
            with open(f"{self._path}/cgroup.procs", encoding="ascii") as file:
                return f"{pid}\n" in file
        except OSError:
            return False

    def freeze(self) -> bool:
        """Freeze all processes at once. Returns whether they are frozen."""
        if not self._write("cgroup.freeze", "1"):
            return False
        until = time.monotonic() + _FREEZE
        while not self._has_event("frozen 1"):
            if time.monotonic() > until:
                self.thaw()
                return False
            time.sleep(_POLL)
        return True

    def thaw(self) -> None:
        """Let frozen processes run again; each first handles the signals that it got meanwhile."""
        self._write("cgroup.freeze", "0")

    def kill(self) -> None:
        """Send SIGKILL to all at once (Linux 5.14)."""
        self._write("cgroup.kill", "1")

    def remove(self) -> None:
        """Remove the cgroup, waiting a moment until its killed processes have ended."""
        until = time.monotonic() + _FREEZE
        while True:
            try:
                self._remove_below(self._path)
                break
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > until:
                    break
                time.sleep(_POLL)
        with contextlib.suppress(OSError):
            os.close(self._handle)

    def _remove_below(self, path: str) -> None:
        with os.scandir(path) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for each in below:
            self._remove_below(each)
        os.rmdir(path)

    def _has_event(self, line: str) -> bool:
        try:
            with open(f"{self._path}/cgroup.events", encoding="ascii") as file:
                return f"{line}\n" in file
        except OSError:
            return False

    def _write(self, name: str, text: str) -> bool:
        try:
            with open(f"{self._path}/{name}", "w", encoding="ascii") as file:
                file.write(text)
        except OSError:
            return False
        return True


def sweep() -> None:
    """End the processes in cgroups whose makers have died."""
    with contextlib.suppress(OSError, ValueError):
        own = own_cgroup()
        if own is not None:
            _sweep(own)


def _sweep(own: str) -> None:
    for name in os.listdir(own):
        if not name.startswith(_NAME):
            continue
        try:
            handle = os.open(f"{own}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:  # it was removed meanwhile
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its maker still runs
            os.close(handle)
            continue
        left = Cgroup(f"{own}/{name}", handle)
        left.kill()
        left.remove()


def own_cgroup() -> str | None:
    """Return the folder of the cgroup (version 2) of this process, or None."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        found = [line.removeprefix("0::") for line in file.read().splitlines() if line.startswith("0::/")]
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line.split() for line in file if " - cgroup2 " in line]
    for mount in mounts if found else ():
        root, point = mount[3], mount[4]
        if os.path.commonpath([root, found[0]]) == root:
            return os.path.normpath(f"{point}/{os.path.relpath(found[0], root)}")
    return None
