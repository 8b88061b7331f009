"""Real programs that are stopped, resumed, ended and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.work import WorkError
from tests.support.servers import wait_until
from tests.support.work_runs import gone, state
from tornado_app.processes.supervision import claims, supervisor
from tornado_app.work_types.programs.program import Program, start_time, wait_until_clear


@pytest.fixture
def started() -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def start(*arguments: str, grace: float = 5.0, **options: Any) -> Program:
        programs.append(Program(arguments, grace=grace, **options))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


def all_lines(program: Program) -> list[str]:
    lines: list[str] = []
    while not program.has_ended:
        lines += program.lines(1.0)
    return lines


def test_every_line_of_output_is_read_once_whatever_is_in_it(started: Callable[..., Program]) -> None:
    text = r"printf 'one\ntwo é\n\377\n\r10%%\r20%%\r\nlast'; exit 3"
    program = started("sh", "-c", text)
    assert all_lines(program) == ["one", "two é", "\ufffd", "20%", "last"]
    assert program.exit_code == 3


@pytest.mark.slow
def test_more_output_than_a_pipe_holds_is_all_read(started: Callable[..., Program]) -> None:
    program = started("seq", "300000")
    assert all_lines(program) == [str(n) for n in range(1, 300001)]


@pytest.mark.parametrize("end", ["", "; echo; echo more"])
def test_a_line_too_long_for_the_log_comes_in_pieces(started: Callable[..., Program], end: str) -> None:
    program = started("sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x" + end)
    lines = all_lines(program)
    assert "".join(lines) == "x" * 1_000_000 + ("more" if end else "")
    assert max(map(len, lines)) <= 8192


def test_what_can_not_be_started_is_told(tmp_path: Path, started: Callable[..., Program]) -> None:
    (tmp_path / "plain").write_text("no program")
    with pytest.raises(WorkError, match=r"nowhere-to-be-found can't be started: No such file or directory"):
        started("nowhere-to-be-found")
    with pytest.raises(WorkError, match="Permission denied"):
        started(str(tmp_path / "plain"))


def test_stop_and_go_on_reach_all_that_it_started(started: Callable[..., Program], script: str) -> None:
    program = started(*script.split(), "never", "helper")
    _, pid, helper = wait_until(lambda: program.lines(0.1))[0].split()
    assert int(pid) == program.pid
    program.stop()
    wait_until(lambda: state(program.pid) == state(int(helper)) == "T")
    while program.lines(0.05):
        pass
    program.resume()
    assert program.lines(5.0)
    wait_until(lambda: state(int(helper)) == "S")
    program.end()
    wait_until(lambda: gone(int(helper)) and gone(program.pid))


def test_a_stopped_program_is_told_to_end_and_may_say_so(started: Callable[..., Program], script: str) -> None:
    program = started(*script.split(), "never")
    wait_until(lambda: program.lines(0.1))
    program.stop()
    said: list[str] = []
    program.end(said.append)
    assert said[-1] == "told to end"
    assert program.exit_code == 3


def test_what_does_not_end_when_told_is_killed_after_the_grace(started: Callable[..., Program]) -> None:
    program = started("sh", "-c", "trap '' TERM; echo ready; while true; do sleep 0.01; done", grace=0.1)
    assert program.lines(5.0) == ["ready"]
    program.end()
    assert program.exit_code == -signal.SIGKILL


def test_what_it_left_running_in_its_session_ends_with_it(started: Callable[..., Program]) -> None:
    program = started("sh", "-c", "sleep 1000 & echo $!")
    (helper,) = all_lines(program)
    assert program.exit_code == 0
    wait_until(lambda: gone(int(helper)))


def test_it_ends_when_its_supervisor_is_killed(started: Callable[..., Program]) -> None:
    program = started("sleep", "1000")
    program._supervisor.kill()
    wait_until(lambda: gone(program.pid))
    assert all_lines(program) == []
    assert program.exit_code == -signal.SIGKILL


def test_its_environment_has_no_settings_of_the_server(
    started: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tornado_app.work_types.programs.program import own_environment

    monkeypatch.setenv("HOLDFAST_TOKEN", "hunter2")
    monkeypatch.setenv("OTHER", "there")
    program = started("env", environment=own_environment())
    lines = all_lines(program)
    assert "OTHER=there" in lines
    assert not any("hunter2" in line for line in lines)


def test_its_signals_are_as_a_shell_would_set_them(started: Callable[..., Program]) -> None:
    code = "import signal; print(*(signal.getsignal(n) is not signal.SIG_IGN for n in (1, 2, 15)))"
    assert all_lines(started(sys.executable, "-c", code)) == ["True True True"]
    assert all_lines(started("sh", "-c", "yes | head -n 1")) == ["y"], "SIGPIPE ends it quietly"


def test_start_time_tells_two_processes_apart() -> None:
    assert start_time(os.getpid()) == start_time(os.getpid())
    assert start_time(2**22 + 5) is None


def test_the_supervisor_needs_nothing_but_the_standard_library() -> None:
    code = f"import runpy, sys; runpy.run_path({supervisor.__file__!r}); print('msgspec' in sys.modules)"
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr


def test_a_program_is_not_started_while_something_runs_under_its_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tornado_app.work_types.programs.program._REPLY", 0.05)
    path = claims.path_of(tmp_path, "command", "p")
    claim = claims.take(path, 0)
    with pytest.raises(WorkError, match="true is not started, because what an earlier attempt started still runs"):
        Program(["true"], grace=0.2, claim=path)
    with pytest.raises(WorkError, match="Cancel the process again later"):
        wait_until_clear(path)
    os.close(claim)
    wait_until_clear(path)
    assert not path.exists()
