"""The supervisor's own promises, asked of it over its two pipes, as a script that is run by its path."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.support.servers import wait_until
from tests.support.work_runs import gone, state
from tornado_app.processes.supervision import supervisor

pytestmark = pytest.mark.slow

STUBBORN = "trap '' TERM; echo ready; while true; do sleep 0.01; done"


class Supervised:
    """A supervisor with its program; `said` reads what it tells, line by line."""

    def __init__(self, grace: float, command: list[str]) -> None:
        status, write = os.pipe()
        self._status = os.fdopen(status)
        self.process = subprocess.Popen(
            [sys.executable, supervisor.__file__, str(write), str(grace), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[write],
            start_new_session=True,
            bufsize=0,
        )
        os.close(write)

    def said(self) -> str:
        return self._status.readline().strip()

    def request(self, letter: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(letter)

    def forsake(self) -> None:
        """The server is gone: its end of the pipe closes."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def output(self) -> str:
        """The first line that the program writes."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def end(self) -> None:
        self.forsake()
        self.process.wait(10)
        self._status.close()
        assert self.process.stdout is not None
        self.process.stdout.close()


Supervise = Callable[..., Supervised]


@pytest.fixture
def supervise() -> Iterator[Supervise]:
    started: list[Supervised] = []

    def start(*command: str, grace: float = 30.0) -> Supervised:
        started.append(Supervised(grace, list(command)))
        return started[-1]

    yield start
    for supervised in started:
        supervised.end()


def test_it_tells_the_pid_and_the_exit_status(supervise: Supervise) -> None:
    one = supervise("sh", "-c", "echo $$; exit 7")
    assert one.said() == f"pid {one.output()}"
    assert one.said() == "exit 7"
    assert one.said() == "", "nothing follows"
    assert one.process.wait(10) == 0


def test_it_tells_why_a_program_can_not_be_started(supervise: Supervise) -> None:
    one = supervise("nowhere-to-be-found")
    assert one.said() == f"failed {errno.ENOENT}"
    assert one.said() == ""


def test_a_program_is_stopped_and_goes_on(supervise: Supervise) -> None:
    one = supervise("sleep", "1000")
    pid = int(one.said().removeprefix("pid "))
    one.request(supervisor.STOP)
    assert one.said() == "s", "it says that it was done"
    wait_until(lambda: state(pid) == "T")
    one.request(supervisor.RESUME)
    assert one.said() == "g"
    wait_until(lambda: state(pid) == "S")


@pytest.mark.parametrize(
    ("letter", "number"),
    [
        (supervisor.INTERRUPT, signal.SIGINT),
        (supervisor.TERMINATE, signal.SIGTERM),
        (supervisor.KILL, signal.SIGKILL),
    ],
)
def test_a_request_to_end_becomes_its_signal(supervise: Supervise, letter: bytes, number: int) -> None:
    one = supervise("sleep", "1000")
    assert one.said().startswith("pid ")
    one.request(letter)
    assert {one.said(), one.said()} == {letter.decode(), f"exit {-number}"}


def test_what_ignores_the_request_to_end_is_killed_after_the_grace(supervise: Supervise) -> None:
    one = supervise("sh", "-c", STUBBORN, grace=0.2)
    assert one.output() == "ready"
    one.said()
    one.request(supervisor.TERMINATE)
    one.request(supervisor.TERMINATE)  # does not begin the grace anew
    assert [one.said(), one.said()] == ["t", "t"]
    assert one.said() == f"exit {-signal.SIGKILL}"


def test_an_unknown_request_can_not_leave_a_program_behind(supervise: Supervise) -> None:
    one = supervise("sleep", "1000")
    one.said()
    one.request(b"?")
    assert f"exit {-signal.SIGKILL}" in (one.said(), one.said())


def test_signals_meant_for_the_server_do_not_end_it(supervise: Supervise) -> None:
    one = supervise("sleep", "1000")
    pid = int(one.said().removeprefix("pid "))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        one.process.send_signal(number)
    one.request(supervisor.STOP)
    assert one.said() == "s"
    assert not gone(pid)


def test_when_the_server_is_gone_the_program_and_all_that_it_started_are(supervise: Supervise) -> None:
    one = supervise("sh", "-c", "trap '' TERM HUP; sleep 1000 & echo $!; wait")
    pid, helper = int(one.said().removeprefix("pid ")), int(one.output())
    one.forsake()
    assert one.said() == f"exit {-signal.SIGKILL}"
    assert one.process.wait(10) == 0
    wait_until(lambda: gone(pid) and gone(helper))


def test_it_sees_to_the_program_though_nobody_listens(supervise: Supervise) -> None:
    one = supervise("sh", "-c", "echo $$; exec sleep 1000")
    pid = int(one.output())
    one._status.close()
    one.request(supervisor.STOP)
    one.request(supervisor.KILL)
    assert one.process.wait(10) == 0
    assert gone(pid)
