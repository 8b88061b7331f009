"""One rule of exit status for every command that waits: 0 only where what was waited for has come about."""

from __future__ import annotations

import json
import signal
import threading
import uuid

import pytest

import holdfast
from holdfast.cli._context import Exit
from tests.support.cli_shell import Shell, Started, read_until
from tests.support.servers import wait_until

SLOW = ("to=100000", "pause=0.01")

pytestmark = pytest.mark.slow


def failed(shell: Shell, label: str) -> str:
    """The id of a process that has failed, and would again."""
    id = f"waits-{uuid.uuid4().hex}"
    shell("start", "steps", "to=1", "fail=no paper", "--id", id, "--label", label, "-w", code=Exit.FAILED)
    return id


@pytest.fixture
def label() -> str:
    return f"group={uuid.uuid4().hex}"


def test_every_command_that_waits_for_work_that_fails_exits_with_1_and_points_to_the_log(
    shell: Shell, label: str
) -> None:
    id = failed(shell, label)
    hint = f"holdfast log {id}"
    assert hint in shell.err
    for arguments in (
        ["resume", id, "--wait"],
        ["resume", id, "--timeout", "60"],
        ["resume", "--state", "failed", "--label", label, "--wait"],
        ["watch", id],
        ["log", "--follow", id],
    ):
        shell(*arguments, code=Exit.FAILED)
        assert "no paper" in shell.out + shell.err, arguments
        assert hint in shell.err, arguments


def test_of_several_one_that_fails_is_enough(shell: Shell, label: str) -> None:
    failed(shell, label)
    good = shell.json("start", "steps", "to=30", "pause=0.01", "--label", label)["id"]
    shell("pause", good, "--wait")
    which = ["--label", label, "--state", "failed", "--state", "paused"]
    states = [record["state"] for record in shell.lines("resume", *which, "-w", code=Exit.FAILED)]
    assert sorted(states) == ["failed", "succeeded"]


def test_what_came_about_is_0(shell: Shell, label: str) -> None:
    ids = [shell.json("start", "steps", *SLOW, "--label", label)["id"] for _ in range(2)]
    assert {p["state"] for p in shell.lines("pause", "--label", label, "--wait")} == {"paused"}
    shell("resume", *ids)
    assert {p["state"] for p in shell.lines("cancel", *ids, "--wait")} == {"cancelled"}
    shell("watch", ids[0], code=Exit.FAILED)
    other = shell.json("start", "steps", "to=1", "-w")["id"]
    shell("watch", other)
    shell("log", "-f", other)


def test_a_pause_that_came_too_late_is_no_success(shell: Shell) -> None:
    """Its last yield was behind it: it ends as `succeeded`, and is not paused."""
    id = shell.json("start", "tail", "seconds=1.5")["id"]
    shell("pause", id, "--wait", code=Exit.FAILED)
    assert f"{id} is succeeded, not paused" in shell.err


def test_a_time_limit_is_for_all_of_them(shell: Shell, client: holdfast.Client, label: str) -> None:
    ids = [shell.json("start", "steps", *SLOW, "--label", label)["id"] for _ in range(3)]
    shell("pause", "--label", label, "--wait")
    assert len(shell.lines("resume", *ids, "--wait", "--timeout", "0.3", code=Exit.TIMEOUT)) == 3
    assert {json.loads(line)["id"] for line in shell.err.splitlines()} == set(ids)
    client.processes.cancel_all(labels=dict([label.split("=")]))


def test_what_is_refused_to_one_is_done_to_the_others(shell: Shell, client: holdfast.Client) -> None:
    ended = shell.json("start", "steps", "to=1", "-w")["id"]
    running = shell.json("start", "steps", *SLOW)["id"]
    [done] = shell.lines("cancel", ended, "nowhere", running, "--wait", code=Exit.REFUSED)
    assert (done["id"], done["state"]) == (running, "cancelled")
    assert [json.loads(line)["id"] for line in shell.err.splitlines()] == [ended, "nowhere"]


ENDLESS = ["to=1000000000", "pause=0.01"]


def test_waiting_shows_the_end_and_its_exit_code(shell: Shell) -> None:
    assert "succeeded" in shell("start", "steps", "to=2", "--wait")
    assert shell.json("start", "steps", "to=2", "-w")["result"] == {"steps": 2}
    assert "no paper" in shell("start", "steps", "to=1", "fail=no paper", "-w", code=Exit.FAILED)
    id = shell("start", "steps", "to=2").split()[0]
    assert shell.json("watch", id)["state"] == "succeeded"


def test_ctrl_c_on_a_watch_leaves_the_process_running(
    shell: Shell, started: Started, terminal: tuple[int, int]
) -> None:
    id = shell("start", "steps", *ENDLESS).split()[0]
    main, side = terminal
    child = started("watch", id, stderr=side)
    read_until(main, id.encode())
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == Exit.INTERRUPTED
    read_until(main, b"keeps running")
    assert shell.json("cancel", id)["state"] == "cancelling"


def test_watching_everything_shows_what_runs(shell: Shell, started: Started, terminal: tuple[int, int]) -> None:
    id = shell("start", "steps", "to=3000", "pause=0.01").split()[0]
    main, side = terminal
    child = started("watch", stdout=side)
    read_until(main, id.encode())
    later = shell("start", "steps", "to=1", "--id", f"later-{uuid.uuid4().hex}").split()[0]
    read_until(main, later.encode())
    read_until(main, b"1 succeeded")
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == Exit.INTERRUPTED
    lines, piped = started("--json", "watch"), started("watch")
    assert lines.stdout is not None
    assert piped.stdout is not None
    assert json.loads(lines.stdout.readline())["id"] == id
    said: list[bytes] = []
    reader = threading.Thread(target=lambda: said.append(piped.stdout.readline()))  # type: ignore[union-attr]
    reader.start()
    wait_until(lambda: shell("start", "steps", "to=1") and said, 30)
    reader.join()
    assert b"steps-" in said[0]
    shell("cancel", id)
