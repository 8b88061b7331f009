"""`command`: real programs that are stopped, gone on with, ended and never left behind."""

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
from holdfast.work.testing import check
from tests.support.servers import wait_until
from tests.support.work_runs import Run, Running, gone, state
from tornado_app.commands.command_line import CommandLine
from tornado_app.processes.supervision import supervisor
from tornado_app.settings import SettingsError, read
from tornado_app.work_types.command import Command, command
from tornado_app.work_types.programs.program import Program, start_time

COUNTER = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"told to end\\n"), os._exit(3)))
helper = subprocess.Popen(["sleep", "1000"]) if "helper" in sys.argv else None
print("pids", os.getpid(), helper.pid if helper else 0, flush=True)
n = 0
while n < 40 if sys.argv[1] == "forty" else not os.path.exists(sys.argv[1]):
    print(n, flush=True)
    n += 1
    time.sleep(0.01)
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "counter.py"
    path.write_text(COUNTER)
    return f"{sys.executable} {path}"


# -- a program


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
    while not program.over:
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
    program.go_on()
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


# -- the setting


def test_values_fill_their_places_and_nothing_else() -> None:
    line = CommandLine("rsync -a 'my files' {source} --to={target} {{x}}")
    filled = line.filled({"source": "a b; rm -rf $HOME", "target": 7})
    assert filled == ["rsync", "-a", "my files", "a b; rm -rf $HOME", "--to=7", "{x}"]


@pytest.mark.parametrize(
    ("text", "values", "says"),
    [
        ("cp {a} {b}", {"a": "1"}, "needs the value 'b'; it takes a, b"),
        ("cp {a}", {"a": "1", "c": "2"}, "has no place for the value 'c'; it takes a"),
        ("true", {"a": "1"}, "it takes no values"),
        ("cp {a}", {"a": "--rsh=evil"}, "would be taken as an option"),
        ("cp {a}{b}", {"a": "", "b": "-x"}, "would be taken as an option"),
        ("cp {a}", {"a": "x\0y"}, "has a NUL"),
    ],
)
def test_values_that_do_not_fit_are_refused(text: str, values: dict[str, str | int | float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CommandLine(text).filled(values)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x={program} a", "the program itself can't be a value"),
        ("x=awk '{print $1}'", "is no place for a value"),
        ("x=echo {a!r}", "is no place for a value"),
        ("x=echo {0}", "is no place for a value"),
        ("x=echo }", "Single '}'"),
        ("x=echo 'open", "No closing quotation"),
        ("x=''", "it names no program"),
        ("echo", "must be NAME=PROGRAM..."),
    ],
)
def test_a_setting_that_is_no_command_line_is_refused(text: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(["--command", text], {})
    assert says in str(caught.value)


# -- the work type


def settings_for(text: str) -> dict[str, Any]:
    return {"command": {"c": text}, "kill_grace": 5.0}


@pytest.mark.slow
def test_it_can_be_stopped_anywhere_and_loses_no_line(script: str) -> None:
    logs: list[list[str]] = []

    def snapshot(workshop: Any) -> Any:
        logs.append(workshop.log)
        return None

    checked = check(command, {"name": "c"}, settings=settings_for(f"{script} forty"), snapshot=snapshot, most=4)
    assert checked.result == {"exit_status": 0, "lines": 41}
    paused = [line for line in logs[1] if not line.startswith("pids")]
    assert paused == [str(n) for n in range(40)], "paused after every yield"
    assert "the program that ran before is gone; starting it over" in logs[2 + 1]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (Command("d"), "there is no command 'd'; the server has c"),
        (Command("c"), "command c: it needs the value 'n'; it takes n"),
        (Command("c", {"n": "-1"}), "command c: '-1' would be taken as an option"),
    ],
)
def test_what_is_not_in_the_settings_is_refused_at_the_start(params: Command, says: str) -> None:
    assert command.look_over is not None
    with pytest.raises(WorkError) as caught:
        command.look_over(params, settings_for("seq {n}").__getitem__)
    assert str(caught.value).startswith(says)


def pids(running: Running) -> tuple[int, int]:
    """Of the program that was started last, and of its helper."""
    lines = wait_until(lambda: [line for line in running.log() if line.startswith("pids ")])
    _, pid, helper = lines[-1].split()
    return int(pid), int(helper)


@pytest.mark.slow
def test_pause_stops_it_resume_goes_on_and_every_line_is_in_the_log(run: Run, script: str, tmp_path: Path) -> None:
    values = {"until": str(tmp_path / "gate")}
    running = run("--command", f"count={script} {{until}} helper", work_type="command", name="count", values=values)
    pid, helper = pids(running)
    running.ask("pause")
    done = running.until("paused")["progress"]["done"]
    wait_until(lambda: state(pid) == state(helper) == "T")  # SIGSTOP is obeyed when the kernel comes to it
    running.ask("resume")
    wait_until(lambda: running.get()["progress"]["done"] > done)
    (tmp_path / "gate").touch()
    process = running.until("succeeded")
    assert process["attempt"] == 2
    counted = running.log()[1:]
    assert counted == [str(n) for n in range(len(counted))], "none was lost, none came twice"
    assert process["result"] == {"exit_status": 0, "lines": 1 + len(counted)}
    wait_until(lambda: gone(helper))


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", "pause"], ids=["while it runs", "while it is stopped"])
def test_cancel_ends_it_with_all_that_it_started(run: Run, script: str, first: str) -> None:
    running = run("--command", f"count={script} never helper", work_type="command", name="count")
    pid, helper = pids(running)
    if first:
        running.ask(first)
        running.until("paused")
    running.ask("cancel")
    running.until("cancelled")
    assert gone(pid), "cancelled is said when it has ended"
    wait_until(lambda: gone(helper))
    assert running.log()[-1] == "told to end"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.parametrize("first", ["", "pause"], ids=["running", "paused"])
def test_it_ends_with_the_server_and_is_started_over(
    run: Run,
    script: str,
    tmp_path: Path,
    how: str,
    first: str,
) -> None:
    text = f"count={script} {tmp_path / 'gate'} helper"
    running = run("--command", text, work_type="command", name="count")
    pid, helper = pids(running)
    wait_until(lambda: running.get()["progress"]["done"])
    if first:
        running.ask(first)
        running.until("paused")
    (running.server.kill if how == "kill" else running.server.stop)()
    wait_until(lambda: gone(pid) and gone(helper))
    running.server.restart()
    if first:
        running.ask("resume")
    over = "the program that ran before is gone; starting it over"
    wait_until(lambda: over in running.log())
    wait_until(lambda: pids(running)[0] != pid)
    (tmp_path / "gate").touch()
    result = running.until("succeeded")["result"]
    assert running.log()[-1] == str(result["lines"] - 2), "lines are counted anew"


@pytest.mark.slow
def test_in_a_process_of_its_own_it_can_not_live_on_and_is_started_over(run: Run, script: str, tmp_path: Path) -> None:
    text = f"count={script} {tmp_path / 'gate'} helper"
    running = run("--command", text, work_type="command", place="process", name="count")
    pid, helper = pids(running)
    running.ask("pause")
    running.until("paused")
    wait_until(lambda: gone(pid) and gone(helper))
    running.ask("resume")
    wait_until(lambda: pids(running)[0] != pid)
    (tmp_path / "gate").touch()
    running.until("succeeded")
    assert "the program that ran before is gone; starting it over" in running.log()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["thread", "process"])
def test_kill_ends_it(run: Run, script: str, place: str) -> None:
    running = run("--command", f"count={script} never helper", work_type="command", place=place, name="count")
    pid, helper = pids(running)
    assert running.ask("kill").status_code == 200
    error = running.until("failed")["error"]
    assert error["type"] == "Killed"
    assert error["message"].startswith("it was killed")
    wait_until(lambda: gone(pid) and gone(helper))


@pytest.mark.slow
def test_a_failure_tells_how_it_ended_and_the_last_it_said(run: Run) -> None:
    running = run("--command", "no=sh -c 'echo why; exit 7'", work_type="command", name="no")
    assert running.until("failed")["error"]["message"] == "no ended with exit status 7; the last it said: why"


@pytest.mark.slow
def test_a_program_that_says_nothing_is_paused(run: Run) -> None:
    running = run("--command", "quiet=sleep 1000", work_type="command", name="quiet")
    running.until("running")
    running.ask("pause")
    running.until("paused")
    running.ask("cancel")
    running.until("cancelled")
