"""The server as a process: how it starts, what it refuses, how it stops, what its log keeps to itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.servers import ServerProcess, wait_until
from tornado_app.__main__ import loop_factory

pytestmark = pytest.mark.slow

Spawn = Callable[..., ServerProcess]


def refuses(folder: Path, *flags: str, **environment: str) -> str:
    """Return the message on stderr of a server that does not start."""
    command = [sys.executable, "-m", "tornado_app", "--port", "0", "--data-dir", str(folder / "data")]
    command += ["--files-dir", str(folder / "files"), *flags]
    run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=30)
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    return run.stderr


@pytest.mark.parametrize("is_there", [True, False], ids=["uvloop", "no uvloop"])
def test_the_loop_is_uvloops_where_there_is_one(is_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_there:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        assert (type(runner.get_loop()).__module__ == "uvloop") is is_there


class TestStart:
    def test_one_line_on_stdout_once_it_answers(self, spawn_server: Spawn) -> None:
        server = spawn_server()
        assert server.url.startswith("http://127.0.0.1:")
        assert httpx.get(server.url + "/v1/work-types").status_code == 200
        server.stop()
        assert server.stdout == ""

    def test_settings_come_from_the_environment_and_flags_win(self, spawn_server: Spawn) -> None:
        server = spawn_server(
            "--default-work-type", "manifest", HOLDFAST_TOKEN="from-env", HOLDFAST_DEFAULT_WORK_TYPE="import-csv"
        )
        assert httpx.get(server.url + "/v1/work-types").status_code == 401
        answer = httpx.get(server.url + "/v1/work-types", headers={"Authorization": "Bearer from-env"})
        assert answer.json()["default"] == "manifest"

    def test_the_chunk_size_is_a_setting(self, spawn_server: Spawn) -> None:
        server = spawn_server(HOLDFAST_CHUNK_SIZE="10")
        (server.files_dir / "x.txt").write_text("0123456789ABC", encoding="utf-8")
        piece = httpx.get(server.url + "/download/?file_name=x.txt").json()
        assert (piece["file_content"], piece["is_complete"]) == ("0123456789", False)

    def test_a_second_server_on_one_data_directory_refuses_and_names_the_first(
        self, spawn_server: Spawn, tmp_path: Path
    ) -> None:
        first = spawn_server()
        said = refuses(tmp_path)
        assert f"pid {first.pid}" in said
        assert "--data-dir" in said
        assert httpx.get(first.url + "/v1/work-types").status_code == 200
        first.kill()
        first.start()  # a killed server leaves no lock behind

    def test_a_port_that_is_taken_is_said_plainly(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert port in refuses(tmp_path, "--port", port)

    def test_another_address_than_loopback_needs_a_token(self, spawn_server: Spawn, tmp_path: Path) -> None:
        said = refuses(tmp_path, "--address", "0.0.0.0")
        assert "token" in said
        assert "127.0.0.1" in said
        server = spawn_server("--address", "0.0.0.0", "--token", "x", "--allow-host", "127.0.0.1")
        port = server.url.rpartition(":")[2]
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/work-types", headers={"Authorization": "Bearer x"})
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        ("flags", "says"),
        [
            (["--chunk-size", "many"], "whole number"),
            (["--chunk-size", "3"], "at least 4"),
            (["--max-running", "0"], "more than 0"),
            (["--port", "70000"], "65535"),
            (["--log-level", "loud"], "debug, info, warning, error"),
            (["--database", "nothing"], "NAME=URL"),
            (["--database", "x=nothing"], "--database x: it is no SQLAlchemy URL"),
            (["--token", "a", "--token-file", "b"], "not both"),
            (["--token-file", "missing"], "can't be read"),
            (["--default-work-type", "nope"], "manifest"),
            (["--import", "no_such_module_anywhere"], "no_such_module_anywhere"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_a_setting_that_cannot_be_is_refused_and_says_what_would_do(
        self, tmp_path: Path, flags: list[str], says: str
    ) -> None:
        assert says in refuses(tmp_path, *flags)

    def test_a_data_directory_that_cannot_be_made_is_said_plainly(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way", encoding="utf-8")
        assert "--data-dir" in refuses(tmp_path, "--data-dir", str(tmp_path / "file" / "data"))


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_exits_0_with_work_running_which_goes_on_at_the_next_start(
        self, spawn_server: Spawn, number: signal.Signals
    ) -> None:
        server = spawn_server("--shutdown-grace", "5")
        with (server.files_dir / "big.bin").open("wb") as big:
            big.truncate(1 << 30)
        url = f"{server.url}/long/process/"
        httpx.get(url)
        wait_until(lambda: httpx.get(url).json()["progress"]["done"])
        assert server.stop(number) < 6
        server.restart()
        last = wait_until(lambda: (p := httpx.get(url).json())["ended"] and p)
        assert last["state"] == "succeeded"
        assert last["attempt"] >= 2

    def test_requests_in_flight_are_finished(self, spawn_server: Spawn) -> None:
        server = spawn_server()
        host, port = server.url.removeprefix("http://").split(":")
        body = b"x" * 100_000
        head = "POST /upload/?file_name=f.bin&bytes_read=0 HTTP/1.1\r\n"
        head += f"Host: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + body[:50_000])
            wait_until(lambda: any(p.stat().st_size for p in server.files_dir.rglob("*") if p.is_file()))
            os.kill(server.pid, signal.SIGTERM)
            connection.sendall(body[50_000:])
            connection.settimeout(10)
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        server.wait_for_clean_end()
        assert (server.files_dir / "f.bin").read_bytes() == body

    def test_work_that_never_yields_does_not_hold_it_up_longer_than_the_grace(
        self, spawn_server: Spawn, tmp_path: Path
    ) -> None:
        (tmp_path / "stubborn.py").write_text(STUBBORN, encoding="utf-8")
        server = spawn_server("--import", "stubborn", "--shutdown-grace", "1", PYTHONPATH=str(tmp_path))
        httpx.get(f"{server.url}/s/process/?work_type=stubborn")
        wait_until(lambda: httpx.get(f"{server.url}/s/process/").json()["progress"]["done"])
        assert server.stop() < 5
        server.restart()
        again = wait_until(lambda: (p := httpx.get(f"{server.url}/s/process/").json())["attempt"] == 2 and p)
        assert again["state"] == "running"
        assert server.stop() < 5

    def test_clients_that_wait_or_stall_do_not_hold_it_up(self, spawn_server: Spawn, tmp_path: Path) -> None:
        (tmp_path / "stubborn.py").write_text(STUBBORN, encoding="utf-8")
        server = spawn_server("--import", "stubborn", "--shutdown-grace", "2", PYTHONPATH=str(tmp_path))
        process = httpx.get(f"{server.url}/s/process/?work_type=stubborn").json()
        requests = [
            f"GET /v1/processes/s?wait=60&after={process['version'] + (1 << 40)} HTTP/1.1\r\n\r\n",
            "GET /v1/events HTTP/1.1\r\n\r\n",
            "POST /upload/?file_name=stalled.txt&bytes_read=0 HTTP/1.1\r\nContent-Length: 1000\r\n\r\nhalf",
            "GET /v1/work-types HTTP/1.1\r\nHost: local",
            "",
        ]
        host, port = server.url.removeprefix("http://").split(":")
        with contextlib.ExitStack() as stack:
            for request in requests:
                connection = stack.enter_context(socket.create_connection((host, int(port))))
                connection.sendall(request.replace("\r\n", f"\r\nHost: {host}\r\n", 1).encode())
            wait_until(lambda: any(server.files_dir.glob(".holdfast/uploads/seed-*")))
            assert server.stop() < 6


STUBBORN = """
import time
from holdfast.work import Progress, work_type

@work_type("stubborn")
def stubborn(job):
    yield Progress(done=1)
    time.sleep(3600)
"""


class TestLog:
    def test_secrets_never_reach_it(self, spawn_server: Spawn) -> None:
        server = spawn_server("--log-level", "debug", "--token", "hunter2-token")
        good = {"Authorization": "Bearer hunter2-token"}
        httpx.get(server.url + "/v1/work-types?token=hunter2-token", headers=good)
        httpx.get(server.url + "/hunter2-token/process/", headers=good)
        httpx.get(server.url + "/v1/work-types", headers={"Authorization": "Bearer wrong"})
        wait_until(lambda: server.log.count("holdfast.access") >= 3)
        server.stop()
        assert "hunter2" not in server.log
        assert "[token]" in server.log

    def test_json_lines_carry_the_request(self, spawn_server: Spawn) -> None:
        server = spawn_server("--log-format", "json")
        httpx.get(server.url + "/v1/work-types?private=1")
        lines = wait_until(
            lambda: [line for line in map(json.loads, server.log.splitlines()) if line["logger"] == "holdfast.access"]
        )
        line = lines[0]
        assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/work-types", 200)
        assert "private" not in server.log

    def test_the_log_level_is_kept(self, spawn_server: Spawn) -> None:
        server = spawn_server("--log-level", "error")
        httpx.get(server.url + "/v1/work-types")
        server.stop()
        assert server.log == ""


def test_the_command_line_explains_every_setting() -> None:
    run = subprocess.run([sys.executable, "-m", "tornado_app", "--help"], capture_output=True, text=True, check=True)
    assert "--files-dir" in run.stdout
    assert "--shutdown-grace" in run.stdout
