"""Real server processes for tests: started, waited for, stopped, killed, started again on the same folders."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

SERVING = "Holdfast serving on "
# Seconds after which a test gives up what it waits for: enough for a machine that is ten times slower, and busy.
PATIENCE = 120.0
_FAREWELL = 2.0  # seconds


class ServerProcess:
    """One `python -m tornado_app` at a time on `folder`/files and `folder`/data; what it logs goes to `folder`/log.

    It is measured by coverage where this process is, unless it is not to be `traced`.
    """

    def __init__(
        self,
        folder: Path,
        flags: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        *,
        traced: bool = True,
    ) -> None:
        self.files_dir = folder / "files"
        self.data_dir = folder / "data"
        self.log_path = folder / "log"
        self.flags = list(flags)
        self.environment = dict(environment or {})
        self.traced = traced
        self.url = ""
        self.stdout = ""
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """The process id of the server that runs."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that was logged so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start it and wait for its line. A server that was given port 0 takes the same port when started again."""
        self.files_dir.mkdir(parents=True, exist_ok=True)
        port = str(urlsplit(self.url).port or 0) if self.url.startswith("http") else "0"
        command = [sys.executable, "-m", "tornado_app", "--port", port]
        command += ["--files-dir", str(self.files_dir), "--data-dir", str(self.data_dir), *self.flags]
        hidden = ("HOLDFAST_",) if self.traced else ("HOLDFAST_", "COVERAGE_PROCESS_")
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name == "HOLDFAST_STATE_DIR" or not name.startswith(hidden)
        }
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=inherited | {"PYTHONUNBUFFERED": "1"} | self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith(SERVING):
            code = self._process.wait(PATIENCE)
            self.end()
            raise AssertionError(f"the server did not start (exit {code}): {line}\n{self.log}")
        self.url = line.removeprefix(SERVING).strip()

    def kill(self) -> None:
        """SIGKILL, as a crash or the out-of-memory killer would."""
        self._signal(signal.SIGKILL)
        self._reap(PATIENCE)

    def stop(self, number: int = signal.SIGTERM, within: float = PATIENCE) -> float:
        """Ask it to stop, see that it ends with exit status 0; the seconds it took."""
        start = time.monotonic()
        self._signal(number)
        self.wait_for_clean_end(within)
        return time.monotonic() - start

    def wait_for_clean_end(self, within: float = PATIENCE) -> None:
        """See that it ends with exit status 0, after a signal that it was sent before."""
        code = self._reap(within)
        assert code == 0, f"exit status {code}\n{self.log}"

    def wait_for_death(self, within: float = PATIENCE) -> None:
        """It was told to kill itself (`HOLDFAST_FAULT`): see that it did."""
        code = self._reap(within)
        assert code == -signal.SIGKILL, f"exit status {code}\n{self.log}"

    def restart(self) -> None:
        """Start again after `kill` or `stop`, on the same folders and port."""
        self.start()

    def end(self) -> None:
        """Whatever state it is in: gone. It may end by itself first, which keeps what coverage has recorded in it."""
        if self._process is not None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_FAREWELL)
            self.kill()

    def _signal(self, number: int) -> None:
        assert self._process is not None, "the server is not running"
        self._process.send_signal(number)

    def _reap(self, within: float) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        code = self._process.wait(within)
        self.stdout += self._process.stdout.read()
        self._process.stdout.close()
        self._process = None
        return code


def children_of_this_process() -> set[int]:
    """Process ids of living children (none where there is no /proc)."""
    found: set[int] = set()
    for tasks in Path("/proc/self/task").glob("*/children"):
        try:
            found |= {int(pid) for pid in tasks.read_text().split()}
        except OSError:  # the thread has ended meanwhile
            continue
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, for what can't be asked which one it took."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_until(condition: Callable[[], T], within: float = PATIENCE, what: str = "") -> T:
    """The first true value of `condition`, asked every 10 ms. Raises `AssertionError` after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what or condition}")
        time.sleep(0.01)
