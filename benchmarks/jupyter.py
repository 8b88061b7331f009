"""Big files through Jupyter: the extension beside jupyter-server-proxy and Jupyter's contents API, in the same run.

python -m benchmarks.jupyter --quick
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import GIB, MIB, Bench, Sample, Server, alternate, figure, free_port, main, timed, tool
from benchmarks.transfers import holdfast as server_of

TOKEN = "of-jupyter"
CHUNK = MIB  # as JupyterLab's upload sends it


@contextlib.contextmanager
def jupyter(folder: Path) -> Iterator[Server]:
    """A Jupyter server with the extension and jupyter-server-proxy; the shared server ends with it."""
    (folder / "root").mkdir(parents=True)
    port, state = free_port(), folder / "state"
    names = ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    environment = {name: str(folder / name.lower()) for name in names} | {"HOLDFAST_STATE_DIR": str(state)}
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={port}", f"--ServerApp.root_dir={folder / 'root'}", f"--IdentityProvider.token={TOKEN}"]
    try:
        with Server("jupyter", command, port, folder, environment) as server:
            yield server
    finally:
        for lock in state.glob("shared/*/lock"):
            with lock.open("rb") as file, contextlib.suppress(ProcessLookupError):
                os.kill(int(file.read()), signal.SIGTERM)
                fcntl.flock(file, fcntl.LOCK_SH)  # it has ended


def curl(*arguments: str | Path) -> None:
    """Run curl with Jupyter's token. Raises `RuntimeError` for what is no success."""
    command = [tool("curl"), "-sSf", "-o", os.devnull, "-H", f"Authorization: token {TOKEN}", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr)


def contents(port: int, name: str, source: Path) -> None:
    """Upload a file as JupyterLab does: base64 in JSON, a chunk a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    with source.open("rb") as file:
        number, left = 0, source.stat().st_size
        while left:
            piece = file.read(CHUNK)
            number, left = number + 1, left - len(piece)
            model = {"type": "file", "format": "base64", "chunk": number if left else -1}
            model["content"] = base64.b64encode(piece).decode()
            headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
            connection.request("PUT", f"/api/contents/{name}", json.dumps(model), headers)
            answer = connection.getresponse()
            if answer.status >= 300:
                raise RuntimeError(f"the contents API says {answer.status}: {answer.read()[:200]!r}")
            answer.read()
    connection.close()


@figure("through", "1 GiB up and down through Jupyter")
def through(bench: Bench) -> None:
    """jupyter-server-proxy has smaller files, because it refuses those above 512 MB up and 100 MB down."""
    size = bench.size(GIB, 128 * MIB)
    up, down = min(size, 256 * MIB), 64 * MIB
    for name, count in (("source", size), ("proxied", up), ("small", down)):
        with (bench.folder / name).open("wb") as file:
            file.truncate(count)
    source = bench.folder / "source"
    with jupyter(bench.folder / "jupyter") as server, server_of(bench.folder / "straight") as straight:
        extension, proxy = f"{server.url}/holdfast/v1/files", f"{server.url}/proxy/{straight.port}/v1/files"
        deadline = time.monotonic() + 60
        while True:
            try:
                curl("-T", bench.folder / "small", f"{proxy}/small")
                curl("-T", source, f"{extension}/up")
                break
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

        def contents_api() -> Sample:
            return timed(lambda: contents(server.port, "by-contents", source))

        ups = alternate(
            {
                "extension": lambda: timed(lambda: curl("-T", source, f"{extension}/up")),
                "jupyter-server-proxy": lambda: timed(lambda: curl("-T", bench.folder / "proxied", f"{proxy}/up")),
                "contents API": contents_api,
            },
            bench.runs,
            warm=False,
        )
        downs = alternate(
            {
                "extension": lambda: timed(lambda: curl(f"{extension}/up")),
                "jupyter-server-proxy": lambda: timed(lambda: curl(f"{proxy}/small")),
                "files/ of Jupyter": lambda: timed(lambda: curl(f"{server.url}/files/up")),
            },
            bench.runs,
            warm=False,
        )
    rate = {name: (up if "proxy" in name else size) / MIB / sample.wall for name, sample in ups.items()}
    bench.at_least("up: extension", rate["extension"], 150, "MiB/s")
    bench.tell("up: jupyter-server-proxy, 256 MiB at most", rate["jupyter-server-proxy"], "MiB/s")
    bench.tell("up: contents API", rate["contents API"], "MiB/s")
    bench.at_least("up: extension to contents API", rate["extension"] / rate["contents API"], 5, "x")
    rate = {name: (down if "proxy" in name else size) / MIB / sample.wall for name, sample in downs.items()}
    bench.at_least("down: extension", rate["extension"], 500, "MiB/s")
    bench.tell("down: jupyter-server-proxy, 64 MiB", rate["jupyter-server-proxy"], "MiB/s")
    bench.tell("down: files/ of Jupyter", rate["files/ of Jupyter"], "MiB/s")


if __name__ == "__main__":
    sys.exit(main(__name__, "Jupyter"))
