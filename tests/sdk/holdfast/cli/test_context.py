"""A server that never answered is exit status 5; what has begun says what it waits for; errors are told in words."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

import holdfast
from holdfast import errors
from holdfast.cli._context import Exit
from tests.support.cli_shell import Shell, Started, on_terminal
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess, free_port, wait_until

pytestmark = pytest.mark.slow

CONTACTS = [
    *(("ps",), ("show", "x"), ("watch",), ("watch", "x"), ("log", "x"), ("log", "-f", "x")),
    *(("start", "steps"), ("start", "steps", "--wait"), ("work-types",), ("version",)),
    *(("pause", "x"), ("resume", "x", "--wait"), ("cancel", "--label", "a=b"), ("kill", "x")),
    *(("ls",), ("rm", "x"), ("download", "x"), ("download", "x/", "--segments", "2")),
    *(("upload", "file"), ("upload", "big"), ("upload", "folder"), ("upload", "-", "--to", "x")),
]


@pytest.fixture(autouse=True)
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "big").write_bytes(bytes(20 << 20))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a").write_text("x")


@contextmanager
def answering(status: int, content_type: str, body: bytes) -> Iterator[str]:
    """A server that gives everybody one answer."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if self.command != "HEAD" else b"")

        do_GET = do_HEAD = do_POST = do_PUT = do_OPTIONS = answer

        def log_message(self, *arguments: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("arguments", CONTACTS, ids=" ".join)
def test_where_no_server_is_every_command_ends_with_5_without_another_try(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    shell = Shell(f"http://127.0.0.1:{free_port()}", capsys)
    with Path("file").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        shell(*arguments, code=Exit.UNREACHABLE)
    assert "retrying" not in shell.err
    assert waited == []


def test_something_that_takes_connections_and_never_answers_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    came = 0

    def hang_up(listener: socket.socket) -> None:
        nonlocal came
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            came += 1
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
        shell = Shell(f"http://127.0.0.1:{listener.getsockname()[1]}", capsys)
        shell("download", "x", code=Exit.UNREACHABLE)
        assert "retrying in" in shell.err
        assert came == 3
        listener.shutdown(socket.SHUT_RDWR)


def test_a_transfer_that_has_begun_says_when_it_tries_again(
    served: ServerProcess, client: holdfast.Client, faulty: Callable[..., FaultyProxy], shell: Shell
) -> None:
    name = uuid.uuid4().hex
    client.files.write(name, bytes(3 << 20))
    cut = Fault(when=b"GET /v1/files/", cut_down=1 << 20)
    proxy = faulty(cut)
    shell("--url", proxy.url, "download", name)
    assert "retrying in 1 s" in shell.err
    proxy = faulty(Fault(when=b"GET /v1/files/", cut_down=1 << 20))
    shell("--url", proxy.url, "download", name, "--to", "again", "--json")
    said = json.loads(shell.err)
    assert said["error"] == "ConnectionBroken"
    assert said["retrying_in"] >= 0


def test_a_watch_outlives_a_restart_and_says_what_it_waits_for(
    spawn_server: Callable[..., ServerProcess], started: Started
) -> None:
    server = spawn_server("--import", "tests.support.sdk_work", PYTHONPATH=str(Path(__file__).parents[4]))
    with holdfast.Client(server.url) as client:
        id = client.processes.start("steps", to=200, pause=0.05).id
        child = started("--url", server.url, "watch", id)
        assert child.stderr is not None
        wait_until(lambda: (client.processes.get(id).progress.done or 0) > 3)
        wait_until(lambda: "holdfast_watchers 1.0" in _metrics(server))
        server.kill()
        line = child.stderr.readline()
        assert b"retrying in" in line
        server.restart()
        out, _ = child.communicate(timeout=120)
        assert child.returncode == 0
        assert b"succeeded" in out


def _metrics(server: ServerProcess) -> str:
    run = subprocess.run(["curl", "-s", f"{server.url}/metrics"], capture_output=True, text=True, check=True)
    return run.stdout


PAGE = b"<!DOCTYPE html><html><head><title>502 Bad\n Gateway</title></head><body>" + b"<p>nginx" * 100


@pytest.mark.parametrize(
    ("status", "content_type", "body", "code"),
    [
        (502, "text/html", PAGE, Exit.UNREACHABLE),
        (403, "text/html; charset=utf-8", PAGE, Exit.NOT_ALLOWED),
        (200, "text/html", PAGE, Exit.FAILED),
        (404, "text/plain", PAGE, Exit.NOT_FOUND),
    ],
)
def test_a_page_of_a_proxy_is_told_by_its_title_and_not_printed(
    status: int, content_type: str, body: bytes, code: Exit, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(status, content_type, body) as url:
        shell = Shell(url, capsys)
        for arguments in (["ps"], ["show", "x"], ["ps", "--json"]):
            shell(*arguments, code=code)
            assert "<" not in shell.err
            assert "nginx" not in shell.err
            assert "a web page titled '502 Bad Gateway'" in shell.err
    assert str(errors.from_answer(500, {}, b"  <html>")).endswith("Check the URL (500)")


def test_a_wrong_token_is_told_as_not_accepted(
    spawn_server: Callable[..., ServerProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    url = spawn_server(HOLDFAST_TOKEN="right").url
    shell = Shell(url, capsys)
    shell("--token", "wrong", "ps", code=Exit.NOT_ALLOWED)
    assert "was not accepted" in shell.err
    assert "Give the server's token" not in shell.err
    shell("ps", code=Exit.NOT_ALLOWED)
    assert "Give the server's token" in shell.err
    assert "not accepted" not in shell.err
    wrong = httpx.get(f"{url}/v1/files", headers={"Authorization": "Bearer wrong"})
    assert wrong.json()["detail"].startswith("the token was not accepted; send ")
    assert httpx.get(f"{url}/v1/files").json()["detail"].startswith("send ")


def test_the_bar_says_that_the_digest_is_made(
    client: holdfast.Client, served: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of the command whose digest takes a while: on its terminal the bar says so, and does not stand."""
    name = uuid.uuid4().hex
    client.files.write(name, bytes(1 << 20))
    (tmp_path / "sitecustomize.py").write_text(
        "import time, holdfast._local_files.local_digests as local\n"
        "step = local.LocalDigests.step\n"
        "def slow(self):\n    time.sleep(1.5)\n    return step(self)\n"
        "local.LocalDigests.step = slow\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = "\n".join(on_terminal("--url", served.url, "download", name, "--to", "there", columns=120))
    assert f"{name}: checking" in said
