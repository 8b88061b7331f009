"""The server of the Jupyter extension: found, reached by the shortest way, and Jupyter's token sent to nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast._connect import jupyter_server
from holdfast._environment import listeners
from tests.sdk.holdfast._connect.conftest import Answer, Listener
from tests.support.servers import ServerProcess, free_port

Listen = Callable[[Answer], Listener]
Spawn = Callable[..., ServerProcess]
InJupyter = Callable[..., Path]

TOKEN = "jupyter-s3cret"


def extension(server: str, proof: str = "", base_url: str = "/") -> Answer:
    """Answer as Jupyter with the extension, whose server is `server`, does. `proof` is that of its server."""

    def answer(path: str, headers: dict[str, str]) -> tuple[int, Any]:
        if headers.get("authorization") != f"token {TOKEN}":
            return 403, {}
        if path == f"{base_url}holdfast-info":
            return 200, {"url": server, "instance": "abc"}
        if path.startswith(f"{base_url}holdfast/v1/identity?nonce="):
            nonce = path.partition("nonce=")[2]
            if proof:
                return 200, {"instance": "abc", "proof": proof}
            with holdfast.Client(server, retries=0) as client:
                return 200, {"instance": "abc", "proof": client.identity(nonce).proof}
        return 404, {"message": "Not Found"}

    return answer


@pytest.mark.slow
def test_the_socket_of_its_server_is_taken_once_both_ways_have_the_same_proof(
    spawn_server: Spawn, listen: Listen, in_jupyter: InJupyter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = spawn_server("--socket", str(tmp_path / "s"))
    jupyter = listen(extension(server.url, base_url="/user/ann/"))
    in_jupyter(url=f"{jupyter.url}/user/ann/", base_url="/user/ann/", token=TOKEN)
    with holdfast.connect() as client:
        assert client.base_url == server.url
        assert client.page_url == "/user/ann/holdfast/"
        assert not client.token
        client.files.write("a", b"1")
    assert capsys.readouterr().out == "Connected to the Holdfast server of this Jupyter\n"


@pytest.mark.slow
def test_another_server_on_that_socket_is_passed_over_for_the_way_through_jupyter(
    spawn_server: Spawn, listen: Listen, in_jupyter: InJupyter, tmp_path: Path
) -> None:
    server = spawn_server("--socket", str(tmp_path / "s"))
    jupyter = listen(extension(server.url, proof="bm90aGluZw"))
    in_jupyter(url=f"{jupyter.url}/", token=TOKEN)
    with holdfast.connect(quiet=True) as client:
        assert client.base_url == f"{jupyter.url}/holdfast"
        assert client.token == TOKEN


def test_a_socket_of_another_machine_is_reached_through_jupyter(listen: Listen, in_jupyter: InJupyter) -> None:
    jupyter = listen(extension("unix:/nowhere/holdfast.sock", proof="bm90aGluZw"))
    in_jupyter(url=f"{jupyter.url}/", token=TOKEN)
    found = jupyter_server.find()
    assert found is not None
    assert (found.url, found.token, found.page_url) == (f"{jupyter.url}/holdfast/", TOKEN, "/holdfast/")
    assert TOKEN not in repr(found)


def test_what_listens_everywhere_is_asked_on_this_machine(listen: Listen, in_jupyter: InJupyter) -> None:
    jupyter = listen(extension("http://127.0.0.1:1", proof="bm90aGluZw"))
    in_jupyter(url=f"http://a-name-that-nobody-has.invalid:{jupyter.port}/", hostname="0.0.0.0", token=TOKEN)
    found = jupyter_server.find()
    assert found is not None
    assert found.url == f"{jupyter.url}/holdfast/"


def test_jupyterhub_around_this_python_with_its_token(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    jupyter = listen(extension("unix:/nowhere", proof="bm90aGluZw", base_url="/user/ann/"))
    monkeypatch.setenv("JUPYTERHUB_SERVICE_URL", f"http://0.0.0.0:{jupyter.port}/user/ann/")
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ann/")
    assert jupyter_server.find() is None
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", TOKEN)
    found = jupyter_server.find()
    assert found is not None
    assert (found.url, found.token) == (f"{jupyter.url}/user/ann/holdfast/", TOKEN)


def test_a_single_user_server_keeps_its_token_in_the_environment(
    listen: Listen, in_jupyter: InJupyter, monkeypatch: pytest.MonkeyPatch
) -> None:
    jupyter = listen(extension("unix:/nowhere", proof="bm90aGluZw", base_url="/user/ann/"))
    in_jupyter(url=f"{jupyter.url}/user/ann/", base_url="/user/ann/", token="")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", TOKEN)
    found = jupyter_server.find()
    assert found is not None
    assert found.token == TOKEN


def test_a_jupyter_without_the_extension_is_passed_over(listen: Listen, in_jupyter: InJupyter) -> None:
    for answer in ((404, {"message": "Not Found"}), (403, {}), (302, b""), (200, b"<html>"), (200, {"url": 7})):
        jupyter = listen(lambda path, headers, answer=answer: answer)  # type: ignore[misc]
        in_jupyter(url=f"{jupyter.url}/", token=TOKEN)
        assert jupyter_server.find() is None
        assert [path for path, _ in jupyter.requests] == ["/holdfast-info"]


def test_an_extension_that_can_not_start_its_server_says_why(listen: Listen, in_jupyter: InJupyter) -> None:
    jupyter = listen(lambda path, headers: (503, {"detail": "the server needs tornado"}))
    in_jupyter(url=f"{jupyter.url}/", token=TOKEN)
    found = jupyter_server.find()
    assert found is not None
    assert (found.url, found.refusal) == ("", "the server needs tornado")


def test_a_jupyter_that_has_ended_is_not_asked(in_jupyter: InJupyter) -> None:
    in_jupyter(url=f"http://127.0.0.1:{free_port()}/", token=TOKEN)
    assert jupyter_server.find() is None


def test_a_record_that_others_could_have_written_is_not_read(listen: Listen, in_jupyter: InJupyter) -> None:
    jupyter = listen(extension("unix:/nowhere"))
    in_jupyter(url=f"{jupyter.url}/", token=TOKEN).chmod(0o666)
    assert jupyter_server.find() is None
    assert jupyter.requests == []


@pytest.mark.parametrize(
    "record", [{}, {"url": 7}, {"url": "http://[::1"}, {"url": "ftp://here/"}, {"url": "http://h:99999/"}]
)
def test_a_record_that_is_none_is_passed_over(in_jupyter: InJupyter, record: dict[str, Any]) -> None:
    in_jupyter(**record)
    assert jupyter_server.find() is None


def test_who_took_the_port_of_a_jupyter_that_has_ended_does_not_get_its_token(
    listen: Listen, in_jupyter: InJupyter, monkeypatch: pytest.MonkeyPatch
) -> None:
    jupyter = listen(extension("unix:/nowhere"))
    in_jupyter(url=f"{jupyter.url}/", token=TOKEN)
    monkeypatch.setattr(listeners, "is_own", lambda port: False)
    assert jupyter_server.find() is None
    monkeypatch.setattr(listeners, "is_own", lambda port: None)  # a system without tables, and not the parent
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert jupyter_server.find() is None
    assert jupyter.requests == []


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux and its root, for two users")
@pytest.mark.slow
def test_a_port_of_another_user_is_told_from_an_own_one() -> None:
    script = (
        "import os, socket\nos.setuid(65534)\n"
        "s = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-S", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert listeners.is_own(int(other.stdout.readline())) is False
        other.stdin.close()
