"""A program that runs beside the server, can be stopped and gone on with, and ends with the server."""

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
from tornado_app.processes.supervision.descendants import end_forsaken, look

_MOST_AT_ONCE = 256 * 1024
_LONGEST_LINE = 8192  # characters: a longer one comes in pieces, as the log would cut it
_ANSWER = 10.0  # seconds within which the supervisor answers, however busy the machine


class Program:
    """A program and all that it starts, wherever that goes. Its output waits in a pipe until it is read.

    One thread at a time; but `terminate` and `kill` may be called from any.
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
        """Start it. Raises `WorkError` when it can't be. `grace` seconds lie between SIGTERM and SIGKILL.

        Under `claim` it is started when nothing runs any more of what was started under it before.
        """
        self.exit_code: int | None = None
        self._lock = threading.Lock()
        self._grace = grace
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._pending = ""
        self._said = b""
        self._done: list[str] = []
        self._claim = claim
        environment = dict(os.environ if environment is None else environment)
        held = []
        if claim is not None:
            environment[claims.VARIABLE] = str(claim)
            held = [_taken(claim, command[0])]
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
        answer = self._await(lambda: bool(self._done))
        if answer is None or not answer.startswith("pid "):
            self.close()
            number = int(answer.removeprefix("failed ")) if answer else 0
            raise WorkError(f"{command[0]} can't be started: {os.strerror(number) if number else 'no answer'}")
        self.pid = int(answer.removeprefix("pid "))
        self.started = start_time(self.pid)

    @property
    def output(self) -> int:
        """The file descriptor from which `lines` reads; -1 when all was read."""
        return self._output

    @property
    def over(self) -> bool:
        """It has ended, and all of its output was read."""
        return self.exit_code is not None and self._output < 0

    def is_same(self, pid: int, started: int | None) -> bool:
        """Whether a checkpoint means this program, and not another one that got its number."""
        return (self.pid, self.started) == (pid, started)

    def lines(self, wait: float) -> list[str]:
        """Lines of its output: those that are there, or the first that come within `wait` seconds."""
        until = time.monotonic() + wait
        while True:
            self._poll([self._output, self._status], max(0.0, until - time.monotonic()))
            self._read_status()
            lines = self._read_output()
            if lines or self.over or time.monotonic() >= until:
                return [piece for line in lines for piece in _shown(line)]

    def _read_output(self) -> list[str]:
        if self._output < 0:
            return []
        try:
            data = os.read(self._output, _MOST_AT_ONCE)
        except BlockingIOError:
            if self.exit_code is None:
                return []
            data = b""  # nobody holds the pipe who could be waited for
        lines = (self._pending + self._decode(data, not data)).split("\n")
        self._pending = lines.pop()
        if len(self._pending) > _LONGEST_LINE or (not data and self._pending):
            lines.append(self._pending)
            self._pending = ""
        if not data:
            os.close(self._output)
            self._output = -1
        return lines

    def look(self) -> None:
        """See whether it has ended; its output is not touched."""
        self._read_status()

    def stop(self) -> None:
        """SIGSTOP to it and all that it started; all stand when this returns.

        Raises `WorkError` when one of them does not, as another user's, who became that by sudo.
        """
        self._ask(supervisor.STOP)
        running = [said.split()[1:] for said in self._done if said.startswith("running")]
        if running:
            names = ", ".join(f"{pid} ({_name_of(pid)})" for pid in running[0])
            raise WorkError(f"it can't be paused, and was ended: the processes {names} are not stopped by SIGSTOP")

    def go_on(self) -> None:
        """SIGCONT to what `stop` has stopped."""
        self._ask(supervisor.GO_ON)

    def interrupt(self) -> None:
        """SIGINT to its group."""
        self._wish(supervisor.INTERRUPT)

    def terminate(self) -> None:
        """SIGTERM to it and all that it started, SIGKILL after the grace to what is left. Does not wait."""
        self._wish(supervisor.TERMINATE)

    def kill(self) -> None:
        """SIGKILL to it and all that it started. Does not wait."""
        self._wish(supervisor.KILL)

    def end(self, take: Callable[[str], object] = lambda line: None) -> None:
        """See that it ends with all that it started; `take` gets the lines that were not read yet.

        Raises `WorkError` when something of it goes on all the same, because the kernel holds it. Its supervisor tries
        on.
        """
        if self.exit_code is None:
            self.terminate()
        until = time.monotonic() + self._grace + _ANSWER
        while not self.over and time.monotonic() < until:
            for line in self.lines(0.1):
                take(line)
        self.close()
        if self.exit_code is None:
            raise WorkError(
                f"what it started does not end, not even by SIGKILL: the kernel holds it. See the children of process "
                f"{self._supervisor.pid}; cancel it once they are gone"
            )

    def close(self) -> None:
        """Let go of it; what still runs is killed."""
        with self._lock:
            if self._supervisor.stdin is not None and not self._supervisor.stdin.closed:
                self._supervisor.stdin.close()
        try:
            self._supervisor.wait(_ANSWER)
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

    # -- talking with the supervisor

    def _wish(self, letter: bytes) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):  # it has ended; it was closed
            assert self._supervisor.stdin is not None  # noqa: S101 - it is a pipe
            self._supervisor.stdin.write(letter)

    def _ask(self, letter: bytes) -> None:
        """Wait until it is done, however long that takes: what is not done must not be told."""
        self._done.clear()
        self._wish(letter)
        self._await(lambda: bool(self._done) or self.exit_code is not None, math.inf)

    def _await(self, condition: Callable[[], bool], patience: float = _ANSWER) -> str | None:
        """The last thing said once the condition holds; None when it can't any more."""
        until = time.monotonic() + patience
        while not condition():
            if self._status < 0 or time.monotonic() > until:
                return None
            self._poll([self._status], 0.1)
            self._read_status()
        return self._done[-1] if self._done else None

    @staticmethod
    def _poll(pipes: Sequence[int], wait: float) -> None:
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
        *said, self._said = (self._said + data).split(b"\n")
        for line in said:
            text = line.decode()
            if text.startswith("exit "):
                self.exit_code = int(text.removeprefix("exit "))
            else:
                self._done.append(text)
        if not data:
            os.close(self._status)
            self._status = -1
            if self.exit_code is None:  # the supervisor itself was killed, and the program with it
                self._end_forsaken()
                self.exit_code = -signal.SIGKILL

    def _end_forsaken(self) -> None:
        """End what the program has started, when there is no supervisor to find it."""
        if self._claim is not None:
            end_forsaken(self.pid, claims.marker(self._claim))


def _shown(line: str) -> list[str]:
    """Of a line that was written over, as progress bars are, what one would see; a long one in pieces."""
    line = line.rstrip("\r").rpartition("\r")[2]
    return [line[at : at + _LONGEST_LINE] for at in range(0, len(line), _LONGEST_LINE)] or [""]


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5), field 22 of stat): with its id it tells it apart
    from a later one. None where there is no /proc."""
    found = look(pid)
    return None if found is None else int(found.started)


def _name_of(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return "?"


def _taken(claim: Path, name: str) -> int:
    try:
        return claims.take(claim, _ANSWER)
    except TimeoutError:
        raise WorkError(
            f"{name} is not started: what an earlier attempt started still runs, because the kernel holds it; "
            "resume once it is gone"
        ) from None
    except OSError as error:
        raise WorkError(f"{name} can't be started: {error}") from None


def settle(claim: Path) -> None:
    """See that nothing is left of a program that an earlier server started. Raises `WorkError` when something is."""
    try:
        claims.settle(claim, _ANSWER)
    except TimeoutError:
        raise WorkError(
            "what it started still runs, because the kernel holds it: cancel it again once that is gone"
        ) from None


def own_environment() -> dict[str, str]:
    """The environment that programs inherit: the server's, without its own settings, which hold secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
