"""Walks through the server: the Python calls in our own packages from a request to its answer.

`python -m tests.support.walks` prints, for each walk of docs/architecture.md, how many calls it takes, how many files
these are in, and how often they change from file to file and from thread to thread.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from tests.support.servers import PATIENCE

ROOT = Path(__file__).parents[2]
OURS = (f"{ROOT}/tornado_app/", f"{ROOT}/sdk/holdfast/")
TUS = {"Tus-Resumable": "1.0.0"}
PIECE = 1 << 20
QUIET_S = 0.05
"""Seconds without a call after which a walk is taken to be at its end."""


class Step(NamedTuple):
    """One call of a function: the thread it ran in, its file below the root, its qualified name."""

    thread: int
    file: str
    function: str


class Trace:
    """Calls of functions of our own, in every thread that began after it, while it records."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._records = False
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and self._records and code.co_filename.startswith(OURS):
            file = code.co_filename.removeprefix(f"{ROOT}/")
            self.steps.append(Step(threading.get_ident(), file, code.co_qualname))

    def start(self) -> None:
        """Record from here on, once nothing is left to do for what came before."""
        self._records, before = True, -1
        while before != len(self.steps):
            before = len(self.steps)
            time.sleep(QUIET_S)
        self.steps.clear()

    def stop(self, last: str = "") -> list[Step]:
        """Return the steps, up to the first call of the function `last` if it is given."""
        self._records = False
        steps = list(self.steps)
        ends = (number for number, step in enumerate(steps, 1) if step.function == last)
        return steps[: next(ends, None)]

    def await_call(self, function: str) -> None:
        """Wait until a function of this qualified name was called."""
        until(lambda: any(step.function == function for step in list(self.steps)), function)


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not come to {what}")
        time.sleep(0.005)


class Walks:
    """A server in this process, and the walks through it. Each walk is taken twice; the second one counts."""

    def __init__(self, port: int, trace: Trace, folder: str) -> None:
        self.port = port
        self.folder = folder
        self.trace = trace
        self._number = 0

    def _ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        content = answer.read()
        location = answer.getheader("Location", "")
        connection.close()
        assert answer.status < 300, (answer.status, content)
        return location.removeprefix(f"http://127.0.0.1:{self.port}") or content

    def _create(self) -> str:
        self._number += 1
        headers = {**TUS, "Upload-Length": str(8 * PIECE), "Upload-Metadata": "filename " + "YQ=="}
        return str(self._ask("POST", "/v1/uploads", headers=headers))

    def piece_of_an_upload(self, *, twice: bool = False) -> list[Step]:
        """PATCH 2 MiB by tus; with `twice`, 2 MiB more in the same request, when the first were written."""
        location = self._create()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        self.trace.start()
        connection.putrequest("PATCH", location)
        for name, value in {**TUS, "Upload-Offset": "0", "Content-Length": str((1 + twice) * 2 * PIECE)}.items():
            connection.putheader(name, value)
        connection.putheader("Content-Type", "application/offset+octet-stream")
        connection.endheaders()
        connection.send(bytes(2 * PIECE))
        if twice:
            self.trace.await_call("RunningDigest.feed")
            connection.send(bytes(2 * PIECE))
        answer = connection.getresponse()
        assert answer.status == 204, answer.read()
        connection.close()
        self.trace.await_call("BaseHandler.on_finish")
        return self.trace.stop("BaseHandler.on_finish")

    def first_piece_of_text(self) -> list[Step]:
        """POST 7 bytes to the seed's upload."""
        self._number += 1
        self.trace.start()
        self._ask("POST", f"/upload/?file_name=text-{self._number}&bytes_read=0", b"1234567")
        self.trace.await_call("BaseHandler.on_finish")
        return self.trace.stop("BaseHandler.on_finish")

    def process(self) -> list[Step]:
        """Start a process and let it come to its first checkpoint."""
        self._number += 1
        params = {"to": 1, "every": 0.001, "trail": f"{self.folder}/trail"}
        body = {"id": f"walk-{self._number}", "work_type": "steps", "params": params}
        self.trace.start()
        self._ask("POST", "/v1/processes", json.dumps(body).encode(), {"Content-Type": "application/json"})
        self.trace.await_call("RunningAttempt.checkpoint")
        return self.trace.stop("RunningAttempt.checkpoint")

    def process_with_a_pause(self) -> list[Step]:
        """Start, pause and resume a process, and wait for its result."""
        self._number += 1
        id = f"walk-{self._number}"
        params = {"to": 20, "every": 0.05, "trail": f"{self.folder}/trail"}
        body = {"id": id, "work_type": "steps", "params": params}
        self.trace.start()
        self._ask("POST", "/v1/processes", json.dumps(body).encode(), {"Content-Type": "application/json"})
        self.trace.await_call("RunningAttempt.checkpoint")
        self._ask("POST", f"/v1/processes/{id}/pause")
        self._await_state(id, "paused")
        self._ask("POST", f"/v1/processes/{id}/resume")
        self._await_state(id, "succeeded")
        return self.trace.stop()

    def _await_state(self, id: str, state: str) -> None:
        until(lambda: json.loads(self._ask("GET", f"/v1/processes/{id}"))["state"] == state, state)


def walk(take: Callable[[Walks], Any]) -> Any:
    """Run `take` in a thread beside a server in this process, and return what it returns."""
    trace = Trace()
    from tornado_app import settings
    from tornado_app.app import App

    def untraced(walks: Walks) -> Any:
        sys.setprofile(None)  # the client's own calls do not count
        return take(walks)

    async def serve() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--port", "0", "--data-dir", f"{folder}/data", "--files-dir", f"{folder}/files"]
            app = await App.open(settings.read([*flags, "--import", "tests.support.work", "--log-level", "error"], {}))
            app.listen()
            try:
                return await asyncio.to_thread(untraced, Walks(app.port, trace, folder))
            finally:
                await app.close()

    try:
        return asyncio.run(serve())
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def figures(steps: list[Step]) -> tuple[int, int, int, int]:
    """Return the number of calls, of files, of changes of file and of changes of thread."""
    pairs = list(itertools.pairwise(steps))
    files = {step.file for step in steps}
    return len(steps), len(files), sum(a.file != b.file for a, b in pairs), sum(a.thread != b.thread for a, b in pairs)


def _main() -> None:
    def take(walks: Walks) -> dict[str, list[Step]]:
        names = ("piece_of_an_upload", "first_piece_of_text", "process")
        return {name: [getattr(walks, name)() for _ in range(3)][-1] for name in names}

    for name, steps in walk(take).items():
        calls, files, of_file, of_thread = figures(steps)
        title = name.replace("_", " ")
        print(f"{title:24} {calls} calls, {files} files, {of_file} changes of file, {of_thread} of thread")


if __name__ == "__main__":
    _main()
