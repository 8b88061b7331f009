"""All descendants of this process: found, stopped, gone on with and ended, wherever they went.

A process group is no tree: GNU timeout, `set -m`, setsid and a double fork leave it. On Linux this process becomes a
subreaper, so that every orphan below it becomes its child (prctl(2)); where a cgroup of its own can be made, that one
stops them all in one moment. Elsewhere, as on macOS, orphans can't be found once they have left the group.

Needs the standard library alone: `supervisor` is run by its path.
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
_MOMENT = 0.0005  # seconds between looks at processes that have been told to stop
_LEVEL = 0.05  # seconds that the processes of one level get to stop before those below them are told
_STAND = 1.0  # seconds in which what multiplies may be stopped before it is killed
_ROUNDS = 4  # of killing, before what goes on multiplying is stopped first


class FoundProcess(NamedTuple):
    """A process as it was when it was looked at. `started` tells it apart from a later one with its id."""

    pid: int
    parent: int
    state: str
    threads: int
    started: str

    @property
    def is_zombie(self) -> bool:
        """Whether it has ended, and waits for its parent alone. A leader that has ended may have left threads."""
        return self.state in "ZX" and self.threads <= 1


class Descendants:
    """Of this process, which is single-threaded and starts them all."""

    def __init__(self) -> None:
        """Become the one to whom orphans come. Before anything is started."""
        self.cgroup: Cgroup | None = None
        self.group: int | None = None
        self.is_settled = not LINUX
        self._stopped: list[FoundProcess] = []
        self._reaped = 0
        if LINUX:
            libc: Any = ctypes.CDLL(None, use_errno=True)
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def fork(self) -> int:
        """Like `os.fork`, for a child that soon calls exec: born in a cgroup, where the kernel can (5.7)."""
        self.cgroup = Cgroup.make()
        if self.cgroup is not None:
            pid = self.cgroup.fork()
            if pid is not None:
                return pid
        return os.fork()

    def settle(self) -> None:
        """Take the group's leader into a cgroup. Takes many milliseconds, so what is soon over is spared it."""
        self.is_settled = True
        if self.cgroup is None:
            self.cgroup = Cgroup.make()
        if self.cgroup is not None and self.group is not None:
            self.cgroup.take_in(self.group)

    def find(self) -> list[FoundProcess]:
        """All that there are, zombies too, parents before their children."""
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
        """Those children that have ended since, each with its wait status; and whether there are others.

        Every orphan becomes a child, so with no child there is no descendant.
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
        """SIGINT to the group of the one that was started, as a terminal does it."""
        if self.group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.group, signal.SIGINT)

    def _signal_group(self, number: int) -> None:
        """Where orphans do not come to us, those of the group are still found by it."""
        if not LINUX and self.group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses a group of zombies
                os.killpg(self.group, number)

    def stop(self, patience: float, take: Callable[[int, int], object]) -> list[FoundProcess]:
        """SIGSTOP until all stand and no other one has come; those that do not stand after `patience` seconds.

        `take` gets what `reap` finds. Parents are stopped before their children: one that runs would take notice, as a
        shell with job control does, and go on with its script.
        """
        until = time.monotonic() + patience
        self._stop_at_once()
        before: list[tuple[int, str]] | None = None
        while True:
            reaped = self._reaped
            found = self.find()
            running = [process for process in found if not _stands(process)]
            for process in running:
                self._stop_one(process)
            if running:
                _await_standing(running, _LEVEL)
            else:
                self._signal_group(signal.SIGSTOP)
            for pid, status in self.reap()[0]:
                take(pid, status)
            # Two looks that found the same, all standing, and nobody's end between them: none was missed.
            now = [(process.pid, process.started) for process in found]
            if not running and now == before and reaped == self._reaped:
                return []
            before = None if running or reaped != self._reaped else now
            if time.monotonic() > until:
                return [process for process in self.find() if not _stands(process)]

    def _stop_at_once(self) -> None:
        """What is in the cgroup is told while it is frozen, so that none of it runs to see another one stop."""
        stood = {(process.pid, process.started) for process in self.find() if _stands(process)}
        if self.cgroup is not None and self.cgroup.freeze():
            for process in self.find():
                if (process.pid, process.started) not in stood and not _stands(process):  # frozen, all seem to sleep
                    self._stop_one(process)
            self.cgroup.thaw()
            return
        levels: dict[int, list[FoundProcess]] = {}
        depth = {os.getpid(): 0}
        for process in self.find():
            depth[process.pid] = depth.get(process.parent, 0) + 1
            levels.setdefault(depth[process.pid], []).append(process)
        for _, level in sorted(levels.items()):
            running = [process for process in level if not _stands(process)]
            for process in running:
                self._stop_one(process)
            _await_standing(running, _LEVEL)

    def _stop_one(self, process: FoundProcess) -> None:
        known = any((other.pid, other.started) == (process.pid, process.started) for other in self._stopped)
        if send(process, signal.SIGSTOP) and not known:
            self._stopped.append(process)

    def go_on(self) -> None:
        """SIGCONT to what `stop` has stopped, children before their parents; what stood before goes on standing."""
        while self._stopped:
            send(self._stopped.pop(), signal.SIGCONT)
        self._signal_group(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM to all; those that stand go on, else they could not act on it."""
        self.signal(signal.SIGTERM)
        self._stopped = []
        for process in reversed(self.find()):
            send(process, signal.SIGCONT)
        self._signal_group(signal.SIGCONT)

    def end(self, wait: Callable[[float], object], take: Callable[[int, int], object]) -> None:
        """SIGKILL until none is left, however long the kernel takes. `wait` waits for a child's end, or so long."""
        rounds = 0
        while True:
            ended, more = self.reap()
            for pid, status in ended:
                take(pid, status)
            if not more:
                break
            rounds += 1
            if rounds == _ROUNDS:  # killing some makes room for others to fork: first none may run
                self.stop(_STAND, take)
            if self.cgroup is not None:
                self.cgroup.kill()
            self.signal(signal.SIGKILL)
            wait(min(1.0, 0.005 * 2 ** min(rounds, 10)))
        self._signal_group(signal.SIGKILL)
        if self.cgroup is not None:
            self.cgroup.remove()


def processes() -> Iterator[FoundProcess]:
    """Every process of the system that can be seen."""
    if not LINUX:
        yield from _processes_by_ps()
        return
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := look(int(name))) is not None:
            yield process


def look(pid: int) -> FoundProcess | None:
    """A process as it is now (proc(5): stat)."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read(4096).rpartition(b")")[2].split()
        return FoundProcess(pid, int(fields[1]), fields[0].decode(), int(fields[17]), fields[19].decode())
    except (OSError, IndexError):
        return None


def _processes_by_ps() -> Iterator[FoundProcess]:
    import subprocess  # as much to import as all else here together

    asked = subprocess.run(["/bin/ps", "-axo", "pid=,ppid=,stat=,lstart="], capture_output=True, text=True, check=False)
    for line in asked.stdout.splitlines():
        pid, parent, state, *started = line.split()
        yield FoundProcess(int(pid), int(parent), state[0], 1, " ".join(started))


def send(process: FoundProcess, number: int) -> bool:
    """Send a signal to a process that was found, and to no other one that got its id since; whether it was sent."""
    try:
        if not hasattr(os, "pidfd_open") or not LINUX:
            os.kill(process.pid, number)
            return True
        handle = os.pidfd_open(process.pid)
    except OSError:  # it has ended; or it is another user's
        return False
    try:
        now = look(process.pid)
        if now is None or now.started != process.started:
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def _stands(process: FoundProcess) -> bool:
    """Whether no thread of it can run a step more before it is told to go on."""
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
    return all(_thread_stands(process.pid, int(task)) for task in tasks)


def _thread_stands(pid: int, task: int) -> bool:
    try:
        with open(f"/proc/{pid}/task/{task}/status", "rb", buffering=0) as file:
            lines = dict(line.split(b":", 1) for line in file.read(8192).splitlines() if b":" in line)
    except (OSError, ValueError):
        return False
    state = lines[b"State"].split()[0].decode()
    if state in "TtZX":
        return True
    # In the kernel, which it can leave only to be stopped: a parent waits so for the child of its vfork.
    pending = int(lines.get(b"ShdPnd", b"0"), 16) | int(lines.get(b"SigPnd", b"0"), 16)
    return state == "D" and bool(pending & _SIGSTOP_BIT)


def _await_standing(told: list[FoundProcess], patience: float) -> None:
    until = time.monotonic() + patience
    while time.monotonic() < until:
        now = [look(process.pid) for process in told] if LINUX else []
        told = [new for new, old in zip(now, told, strict=False) if new and new.started == old.started]
        told = [process for process in told if not _stands(process)]
        if not told:
            return
        time.sleep(_MOMENT)


def end_forsaken(group: int | None, marker: str) -> None:
    """End what is left when those who would have ended it were killed themselves.

    It is known by its cgroup, by `group`, or by `marker` in the environment that it was started with.
    """
    if LINUX:
        cgroups.sweep()
    if group is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    wanted, me = marker.encode(), os.getpid()
    while LINUX:
        found = [process for process in processes() if process.pid != me and _is_marked(process, wanted)]
        if sum(send(process, signal.SIGKILL) for process in found) == 0:
            return
        time.sleep(0.01)


def _is_marked(process: FoundProcess, marker: bytes) -> bool:
    if process.is_zombie:
        return False
    try:
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            return marker in file.read().split(b"\0")
    except OSError:
        return False


class Wake:
    """Makes SIGCHLD something that can be waited for with file descriptors, in the main thread."""

    def __init__(self) -> None:
        self.fds = os.pipe()
        for fd in self.fds:
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.fds[1], warn_on_full_buffer=False)

    def wait(self, timeout: float | None, *others: int) -> list[int]:
        """Which of `others` can be read, once one can, a child has ended, or the time is over."""
        poll = select.poll()  # select() knows only the first 1024 descriptors
        for fd in (self.fds[0], *others):
            poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(None if timeout is None else timeout * 1000)]
        if self.fds[0] in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self.fds[0], 4096)
        return [fd for fd in ready if fd != self.fds[0]]
