"""More connections and files than descriptors: whoever gets none waits, or is told the reason."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.servers import ServerProcess, wait_until
from tornado_app.files.store.local.published import LocalStore

Spawn = Callable[..., ServerProcess]

REQUESTS = {
    "GET /v1/files/a.txt": "",
    "GET /v1/files": "",
    "PUT /v1/files/b.txt": "Content-Length: 0\r\n",
    "POST /v1/uploads": "Tus-Resumable: 1.0.0\r\nUpload-Length: 3\r\n",
}


@pytest.mark.slow
class TestWithout:
    def test_connections_wait_and_requests_get_a_503(self, spawn_server: Spawn) -> None:
        server = spawn_server()
        (server.files_dir / "a.txt").write_text("hello")
        assert httpx.get(f"{server.url}/v1/files/a.txt").text == "hello"
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        used = len(os.listdir(f"/proc/{server.pid}/fd"))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 10, used + 10))
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(20)]
            wait_until(lambda: "new connections wait: Too many open files" in server.log)
            for client, (start, headers) in zip(clients, REQUESTS.items(), strict=False):
                client.sendall(f"{start} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
                answer = client.recv(10_000)
                assert answer.startswith(b"HTTP/1.1 503 "), start
                assert b"Retry-After: 1\r\n" in answer
                assert b"as many files and connections open as its system allows" in answer
            waiting = clients[-1]
            for client in clients[:-1]:
                client.close()
            waiting.sendall(b"GET /v1/files/a.txt HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b"200 OK" in waiting.recv(10_000)
        assert server.log.count("new connections wait") == 1
        assert "ERROR" not in server.log

    def test_the_server_takes_as_many_as_it_may_have(self, spawn_server: Spawn) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        try:
            server = spawn_server()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert resource.prlimit(server.pid, resource.RLIMIT_NOFILE) == (min(hard, 65536), hard)


def test_a_list_leaves_nothing_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.txt").write_text("hello")
    really = os.open
    for missing in ("folder",):

        def refuse(path: str, *args: int, missing: str = missing, **kwargs: int) -> int:
            if path == missing:
                raise OSError(errno.EMFILE, "Too many open files")
            return really(path, *args, **kwargs)

        store = LocalStore(tmp_path)  # a new one: it may keep what it has listed
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            with pytest.raises(OSError, match="Too many open files"):
                store.listing()
        assert [stat.name for stat in store.listing()] == ["folder/a.txt"]
        store.close()
