"""The Jupyter extension in the single-user servers of a real JupyterHub."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.jupyterhub import Hub, memory_of
from tests.support.servers import PATIENCE, wait_until

pytestmark = pytest.mark.slow

MIB = 1 << 20
TUS = {"Tus-Resumable": "1.0.0"}
APPEND = {**TUS, "Content-Type": "application/offset+octet-stream"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub whose users have the extension; what it started is ended with it."""
    folder = tmp_path_factory.mktemp("h")
    state = folder / "state"
    state.mkdir(mode=0o700)
    names = ("HOLDFAST_STATE_DIR", "XDG_RUNTIME_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")
    environment = {name: str(state) for name in names}
    arguments = ["--ServerApp.jpserver_extensions", '{"holdfast.jupyter": True}']
    hub = Hub(folder, arguments=arguments, environment=environment)
    try:
        with hub:
            yield hub
    finally:
        for pid in shared_servers(state):
            os.kill(pid, signal.SIGKILL)


def shared_servers(state: Path) -> set[int]:
    """Process ids of the servers that the extension has started, by their notes."""
    notes = (json.loads(note.read_text()) for note in (state / "servers").glob("*.json"))
    return {note["pid"] for note in notes if Path(f"/proc/{note['pid']}").exists()}


def through(hub: Hub, name: str) -> httpx.Client:
    """Start the server of a user; return a client of Holdfast in it, with a token of that user."""
    url = hub.start_server(name)
    headers = {"Authorization": f"token {hub.token_of(name)}"}
    return httpx.Client(base_url=f"{url}holdfast", headers=headers, timeout=PATIENCE)


def test_an_upload_survives_a_restart_of_the_users_server(hub: Hub) -> None:
    content = random.Random(17).randbytes(48 * MIB)
    sent = 32 * MIB
    with through(hub, "ada") as client:
        length = {"Upload-Length": str(len(content)), "Upload-Metadata": "filename YmlnLmJpbg=="}
        where = client.post("/v1/uploads", headers={**TUS, **length}).headers["Location"]
        assert where.startswith("/user/ada/holdfast/v1/uploads/")
        head = f"PATCH {where} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\nUpload-Offset: 0\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in APPEND.items())
        head += f"Authorization: {client.headers['Authorization']}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", hub.port)) as connection:
            connection.sendall(head.encode() + content[:sent])
            wait_until(lambda: offset(client, where) >= sent - MIB, what="the upload is on its way")
            hub.stop_server("ada")
    with through(hub, "ada") as client:
        kept = offset(client, where)
        assert kept >= sent - MIB, "what came is kept"
        rest = client.patch(url(hub, where), headers={**APPEND, "Upload-Offset": str(kept)}, content=content[kept:])
        assert (rest.status_code, rest.headers["Upload-Offset"]) == (204, str(len(content)))
        got = client.get("/v1/files/big.bin").content
        assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()
    assert (hub.homes / "ada/big.bin").stat().st_size == len(content), "it is among the files of the user's Jupyter"


def test_a_process_runs_on_while_the_users_server_is_stopped(hub: Hub) -> None:
    with through(hub, "carl") as client:
        (hub.homes / "carl/table.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(1000)))
        params = {"file_name": "table.csv", "table": "numbers", "batch_rows": 10}
        client.post(
            "/v1/processes", json={"id": "load", "work_type": "import-csv", "params": params}
        ).raise_for_status()
        hub.stop_server("carl")
    with through(hub, "carl") as client:
        process = client.get("/v1/processes/load").json()
        while process["state"] != "succeeded":
            assert process["state"] in ("queued", "running"), process
            process = client.get(f"/v1/processes/load?wait=30&after={process['version']}").json()
        assert (process["attempt"], process["result"]["rows"]) == (1, 1000)


def test_nobody_gets_into_anothers(hub: Hub) -> None:
    with through(hub, "ada") as client:
        client.put("/v1/files/private.txt", content=b"x").raise_for_status()
        path = urlsplit(str(client.base_url)).path
    mallory = {"Authorization": f"token {hub.token_of('mallory')}"}
    for headers in (mallory, {}, {"Authorization": "token guessed"}):
        answer = httpx.get(f"{hub.url}{path}v1/files/private.txt", headers=headers)
        assert answer.status_code in (302, 403), answer.text
        put = httpx.put(f"{hub.url}{path}v1/files/private.txt", headers=headers, content=b"y")
        assert put.status_code in (302, 403), put.text


def test_a_big_file_costs_no_hop_memory(hub: Hub) -> None:
    with through(hub, "ada") as client:
        client.put("/v1/files/warm.bin", content=bytes(4 * MIB)).raise_for_status()
        hops = [hub.pid, hub.proxy_pid, *shared_servers(hub.folder / "state")]
        before = {pid: memory_of(pid) for pid in hops}
        piece = random.Random(5).randbytes(MIB)
        size = 256 * MIB
        body = (piece for _ in range(size // MIB))
        answer = client.put("/v1/files/half.bin", content=body, headers={"Content-Length": str(size)})
        assert answer.status_code == 201, answer.text
        got = 0
        with client.stream("GET", "/v1/files/half.bin") as stream:
            for part in stream.iter_bytes(MIB):
                got += len(part)
        assert got == size
        grown = {pid: memory_of(pid) - before[pid] for pid in hops}
        assert all(more <= 64 * MIB for more in grown.values()), grown
        assert client.delete("/v1/files/half.bin").status_code == 204


def url(hub: Hub, path: str) -> str:
    return hub.url + path


def offset(client: httpx.Client, where: str) -> int:
    """Return how far an upload is. It ends no request, as HEAD would."""
    path = where.removeprefix(urlsplit(str(client.base_url)).path.rstrip("/"))
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["offset"])
