"""Server as a child process on this machine, for notebooks, demos and tests.

with holdfast.local_server() as server:
    with server.client() as client: ...

client = holdfast.local_server("my-data").client()      # ends with this Python process
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from holdfast._environment.extras import install_hint
from holdfast._environment.jupyter import page_origins
from holdfast._environment.known_servers import KIND_VARIABLE
from holdfast.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast._async.client import AsyncClient
    from holdfast._sync.client import Client

__all__ = ["LocalServer", "ServerDidNotStart", "local_server"]

SERVING = "Holdfast serving on "
_OF_ANOTHER_SERVER = ("HOLDFAST_SOCKET", "HOLDFAST_TOKEN_FILE")


class ServerDidNotStart(HoldfastError):
    """The server has ended or did not answer in time. The message contains its log."""


def local_server(
    data_dir: str | os.PathLike[str] | None = None,
    files_dir: str | os.PathLike[str] | None = None,
    *,
    port: int = 0,
    token: str | None = None,
    flags: Sequence[str] = (),
    timeout: float = 30.0,
) -> LocalServer:
    """Start a server on loopback and wait until it answers. It ends with `stop()`, its `with` block or this process.

    Args:
        data_dir: folder of its journal and log; by default a temporary folder, which is removed at the end.
        files_dir: folder of its published files; default `files` in `data_dir`.
        port: 0 chooses a free port.
        token: token that clients must send; by default a random one, which `client()` sends. Programs of the same user
            don't need it if the system can tell users apart.
        flags: further flags of `holdfast serve`, such as `["--max-running", "4"]`.
        timeout: seconds to wait for the start.

    Raises:
        ServerDidNotStart: it could not start, for example because the extra `server` is missing. The message says why.
    """
    if importlib.util.find_spec("tornado_app") is None or importlib.util.find_spec("tornado") is None:
        raise ServerDidNotStart(f"the server is not installed here: {install_hint('server')}")
    server = LocalServer(data_dir, files_dir, port=port, token=token, flags=flags, timeout=timeout)
    server.start()
    return server


class LocalServer:
    """A server that is a child of this process. `url` is its URL; `kill` and `start` simulate a crash."""

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None,
        files_dir: str | os.PathLike[str] | None,
        *,
        port: int,
        token: str | None,
        flags: Sequence[str],
        timeout: float,
    ) -> None:
        self._temporary = data_dir is None
        self.data_dir = Path(data_dir if data_dir is not None else tempfile.mkdtemp(prefix="holdfast-")).resolve()
        self.files_dir = Path(files_dir).resolve() if files_dir is not None else self.data_dir / "files"
        self.token = secrets.token_urlsafe(32) if token is None else token
        self._admits_user = token is None
        self.url = ""
        self._port = port
        self._flags = list(flags)
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        # Also runs at the interpreter's exit; must not hold `self`.
        self._end = weakref.finalize(self, _end, [], self.data_dir if self._temporary else None)

    @property
    def log_path(self) -> Path:
        """File with the standard output and error of the server."""
        return self.data_dir / "server.log"

    @property
    def pid(self) -> int | None:
        """Process id of the server; None while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> Self:
        """Start it again after `kill` or `stop`, with the same folders and port. Raises `ServerDidNotStart`."""
        if self.pid is not None:
            return self
        self.data_dir.mkdir(0o700, parents=True, exist_ok=True)
        self.files_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "holdfast._environment.embedded", "--address", "127.0.0.1"]
        command += ["--port", str(self._port)]
        command += ["--data-dir", str(self.data_dir), "--files-dir", str(self.files_dir)]
        command += ["--same-user"] if self._admits_user else []
        command += self._flags
        for origin in page_origins():  # so that upload boxes reach it
            command += ["--allow-origin", origin]
        # By the environment: other users could read an argument.
        environment = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_SERVER}
        environment["HOLDFAST_TOKEN"] = self.token
        environment[KIND_VARIABLE] = "local"
        with open(self.log_path, "ab", opener=_private_opener) as log:
            begin = log.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C in a terminal or kernel must reach only the parent
            )
        self._end.detach()
        self._end = weakref.finalize(self, _end, [self._process], self.data_dir if self._temporary else None)
        self.url = self._wait_for_line(begin)
        if self.url.startswith("http"):
            self._port = urlsplit(self.url).port or self._port
        return self

    def _wait_for_line(self, begin: int) -> str:
        process = self._process
        deadline = time.monotonic() + self._timeout
        while process is not None:
            ended = process.poll() is not None
            with self.log_path.open("rb") as log:
                log.seek(begin)
                text = log.read().decode(errors="replace")
            for line in text.splitlines(keepends=True):
                if line.startswith(SERVING) and line.endswith("\n"):
                    return line.removeprefix(SERVING).strip()
            if ended or time.monotonic() > deadline:
                self.kill()
                why = (
                    f"ended with exit status {process.returncode}"
                    if ended
                    else f"did not answer within {self._timeout} s"
                )
                raise ServerDidNotStart(f"the server {why}:\n{text[-2000:]}")
            time.sleep(0.01)
        raise ServerDidNotStart("the server was stopped while it started")

    def client(self, **options: Any) -> Client:
        """Return a client of this server; `options` as for `holdfast.Client`."""
        from holdfast._sync.client import Client

        return Client(self.url, **{"token": self.token, **options})

    def async_client(self, **options: Any) -> AsyncClient:
        """Return an async client of this server; `options` as for `holdfast.AsyncClient`."""
        from holdfast._async.client import AsyncClient

        return AsyncClient(self.url, **{"token": self.token, **options})

    def kill(self) -> None:
        """Kill the server (SIGKILL), as a crash would. Its processes continue after `start()`."""
        if self._process is not None:
            self._process.kill()
            _reap(self._process)

    def stop(self) -> None:
        """Stop the server (SIGTERM), and remove a temporary folder."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<LocalServer {self.url} {'running' if self.pid else 'stopped'}>"


def _private_opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _reap(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _end(processes: list[subprocess.Popen[bytes]], temporary: Path | None) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        _reap(process)
    if temporary is not None:
        shutil.rmtree(temporary, ignore_errors=True)
