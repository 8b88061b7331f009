"""Uploads of changes alone, and of content that the server has, whose client or server is killed, or lacks BLAKE3."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

import holdfast
from holdfast import digests, errors
from tests.support.edits import change
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess

MIB = 1 << 20

pytestmark = pytest.mark.slow

Faulty = Callable[..., FaultyProxy]
Make = Callable[[int], Path]
Spawn = Callable[..., ServerProcess]


def killed_at(server: ServerProcess, point: str) -> None:
    """Start a server again that kills itself at this point."""
    server.stop()
    server.environment["HOLDFAST_FAULT"] = point
    server.restart()


def revive(server: ServerProcess) -> None:
    server.wait_for_death()
    server.environment.pop("HOLDFAST_FAULT")
    server.restart()


@pytest.mark.parametrize(
    "point", ["create.made", "blocks.copied", "blocks.written:2", "publish.before-rename", "publish.after-rename"]
)
def test_a_delta_outlives_the_death_of_the_server(spawn_server: Spawn, make: Make, point: str) -> None:
    server, path = spawn_server(), make(16 * MIB)
    with holdfast.Client(server.url) as client:
        client.files.upload(path).wait(60)
        change(path, *(block * MIB for block in range(0, 16, 3)))
        killed_at(server, point)
        transfer = client.files.upload(path, delta=True)
        revive(server)
        file = transfer.wait(60)
        assert file.block_digest == digests.of_file(path.read_bytes()).hex()
        assert client.files.read(path.name) == path.read_bytes()
        assert transfer.sent < 16 * MIB


@pytest.mark.parametrize("point", ["blocks.adopted", "blocks.linked", "publish.after-rename"])
def test_known_content_outlives_the_death_of_the_server(spawn_server: Spawn, make: Make, point: str) -> None:
    server, path = spawn_server(), make(64 * MIB)
    with holdfast.Client(server.url) as client:
        client.files.upload(path, segments=2).wait(60)
        killed_at(server, point)
        transfer = client.files.upload(path, "again.bin")
        revive(server)
        file = transfer.wait(60)
        assert file.block_digest == digests.of_file(path.read_bytes()).hex()
        for name in (path.name, "again.bin"):
            assert (server.files_dir / name).read_bytes() == path.read_bytes()
        client.files.delete(path.name)
        assert client.files.info("again.bin").block_digest == file.block_digest


def kill_at_fault(proxy: FaultyProxy, statement: str, path: Path) -> None:
    """Run an upload in a process of its own, and kill that where the proxy's fault has happened."""
    code = f"import sys, holdfast; files = holdfast.Client(sys.argv[1]).files; {statement}.wait()"
    child = subprocess.Popen([sys.executable, "-c", code, proxy.url, str(path)])
    try:
        proxy.wait_for(lambda p: p.happened == 1)
    finally:
        child.kill()
        child.wait()


def test_the_next_client_goes_on_with_a_delta(
    client: holdfast.Client, served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path = make(16 * MIB)
    client.files.upload(path).wait(60)
    change(path, *(block * MIB for block in range(8)))
    proxy = faulty(Fault(when=b"PUT ", stall_up=3 * MIB))
    kill_at_fault(proxy, "files.upload(sys.argv[2], delta=True, segments=1)", path)
    with holdfast.Client(proxy.url) as through:
        [pending] = through.transfers.pending()
        assert pending.delta
        transfer = through.transfers.resume(pending)
        transfer.wait(60)
        assert transfer.sent <= 8 * MIB
        assert through.transfers.pending() == []
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()


def test_the_next_client_goes_on_with_known_content(
    client: holdfast.Client, served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path = make(64 * MIB)
    client.files.upload(path, segments=2).wait(60)
    name = f"{path.stem}.again"
    proxy = faulty(Fault(when=b"/end HTTP", stall_up=0))
    kill_at_fault(proxy, f"files.upload(sys.argv[2], {name!r})", path)
    assert not (served.files_dir / name).exists()
    with holdfast.Client(proxy.url) as through:
        [pending] = through.transfers.pending()
        transfer = through.transfers.resume(pending)
        transfer.wait(60)
        assert transfer.sent == 0
    assert (served.files_dir / name).read_bytes() == path.read_bytes()


def test_a_lost_answer_to_the_creation_costs_no_byte_twice(
    client: holdfast.Client, served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path = make(16 * MIB)
    client.files.upload(path).wait(60)
    change(path, MIB)
    proxy = faulty(Fault(when=b"POST /v1/block-uploads ", swallow_answer=True))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path, delta=True)
        transfer.wait(60)
        assert (proxy.happened, transfer.sent) == (1, MIB)
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()


@pytest.fixture
def without_blake3(spawn_server: Spawn, tmp_path: Path) -> ServerProcess:
    """A server on a machine where blake3 can't be imported."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "blake3.py").write_text("raise ImportError('it is not installed')\n")
    return spawn_server(PYTHONPATH=str(tmp_path / "modules"))


@pytest.mark.parametrize("size", [1000, 5 * MIB])
def test_a_delta_to_a_server_without_blake3_sends_all(without_blake3: ServerProcess, make: Make, size: int) -> None:
    path = make(size)
    with holdfast.Client(without_blake3.url) as client:
        assert client.files.upload(path).wait(60).block_digest is None
        same = client.files.upload(path, delta=True)
        same.wait(60)
        assert same.sent == 0
        change(path, size // 2)
        with httpx.Client(base_url=without_blake3.url) as http:
            assert http.get(f"/v1/digests/{path.name}").status_code == 503
        transfer = client.files.upload(path, delta=True)
        file = transfer.wait(60)
        assert transfer.sent == size
        assert file.sha256 == client.files.info(path.name, sha256=True).sha256
    assert (without_blake3.files_dir / path.name).read_bytes() == path.read_bytes()


def test_a_client_without_blake3_verifies_by_the_sha256_that_it_waits_for(
    client: holdfast.Client, served: ServerProcess, faulty: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has not made it yet: of a file that was uploaded it has block digests alone."""
    data = bytes(range(256)) * 4096 * 3
    name = f"{tmp_path.name}.bin"
    client.files.upload(data, name).wait(60)
    monkeypatch.setattr(digests, "AVAILABLE", False)
    assert client.files.download(name, tmp_path / "whole").wait(60).read_bytes() == data
    proxy = faulty(Fault(when=b"GET ", flip_down=MIB))
    with holdfast.Client(proxy.url) as through, pytest.raises(errors.DigestMismatch):
        through.files.download(name, tmp_path / "flipped").wait(60)
    assert not (tmp_path / "flipped").exists()
