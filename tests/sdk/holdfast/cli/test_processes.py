"""Commands about processes: start, list, log and the verbs, for one and for many."""

from __future__ import annotations

import json
import uuid

import pytest

from holdfast.cli._context import Exit
from tests.support.cli_shell import Shell

ENDLESS = ["to=1000000000", "pause=0.01"]
pytestmark = pytest.mark.slow


def test_a_process_from_start_to_end(shell: Shell) -> None:
    id = f"cli-{uuid.uuid4().hex}"
    assert shell("start", "steps", *ENDLESS, "--id", id, "--label", "team=a", "--priority", "3").startswith(id)
    assert "holdfast watch" in shell.err
    shell("pause", id, "--wait")
    assert shell.json("show", id)["state"] == "paused"
    assert "team=a" in shell("show", id)
    assert id in shell("ps", "--state", "paused", "--label", "team=a", "--work-type", "steps")
    assert [p["id"] for p in shell.lines("ps", "--label", "team=a")] == [id]
    assert "paused" in shell("pause", id, code=Exit.REFUSED) + shell.err
    assert shell("resume", id).split()[0] == id
    assert shell.json("cancel", id, "--wait")["state"] == "cancelled"
    assert shell("log", id)
    assert shell.json("ps", "-n", "1", "--state", "cancelled")


def test_waiting_can_have_a_limit(shell: Shell) -> None:
    id = f"cli-{uuid.uuid4().hex}"
    shell("start", "steps", *ENDLESS, "--id", id, "--wait", "--timeout", "0.1", code=Exit.TIMEOUT)
    shell("resume", id, code=Exit.REFUSED)
    shell("cancel", id, "--wait", "--timeout", "20")
    assert shell.json("show", id)["state"] == "cancelled"


def test_bulk_verbs_take_filters(shell: Shell) -> None:
    label = f"run={uuid.uuid4().hex}"
    ids = {shell.json("start", "steps", *ENDLESS, "--label", label)["id"] for _ in range(3)}
    assert {process["id"] for process in shell.lines("cancel", "--label", label)} == ids
    assert shell("pause", "--label", label, "--state", "failed") == ""
    assert "No process matches" in shell.err
    for arguments in (["cancel"], ["cancel", "x", "--label", label]):
        shell(*arguments, code=Exit.USAGE)


def test_a_log_can_be_followed(shell: Shell) -> None:
    id = shell("start", "steps", "to=20", "pause=0.02").split()[0]
    lines = shell("log", "-f", id).splitlines()
    assert [line.split("\t")[1] for line in lines if "step" in line] == [f"step {n}" for n in range(20)]
    assert json.loads(shell("log", id, "--json").splitlines()[0])["seq"]


def test_parameters_mean_what_the_work_type_says(shell: Shell) -> None:
    process = shell.json("start", "steps", "to=2", "pause=0", "fail=123")
    assert process["params"] == {"to": 2, "pause": 0.0, "fail": "123"}
    shell("start", "steps", "to=many", code=Exit.REFUSED)
    assert "to" in shell.err
    assert "steps" in shell("start", "stepps", code=Exit.REFUSED) + shell.err
    shell("start", "steps", "nonsense", code=Exit.USAGE)


def test_what_can_not_be_done_in_bulk_is_told_of_each(shell: Shell) -> None:
    group = uuid.uuid4().hex
    ids = [
        shell("start", "steps", "to=1", "-w", "--label", f"group={group}", "--json").split('"id":"')[1].split('"')[0]
    ]
    shell("cancel", *ids, code=Exit.REFUSED)
    assert "It has ended" in shell.err
    assert shell.lines("resume", "--label", f"group={group}") == []
