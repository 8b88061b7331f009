"""One rule of exit status for every command that waits: 0 only where what was waited for has come about."""

from __future__ import annotations

import json
import uuid

import pytest

import holdfast
from holdfast.cli._context import Exit
from tests.support.cli_shell import Shell

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
