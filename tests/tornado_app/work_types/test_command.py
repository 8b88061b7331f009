"""`command`: real programs that are stopped, gone on with, ended and never left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast.work import WorkError
from holdfast.work.testing import check
from tests.support.servers import wait_until
from tests.support.work_runs import Run, Running, gone, state
from tornado_app.commands.command_line import CommandLine
from tornado_app.settings import SettingsError, read
from tornado_app.work_types.command import Command, command

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
    assert "the program that ran before is gone. Starting it over" in logs[2 + 1]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (Command("d"), "there is no command 'd'; the server has c"),
        (Command("c"), "command c: it needs the value 'n'; it takes n"),
        (Command("c", {"n": "-1"}), "command c: '-1' would be taken as an option"),
    ],
)
def test_what_is_not_in_the_settings_is_refused_at_the_start(params: Command, says: str) -> None:
    assert command.check_function is not None
    with pytest.raises(WorkError) as caught:
        command.check_function(params, settings_for("seq {n}").__getitem__)
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
    over = "the program that ran before is gone. Starting it over"
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
    assert "the program that ran before is gone. Starting it over" in running.log()


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
    assert running.until("failed")["error"]["message"] == "no ended with exit status 7. The last it said: why"


@pytest.mark.slow
def test_a_program_that_says_nothing_is_paused(run: Run) -> None:
    running = run("--command", "quiet=sleep 1000", work_type="command", name="quiet")
    running.until("running")
    running.ask("pause")
    running.until("paused")
    running.ask("cancel")
    running.until("cancelled")
