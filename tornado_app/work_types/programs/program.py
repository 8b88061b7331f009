"""A program beside the server, under a supervisor: it can be stopped and resumed, and ends with the server."""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from holdfast.work import WorkError
from tornado_app.processes.supervision import claims, supervisor
from tornado_app.processes.supervision.descendants import end_orphans, read_process

_MOST_AT_ONCE = 256 * 1024
_LONGEST_LINE = 8192  # characters; a longer line comes in pieces, because the log would cut it
_REPLY = 10.0  # seconds within which the supervisor replies, even on a busy machine


class Program:
    """A program and all that it starts. Its output waits in a pipe until it is read.

    Used by one thread at a time, except that any thread may call `terminate` and `kill`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        grace: float,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        claim: Path | None = None,
    ) -> None:
        """Start the program. `grace` is the time in seconds between SIGTERM and SIGKILL.

        With `claim` it starts once nothing runs that was started under that claim before. Raises `WorkError` when it
        can't be started.
        """
        self.exit_code: int | None = None
        self.pid = 0
        self._lock = threading.Lock()
        self._grace = grace
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._pending = ""
        self._partial_line = b""
        self._replies: list[str] = []
        self._claim = claim
        environment = dict(os.environ if environment is None else environment)
        held = []
        if claim is not None:
            environment[claims.VARIABLE] = str(claim)
            held = [_take_claim(claim, command[0])]
        self._output, output = os.pipe()
        self._status, status = os.pipe()
        os.set_blocking(self._output, False)
        os.set_blocking(self._status, False)
        arguments = [sys.executable, "-I", "-S", supervisor.__file__, str(status), str(grace), *command]
        try:
            self._supervisor = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[status, *held],
                start_new_session=True,
                cwd=folder,
                env=environment,
                bufsize=0,
            )
        except OSError as error:
            self._close_pipes()
            if claim is not None:
                claims.drop(claim)
            raise WorkError(f"{command[0]} can't be started: {error.strerror}") from None
        finally:
            for ours in (output, status, *held):
                os.close(ours)
        reply = self._wait_for(lambda: bool(self._replies))
        if reply is None or not reply.startswith("pid "):
            self.close()
            number = int(reply.removeprefix("failed ")) if reply else 0
            raise WorkError(f"{command[0]} can't be started: {os.strerror(number) if number else 'no reply'}")
        self.pid = int(reply.removeprefix("pid "))
        self.started = start_time(self.pid)

    @property
    def output(self) -> int:
        """File descriptor from which `lines` reads; -1 when all output was read."""
        return self._output

    @property
    def has_ended(self) -> bool:
        """True when the program has ended and all of its output was read."""
        return self.exit_code is not None and self._output < 0

    def is_same(self, pid: int, started: int | None) -> bool:
        """Return whether a checkpoint is of this program, and not of another one with the same process id."""
        return (self.pid, self.started) == (pid, started)

    def lines(self, wait: float) -> list[str]:
        """Return the lines of output that are there, or the first that come within `wait` seconds."""
        until = time.monotonic() + wait
        while True:
            self._wait_readable([self._output, self._status], max(0.0, until - time.monotonic()))
            self._read_status()
            lines = self._read_output()
            if lines or self.has_ended or time.monotonic() >= until:
                return [piece for line in lines for piece in _pieces(line)]

    def _read_output(self) -> list[str]:
        if self._output < 0:
            return []
        try:
            data = os.read(self._output, _MOST_AT_ONCE)
        except BlockingIOError:
            if self.exit_code is None:
                return []
            data = b""  # the program has ended, so nothing more will come
        lines = (self._pending + self._decode(data, not data)).split("\n")
        self._pending = lines.pop()
        if len(self._pending) > _LONGEST_LINE or (not data and self._pending):
            lines.append(self._pending)
            self._pending = ""
        if not data:
            os.close(self._output)
            self._output = -1
        return lines

    def poll(self) -> None:
        """Update `exit_code` without reading output."""
        self._read_status()

    def stop(self) -> None:
        """Send SIGSTOP to the program and all that it started, and wait until all are stopped.

        Raises `WorkError` when one can't be stopped, such as a process of another user, started by sudo.
        """
        self._request_and_wait(supervisor.STOP)
        running = [reply.split()[1:] for reply in self._replies if reply.startswith("running")]
        if running:
            names = ", ".join(f"{pid} ({_name_of(pid)})" for pid in running[0])
            raise WorkError(f"it can't be paused, and was ended: the processes {names} are not stopped by SIGSTOP")

    def resume(self) -> None:
        """Send SIGCONT to what `stop` has stopped."""
        self._request_and_wait(supervisor.RESUME)

    def interrupt(self) -> None:
        """Send SIGINT to the process group of the program."""
        self._request(supervisor.INTERRUPT)

    def terminate(self) -> None:
        """Send SIGTERM to all, and SIGKILL after the grace to what is left. Does not wait."""
        self._request(supervisor.TERMINATE)

    def kill(self) -> None:
        """Send SIGKILL to the program and all that it started. Does not wait."""
        self._request(supervisor.KILL)

    def end(self, take: Callable[[str], object] = lambda line: None) -> None:
        """End the program and all that it started; `take` gets the lines of output that were not read yet.

        Raises `WorkError` when the kernel does not let something end. The supervisor goes on trying.
        """
        if self.exit_code is None:
            self.terminate()
        until = time.monotonic() + self._grace + _REPLY
        while not self.has_ended and time.monotonic() < until:
            for line in self.lines(0.1):
                take(line)
        self.close()
        if self.exit_code is None:
            raise WorkError(
                "what it started does not end by SIGKILL, because the kernel does not let it. See the children of "
                f"process {self._supervisor.pid}, and cancel it once they have ended"
            )

    def close(self) -> None:
        """Kill what still runs and release the pipes."""
        with self._lock:
            if self._supervisor.stdin is not None and not self._supervisor.stdin.closed:
                self._supervisor.stdin.close()
        try:
            self._supervisor.wait(_REPLY)
        except subprocess.TimeoutExpired:  # the kernel holds the program; nothing more can be done
            self._read_status()
        else:
            while self._status >= 0:
                self._read_status()
            if self._claim is not None:
                claims.drop(self._claim)
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._output, self._status):
            if pipe >= 0:
                os.close(pipe)
        self._output = self._status = -1

    # -- requests to the supervisor, and its replies

    def _request(self, letter: bytes) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):  # it has ended, or was closed
            assert self._supervisor.stdin is not None  # noqa: S101 - it is a pipe
            self._supervisor.stdin.write(letter)

    def _request_and_wait(self, letter: bytes) -> None:
        """Send a request and wait until it is done, however long that takes."""
        self._replies.clear()
        self._request(letter)
        self._wait_for(lambda: bool(self._replies) or self.exit_code is not None, math.inf)

    def _wait_for(self, condition: Callable[[], bool], patience: float = _REPLY) -> str | None:
        """Return the last reply once the condition holds; None when no more can come, or after `patience` seconds."""
        until = time.monotonic() + patience
        while not condition():
            if self._status < 0 or time.monotonic() > until:
                return None
            self._wait_readable([self._status], 0.1)
            self._read_status()
        return self._replies[-1] if self._replies else None

    @staticmethod
    def _wait_readable(pipes: Sequence[int], wait: float) -> None:
        poll = select.poll()  # select() knows only the first 1024 descriptors
        for pipe in pipes:
            if pipe >= 0:
                poll.register(pipe, select.POLLIN)
        poll.poll(wait * 1000)

    def _read_status(self) -> None:
        if self._status < 0:
            return
        try:
            data = os.read(self._status, 4096)
        except BlockingIOError:
            return
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        for line in lines:
            text = line.decode()
            if text.startswith("exit "):
                self.exit_code = int(text.removeprefix("exit "))
            else:
                self._replies.append(text)
        if not data:
            os.close(self._status)
            self._status = -1
            if self.exit_code is None:  # the supervisor was killed, and the program with it
                self._end_orphans()
                self.exit_code = -signal.SIGKILL

    def _end_orphans(self) -> None:
        """End what the program has started, after the death of the supervisor."""
        if self._claim is not None:
            end_orphans(self.pid or None, claims.marker(self._claim))


def _pieces(line: str) -> list[str]:
    """Return a line as log lines: of text that is written over, as a progress bar is, the last; in pieces if long."""
    line = line.rstrip("\r").rpartition("\r")[2]
    return [line[at : at + _LONGEST_LINE] for at in range(0, len(line), _LONGEST_LINE)] or [""]


def start_time(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot (proc(5), field 22 of stat), or None.

    With the process id it names one process: a later one with the same id has another start time.
    """
    found = read_process(pid)
    return None if found is None else int(found.started)


def _name_of(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return "?"


def _take_claim(claim: Path, name: str) -> int:
    try:
        return claims.take(claim, _REPLY)
    except TimeoutError:
        raise WorkError(
            f"{name} is not started, because what an earlier attempt started still runs and the kernel does not let it "
            "end. Resume the process later"
        ) from None
    except OSError as error:
        raise WorkError(f"{name} can't be started: {error}") from None


def wait_until_clear(claim: Path) -> None:
    """Wait until nothing runs that was started under a claim. Raises `WorkError` when something still does."""
    try:
        claims.wait_until_clear(claim, _REPLY)
    except TimeoutError:
        raise WorkError(
            "what it started still runs, because the kernel does not let it end. Cancel the process again later"
        ) from None


def own_environment() -> dict[str, str]:
    """Return the server's environment without the variables of its settings, some of which are secret."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
