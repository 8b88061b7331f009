"""A Jupyter server with the extension, and what may stand behind it in place of a Holdfast server.

with JupyterServer(folder) as jupyter:
    httpx.get(f"{jupyter.holdfast}/v1/files", headers=jupyter.headers)
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import httpx

from tests.support.servers import PATIENCE, free_port, wait_until

TOKEN = "of-jupyter"
BASE_URL = "/user/ada/"


class JupyterServer:
    """Jupyter on loopback below `/user/ada/`, from `start` to `end`, or as a context manager.

    All that it keeps is in `folder`, also what the shared Holdfast server keeps, which ends with it in the end.
    """

    def __init__(
        self,
        folder: Path,
        *flags: str,
        environment: Mapping[str, str] | None = None,
        without: Sequence[str] = ("jupyter_server_proxy",),
    ) -> None:
        """`without` names extensions of Jupyter that are switched off."""
        self.root = folder / "root"
        self.root.mkdir(parents=True, exist_ok=True)
        self.state = folder / "state"
        self.log_path = folder / "jupyter.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}{BASE_URL.rstrip('/')}"
        self.holdfast = f"{self.url}/holdfast"
        self.headers = {"Authorization": f"token {TOKEN}"}
        self._flags = flags
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
        self._environment = {**kept, "HOLDFAST_STATE_DIR": str(self.state), **(environment or {})}
        for name in ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            (folder / name.lower()).mkdir(exist_ok=True)
            self._environment[name] = str(folder / name.lower())
        others = ("jupyterlab", "notebook", "notebook_shim", "jupyter_lsp", "jupyter_server_terminals")
        settings = {
            "ServerApp": {"jpserver_extensions": dict.fromkeys((*others, *without), False)}
        }  # they take long to load
        (folder / "jupyter_config_dir" / "jupyter_server_config.json").write_text(json.dumps(settings))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> JupyterServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def log(self) -> str:
        """All that Jupyter has logged."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """The process id of Jupyter."""
        assert self._process is not None, "Jupyter is not running"
        return self._process.pid

    @property
    def shared_pid(self) -> int:
        """The process id of the Holdfast server that was started last."""
        locks = sorted(self.state.glob("shared/*/lock"), key=lambda path: path.stat().st_mtime)
        return int(locks[-1].read_text("ascii"))

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
        command += [f"--port={self.port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.root}"]
        command += [f"--ServerApp.base_url={BASE_URL}", f"--IdentityProvider.token={TOKEN}", *self._flags]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.root, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._answers, PATIENCE, "Jupyter answers")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/api/status", headers=self.headers, timeout=30).status_code == 200
        return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End Jupyter by a signal; the Holdfast server goes on."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE)
            self._process = None

    def end(self) -> None:
        """End Jupyter and every Holdfast server that it has started."""
        self.stop()
        for lock in self.state.glob("shared/*/lock"):
            end_holder(lock)


def end_holder(lock: Path) -> None:
    """End the server that holds the lock of a data directory, and wait until it has."""
    with lock.open("rb") as file:

        def is_free() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not is_free():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.read()), signal.SIGTERM)
            wait_until(is_free, PATIENCE, f"the server of {lock} ends")


class FakeServer:
    """Takes one connection after another, each with a function of its own, on a thread."""

    def __init__(self, *answers: Callable[[socket.socket, bytes], None]) -> None:
        """Each answer gets the connection and the head of its request, and closes nothing."""
        self.heads: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._answers = answers
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> FakeServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        for answer in self._answers:
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                with connection:
                    self.heads.append(read_head(connection))
                    answer(connection, self.heads[-1])


def read_head(connection: socket.socket) -> bytes:
    """Read to the end of a head, and nothing behind it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            break
        head += byte
    return head


def pieces_of(connection: socket.socket) -> Iterator[bytes]:
    """Iterate over what comes until the other side closes."""
    with contextlib.suppress(OSError):
        while piece := connection.recv(1 << 16):
            yield piece
