"""The command `holdfast`, as a script or a person runs it: real commands against a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from holdfast import cli
from holdfast.wire import State
from tests.servers import ServerProcess, wait_until

Run = Callable[..., Result]

COMMANDS = [
    "cancel",
    "demo",
    "download",
    "kill",
    "log",
    "ls",
    "pause",
    "ps",
    "resume",
    "rm",
    "serve",
    "show",
    "start",
    "transfers",
    "upload",
    "version",
    "watch",
    "work-types",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("cli"), ["--import", "tests.sdk.cli_work"])
    server.start()
    yield server
    server.end()


@pytest.fixture
def run(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))

    def run(*arguments: str, status: int = 0) -> Result:
        result = CliRunner().invoke(cli.main, ["--url", server.url, *arguments])
        assert result.exit_code == status, (result.output, result.stderr, result.exception)
        return result

    return run


def values(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_command_is_there_and_has_help() -> None:
    assert sorted(cli.main.commands) == sorted(COMMANDS)
    for name in COMMANDS:
        assert cli.main.commands[name].help


@pytest.mark.slow
def test_a_process_from_start_to_end(run: Run) -> None:
    assert (
        run("start", "cli-count", "to=200", "seconds=0.02", "--id", "c1", "--label", "of=test").output.strip() == "c1"
    )
    assert "c1 is paus" in run("pause", "c1").output
    wait_until(lambda: values(run("--json", "show", "c1"))[0]["state"] == "paused", what="the pause")
    shown = run("show", "c1").output
    assert "paused" in shown
    assert "cli-count" in shown
    listed = values(run("--json", "ps", "--label", "of=test", "--state", "paused"))[0]
    assert [one["id"] for one in listed] == ["c1"]
    assert "c1" in run("ps", "--work-type", "cli-count").output
    run("resume", "c1")
    assert "c1 is cancel" in run("cancel", "c1").output
    run("watch", "c1", status=cli.FAILED)
    assert run("pause", "c1", status=cli.REFUSED).stderr.startswith("holdfast: ")


@pytest.mark.slow
def test_wait_shows_the_result_and_log_what_was_logged(run: Run) -> None:
    assert run("start", "cli-count", "to=3", "--id", "c2", "--wait").output.rstrip().endswith("\n3")
    assert "counted 1" in run("log", "c2", "--follow").output
    assert values(run("--json", "log", "c2"))[0]["message"] == "counted 1"
    failed = run("start", "cli-count", "to=-1", "--wait", status=cli.FAILED)
    assert "below zero" in failed.stderr
    assert values(run("--json", "start", "cli-count", "to=1", "--wait"))[0]["state"] == State.SUCCEEDED


@pytest.mark.slow
def test_files_go_up_and_down_and_away(run: Run, tmp_path: Path, server: ServerProcess) -> None:
    source = tmp_path / "a file.bin"
    source.write_bytes(os.urandom(300_000))
    assert "a file.bin" in run("upload", str(source)).stdout
    assert "a file.bin" in run("ls").output
    assert values(run("--json", "ls", "a "))[0]["size"] == 300_000
    run("download", "a file.bin", "--to", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == source.read_bytes()
    assert values(run("--json", "transfers")) == [[]]
    assert "deleted" in run("rm", "a file.bin").output
    assert "no file" in run("rm", "a file.bin", status=cli.NOT_FOUND).stderr.lower()


@pytest.mark.slow
def test_ctrl_c_pauses_a_transfer_and_the_same_command_goes_on(tmp_path: Path, server: ServerProcess) -> None:
    source = tmp_path / "big.bin"
    source.write_bytes(os.urandom(4_000_000))
    state = {name: str(tmp_path / name) for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
    command = [sys.executable, "-m", "holdfast.cli", "--url", server.url, "upload", str(source)]
    slow = subprocess.Popen([*command, "--limit", "1000000"], env=os.environ | state, stderr=subprocess.PIPE, text=True)
    uploads = f"{server.url}/v1/uploads"
    wait_until(lambda: _brought(uploads) > 100_000, what="the first bytes")
    slow.send_signal(signal.SIGINT)
    _, said = slow.communicate(timeout=20)
    assert slow.returncode == cli.INTERRUPTED, said
    assert "the same command goes on" in said
    done = subprocess.run(command, env=os.environ | state, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (server.files_dir / "big.bin").read_bytes() == source.read_bytes()


def _brought(url: str) -> int:
    return sum(item["offset"] for item in httpx.get(url).json()["items"] if item["name"] in ("big.bin", ""))


def test_what_is_wrong_is_one_line_and_a_status(run: Run) -> None:
    assert "nobody" in run("show", "nobody", status=cli.NOT_FOUND).stderr
    assert "there is no work type" in run("start", "nope", status=cli.REFUSED).stderr
    assert "should be NAME=VALUE" in run("start", "cli-count", "to", status=2).stderr
    assert "goes with one PATH" in run("upload", __file__, __file__, "--name", "x", status=2).stderr


def test_a_server_that_is_not_there_is_status_5(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.plans.LONG_POLL", 0.1)
    result = CliRunner().invoke(cli.main, ["--url", "http://127.0.0.1:9", "show", "x"])
    assert result.exit_code == cli.UNREACHABLE
    assert CliRunner().invoke(cli.main, ["--url", "ftp://x", "ls"]).exit_code == 2


def test_version_and_work_types(run: Run) -> None:
    assert run("version").output.startswith("holdfast ")
    assert "manifest" in run("work-types").output
    assert "cli-count" in [one["name"] for one in values(run("--json", "work-types"))[0]]


@pytest.mark.slow
def test_serve_starts_a_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "holdfast.cli", "serve", "--port", "0", "--files-dir", "f", "--data-dir", "d"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Holdfast serving on http://127.0.0.1:")
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0
