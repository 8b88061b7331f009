"""The client, the command and the local server with a server below a base URL."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

import holdfast
from holdfast._client.download_link import DownloadLink
from holdfast.wire import FileLink
from tests.support.servers import ServerProcess

pytestmark = pytest.mark.slow

CONTENT = bytes(range(256)) * 20_000


def exercise(client: holdfast.Client, folder: Path) -> None:
    """Use what follows addresses: uploads of each kind, downloads, a process, events, a link, a folder."""
    source = folder / "source.bin"
    source.write_bytes(CONTENT)
    client.files.upload(source, "up/a b.bin").wait(60)
    client.files.write("small.txt", b"small")
    target = folder / "target.bin"
    client.files.download("up/a b.bin", target).wait(60)
    assert target.read_bytes() == CONTENT
    with client.files.open("up/a b.bin") as file:
        file.seek(1000)
        assert file.read(10) == CONTENT[1000:1010]
    process = client.processes.start("manifest")
    assert process.wait(60).state == "succeeded"
    assert client.processes.get(process.id).id == process.id
    assert {file.name for file in client.files.list()} >= {"up/a b.bin", "small.txt"}
    with pytest.raises(holdfast.errors.NotFound):
        client.files.read("none")
    assert client.openapi()["servers"]


def test_everything_works_below_a_base_url(spawn_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = spawn_server("--base-url", "user/jo/holdfast")
    assert server.url.endswith("/user/jo/holdfast/")
    with holdfast.Client(server.url) as client:
        exercise(client, tmp_path)
        assert httpx.get(client.files.download_link("small.txt").url).content == b"small"
    command = [sys.executable, "-m", "holdfast.cli", "--url", server.url, "cat", "small.txt"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"small"


def test_and_on_a_unix_socket(spawn_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    path = tmp_path / "a socket"
    server = spawn_server("--socket", str(path), "--base-url", "/below/")
    assert server.url == f"unix:{path}:/below/"
    with holdfast.Client(server.url) as client:
        exercise(client, tmp_path)


def test_a_local_server_has_its_port_again(tmp_path: Path) -> None:
    with holdfast.local_server(tmp_path / "data", flags=["--base-url", "/below/"]) as server:
        url = server.url
        assert url.endswith("/below/")
        server.kill()
        server.start()
        assert server.url == url
        with server.client() as client:
            assert client.ready()


@pytest.mark.parametrize("root", ["", "/below", "/hub/v1/files/x"])
@pytest.mark.parametrize(
    ("name", "path"),
    [("a", "/v1/files/a"), ("v1/files/a b", "/v1/files/v1/files/a%20b"), ("data/x", "/v1/archives/data/x.zip")],
)
def test_a_link_is_below_the_url_that_is_asked_for(root: str, name: str, path: str) -> None:
    """Also where the path differs from that by which this client reaches the server."""
    link = FileLink(name, f"{root}{path}?expires=1&signature=s", 1)
    assert DownloadLink("https://hub.example/user", link).url == f"https://hub.example/user{path}?expires=1&signature=s"
