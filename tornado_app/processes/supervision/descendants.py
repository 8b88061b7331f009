"""Find, stop, resume and end all descendants of this process, whatever group or session they went to.

A process group is not a tree: GNU timeout, `set -m`, setsid and a double fork leave it. On Linux this process becomes a
subreaper, so that every orphan below it becomes its child (prctl(2)); a cgroup, where one can be made, stops all of
them at once. Elsewhere, as on macOS, an orphan that has left the group can't be found.

It imports the standard library only, because `supervisor` is run by its path.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tornado_app.processes.supervision import cgroups
from tornado_app.processes.supervision.cgroups import Cgroup

LINUX = sys.platform == "linux"
_PR_SET_CHILD_SUBREAPER = 36
_SIGSTOP_BIT = 1 << (signal.SIGSTOP - 1)
_POLL = 0.0005  # seconds between polls of processes that got SIGSTOP
_LEVEL = 0.05  # seconds that the processes of one level get to stop before SIGSTOP goes to those below
_STOP_FIRST = 1.0  # seconds for stopping processes that fork all the time, before they are killed
_ROUNDS = 4  # of SIGKILL, before processes that go on forking are stopped first


class FoundProcess(NamedTuple):
    """State of a process when it was read. `started` tells it apart from a later process with the same id."""

    pid: int
    parent: int
    state: str
    threads: int
    started: str

    @property
    def is_zombie(self) -> bool:
        """True when it has ended and waits for its parent. The first thread may end and leave others that run."""
        return self.state in "ZX" and self.threads <= 1


class Descendants:
    """Descendants of this process, which is single-threaded."""

    def __init__(self) -> None:
        """Make this process the subreaper of its descendants, before any is started."""
        self.cgroup: Cgroup | None = None
        self.group: int | None = None
        self.cgroup_was_tried = not LINUX
        self._stopped: list[FoundProcess] = []
        self._reaped = 0
        if LINUX:
            libc: Any = ctypes.CDLL(None, use_errno=True)
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def fork(self) -> int:
        """Fork as `os.fork` does, for a child that soon calls exec; into a cgroup where the kernel can (Linux 5.7)."""
        self.cgroup = Cgroup.make()
        if self.cgroup is not None:
            pid = self.cgroup.fork()
            if pid is not None:
                return pid
        return os.fork()

    def join_cgroup(self) -> None:
        """Move the group's leader into a cgroup. Not done for short work, because it takes many milliseconds."""
        self.cgroup_was_tried = True
        if self.cgroup is None:
            self.cgroup = Cgroup.make()
        if self.cgroup is not None and self.group is not None:
            self.cgroup.take_in(self.group)

    def find(self) -> list[FoundProcess]:
        """Return all descendants, zombies too, parents before their children."""
        children: dict[int, list[FoundProcess]] = {}
        for process in processes():
            children.setdefault(process.parent, []).append(process)
        found: list[FoundProcess] = []
        left = [os.getpid()]
        while left:
            below = [process for parent in left for process in children.pop(parent, ())]
            found += below
            left = [process.pid for process in below]
        return found

    def reap(self) -> tuple[list[tuple[int, int]], bool]:
        """Return the children that have ended since, each with its wait status, and whether others are left.

        Every orphan becomes a child, so without a child there is no descendant.
        """
        ended: list[tuple[int, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended, False
            if pid == 0:
                return ended, True
            ended.append((pid, status))
            self._reaped += 1

    def signal(self, number: int) -> None:
        """Send a signal to all, parents before their children."""
        for process in self.find():
            send(process, number)
        self._signal_group(number)

    def interrupt(self) -> None:
        """Send SIGINT to the process group, as a terminal does."""
        if self.group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.group, signal.SIGINT)

    def _signal_group(self, number: int) -> None:
        """Send a signal to the group where orphans do not become our children."""
        if not LINUX and self.group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses a group of zombies
                os.killpg(self.group, number)

    def stop(self, patience: float, take: Callable[[int, int], object]) -> list[FoundProcess]:
        """Send SIGSTOP until all are stopped and none is new; return those that still run after `patience` seconds.

        `take` gets each child that has ended, with its wait status. Parents are stopped before their children: a parent
        that runs may react to a stopped child, as a shell with job control does.
        """
        until = time.monotonic() + patience
        self._stop_at_once()
        before: list[tuple[int, str]] | None = None
        while True:
            reaped = self._reaped
            found = self.find()
            running = [process for process in found if not _is_stopped(process)]
            for process in running:
                self._stop_one(process)
            if running:
                _wait_until_stopped(running, _LEVEL)
            else:
                self._signal_group(signal.SIGSTOP)
            for pid, status in self.reap()[0]:
                take(pid, status)
            # Two scans found the same processes, all stopped, and none ended between them: none was missed.
            now = [(process.pid, process.started) for process in found]
            if not running and now == before and reaped == self._reaped:
                return []
            before = None if running or reaped != self._reaped else now
            if time.monotonic() > until:
                return [process for process in self.find() if not _is_stopped(process)]

    def _stop_at_once(self) -> None:
        """Send SIGSTOP while the cgroup is frozen, or level by level, so that none sees another one stop."""
        stopped_before = {(process.pid, process.started) for process in self.find() if _is_stopped(process)}
        if self.cgroup is not None and self.cgroup.freeze():
            for process in self.find():
                # While frozen, all seem to sleep.
                if (process.pid, process.started) not in stopped_before and not _is_stopped(process):
                    self._stop_one(process)
            self.cgroup.thaw()
            return
        levels: dict[int, list[FoundProcess]] = {}
        depth = {os.getpid(): 0}
        for process in self.find():
            depth[process.pid] = depth.get(process.parent, 0) + 1
            levels.setdefault(depth[process.pid], []).append(process)
        for _, level in sorted(levels.items()):
            running = [process for process in level if not _is_stopped(process)]
            for process in running:
                self._stop_one(process)
            _wait_until_stopped(running, _LEVEL)

    def _stop_one(self, process: FoundProcess) -> None:
        known = any((other.pid, other.started) == (process.pid, process.started) for other in self._stopped)
        if send(process, signal.SIGSTOP) and not known:
            self._stopped.append(process)

    def resume(self) -> None:
        """Send SIGCONT to what `stop` has stopped, children before their parents, and to no other process."""
        while self._stopped:
            send(self._stopped.pop(), signal.SIGCONT)
        self._signal_group(signal.SIGCONT)

    def terminate(self) -> None:
        """Send SIGTERM to all, and SIGCONT so that stopped ones can act on it."""
        self.signal(signal.SIGTERM)
        self._stopped = []
        for process in reversed(self.find()):
            send(process, signal.SIGCONT)
        self._signal_group(signal.SIGCONT)

    def end(self, wait: Callable[[float], object], take: Callable[[int, int], object]) -> None:
        """Send SIGKILL until none is left, however long the kernel takes. `wait` waits for a child or a timeout."""
        rounds = 0
        while True:
            ended, more = self.reap()
            for pid, status in ended:
                take(pid, status)
            if not more:
                break
            rounds += 1
            if rounds == _ROUNDS:  # killing some lets others fork: stop all first
                self.stop(_STOP_FIRST, take)
            if self.cgroup is not None:
                self.cgroup.kill()
            self.signal(signal.SIGKILL)
            wait(min(1.0, 0.005 * 2 ** min(rounds, 10)))
        self._signal_group(signal.SIGKILL)
        if self.cgroup is not None:
            self.cgroup.remove()


def processes() -> Iterator[FoundProcess]:
    """Iterate over every process of the system that this user can see."""
    if not LINUX:
        yield from _processes_by_ps()
        return
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := read_process(int(name))) is not None:
            yield process


def read_process(pid: int) -> FoundProcess | None:
    """Return the state of a process now (proc(5): stat), or None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read(4096).rpartition(b")")[2].split()
        return FoundProcess(pid, int(fields[1]), fields[0].decode(), int(fields[17]), fields[19].decode())
    except (OSError, IndexError):
        return None


def _processes_by_ps() -> Iterator[FoundProcess]:
    import subprocess  # takes as long to import as everything else here

    asked = subprocess.run(["/bin/ps", "-axo", "pid=,ppid=,stat=,lstart="], capture_output=True, text=True, check=False)
    for line in asked.stdout.splitlines():
        pid, parent, state, *started = line.split()
        yield FoundProcess(int(pid), int(parent), state[0], 1, " ".join(started))


def send(process: FoundProcess, number: int) -> bool:
    """Send a signal to a process, but not to a later one with its id. Returns whether it was sent."""
    try:
        if not hasattr(os, "pidfd_open") or not LINUX:
            os.kill(process.pid, number)
            return True
        handle = os.pidfd_open(process.pid)
    except OSError:  # it has ended, or belongs to another user
        return False
    try:
        now = read_process(process.pid)
        if now is None or now.started != process.started:
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def _is_stopped(process: FoundProcess) -> bool:
    """Return whether no thread of the process can run before SIGCONT."""
    if process.is_zombie:
        return True
    if not LINUX:
        return process.state == "T"
    if process.threads <= 1 and process.state in "Tt":
        return True
    try:
        tasks = os.listdir(f"/proc/{process.pid}/task")
    except OSError:
        return False
    return all(_thread_is_stopped(process.pid, int(task)) for task in tasks)


def _thread_is_stopped(pid: int, task: int) -> bool:
    try:
        with open(f"/proc/{pid}/task/{task}/status", "rb", buffering=0) as file:
            lines = dict(line.split(b":", 1) for line in file.read(8192).splitlines() if b":" in line)
    except (OSError, ValueError):
        return False
    state = lines[b"State"].split()[0].decode()
    if state in "TtZX":
        return True
    # It waits in the kernel and stops when it leaves it: so does a parent that waits for the child of its vfork.
    pending = int(lines.get(b"ShdPnd", b"0"), 16) | int(lines.get(b"SigPnd", b"0"), 16)
    return state == "D" and bool(pending & _SIGSTOP_BIT)


def _wait_until_stopped(sent: list[FoundProcess], patience: float) -> None:
    until = time.monotonic() + patience
    while time.monotonic() < until:
        now = [read_process(process.pid) for process in sent] if LINUX else []
        sent = [new for new, old in zip(now, sent, strict=False) if new and new.started == old.started]
        sent = [process for process in sent if not _is_stopped(process)]
        if not sent:
            return
        time.sleep(_POLL)


def end_orphans(group: int | None, marker: str) -> None:
    """End processes whose supervisor was killed before it could end them.

    They are found by their cgroup, by `group`, or by `marker` in the environment that they were started with.
    """
    if LINUX:
        cgroups.sweep()
    if group is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    wanted, me = marker.encode(), os.getpid()
    while LINUX:
        found = [process for process in processes() if process.pid != me and _has_marker(process, wanted)]
        if sum(send(process, signal.SIGKILL) for process in found) == 0:
            return
        time.sleep(0.01)


def _has_marker(process: FoundProcess, marker: bytes) -> bool:
    if process.is_zombie:
        return False
    try:
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            return marker in file.read().split(b"\0")
    except OSError:
        return False


class Wake:
    """Pipe that becomes readable on SIGCHLD, to wait for it beside other file descriptors. In the main thread."""

    def __init__(self) -> None:
        self.fds = os.pipe()
        for fd in self.fds:
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.fds[1], warn_on_full_buffer=False)

    def wait(self, timeout: float | None, *others: int) -> list[int]:
        """Wait until a child ends, one of `others` is readable, or the timeout; return those of `others` that are."""
        poll = select.poll()  # select() knows only the first 1024 descriptors
        for fd in (self.fds[0], *others):
            poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(None if timeout is None else timeout * 1000)]
        if self.fds[0] in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self.fds[0], 4096)
        return [fd for fd in ready if fd != self.fds[0]]
