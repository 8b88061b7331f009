"""Programs that may listen where a Holdfast server is expected, and a Jupyter around this Python."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Answer = Callable[[str, dict[str, str]], tuple[int, Any]]


@dataclass
class Listener:
    """A program on a port of this machine: what it answers, and what it was sent."""

    port: int
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> str:
        """All headers that it was sent, as one text."""
        return repr([headers for _, headers in self.requests])


@pytest.fixture
def listen() -> Iterator[Callable[[Answer], Listener]]:
    """Starts a program that answers GET requests: `listen(lambda path, headers: (200, {}))`."""
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def listen(answer: Answer) -> Listener:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                listener.requests.append((self.path, headers))
                status, body = answer(self.path, headers)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        listener = Listener(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        running.append((server, thread))
        return listener

    yield listen
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_jupyter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the Jupyter that these tests may run in."""
    for name in list(os.environ):
        if name.startswith("JUPYTERHUB_") or name == "JPY_PARENT_PID":
            monkeypatch.delenv(name)


@pytest.fixture
def in_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the `jpserver-PID.json` of a Jupyter server whose kernel this Python is; returns its path."""

    def write(**record: Any) -> Path:
        folder = tmp_path / "runtime"
        folder.mkdir(exist_ok=True)
        path = folder / f"jpserver-{os.getppid()}.json"
        path.write_text(json.dumps({"pid": os.getppid(), "hostname": "localhost", "base_url": "/", **record}))
        path.chmod(0o600)
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
        monkeypatch.setenv("JPY_PARENT_PID", str(os.getppid()))
        return path

    return write
