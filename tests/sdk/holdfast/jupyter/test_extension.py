"""The extension's life: enabled by its installation, with a server that outlives Jupyter, at any size."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.jupyter_server import JupyterServer
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import PATIENCE

pytestmark = pytest.mark.slow

MIB = 1 << 20
INTEGRATION = Path(__file__).parents[3] / "integration"


def works(jupyter: JupyterServer) -> None:
    answer = httpx.get(f"{jupyter.holdfast}/v1/files", headers=jupyter.headers, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text


def test_the_server_outlives_jupyter_and_is_started_anew_when_killed(own_jupyter: JupyterServer) -> None:
    works(own_jupyter)
    first = own_jupyter.shared_pid
    for number in (signal.SIGTERM, signal.SIGKILL):
        own_jupyter.stop(number)
        os.kill(first, 0)
        own_jupyter.start()
        works(own_jupyter)
        assert own_jupyter.shared_pid == first

    os.kill(first, signal.SIGKILL)
    works(own_jupyter)
    assert own_jupyter.shared_pid != first


def test_what_is_missing_is_one_line_of_the_log_and_jupyter_goes_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("j")
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'sqlalchemy':\n"
        "            raise ModuleNotFoundError(name)\n"
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'sqlalchemy' else find(name, package)\n"
    )
    with JupyterServer(folder, environment={"PYTHONPATH": str(folder)}) as jupyter:
        answer = httpx.get(f"{jupyter.holdfast}/v1/files", headers=jupyter.headers)
        lines = [line for line in jupyter.log.splitlines() if "Holdfast can't start" in line]
    assert len(lines) == 1
    assert "sqlalchemy is missing: pip install" in lines[0]
    assert answer.status_code == 503
    assert "[jupyter]" in answer.json()["detail"]
    assert "Traceback" not in jupyter.log


def peak(pid: int) -> int:
    """The most memory that a process had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


def test_two_gigabytes_go_up_and_down_and_no_hop_holds_them(jupyter: JupyterServer) -> None:
    size, piece = 2 << 30, bytes(4 * MIB)
    works(jupyter)
    pids = (jupyter.pid, jupyter.shared_pid)
    before = [peak(pid) for pid in pids]
    url = urlsplit(f"{jupyter.holdfast}/v1/files/two-gigabytes.bin")
    connection = http.client.HTTPConnection("127.0.0.1", jupyter.port, timeout=PATIENCE, blocksize=4 * MIB)

    def content() -> Iterator[bytes]:
        for _ in range(size // len(piece)):
            yield piece

    connection.request("PUT", url.path, content(), {**jupyter.headers, "Content-Length": str(size)})
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    answer.read()
    assert (jupyter.root / "two-gigabytes.bin").stat().st_size == size

    connection.request("GET", url.path, headers=jupyter.headers)
    answer = connection.getresponse()
    buffer, count = bytearray(4 * MIB), 0
    while taken := answer.readinto(buffer):
        count += taken
    connection.close()
    assert count == size
    grown = [peak(pid) - old for pid, old in zip(pids, before, strict=True)]
    assert all(growth <= 64 * MIB for growth in grown), f"Jupyter and the server grew by {grown} bytes"
    assert httpx.delete(url.geturl(), headers=jupyter.headers).status_code == 204


def test_tus_js_client_resumes_through_it(jupyter: JupyterServer, tmp_path: Path) -> None:
    node = shutil.which("node") or shutil.which("nodejs")
    assert node is not None, "node is missing: tests/tools.sh installs it"
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(6 * MIB))
    options = {
        "name": "js/up.bin",
        "parallel": 1,
        "storage": str(tmp_path / "uploads.json"),
        "headers": jupyter.headers,
    }
    with FaultyProxy(jupyter.port, Fault(when=b"PATCH ", cut_up=2 * MIB), Fault(when=b"PATCH ", cut_up=MIB)) as proxy:
        endpoint = f"{proxy.url}{urlsplit(jupyter.holdfast).path}/v1/uploads"
        command = [node, str(INTEGRATION / "upload.mjs"), endpoint, str(source), json.dumps(options)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        assert len(proxy.used) == 2
    assert (jupyter.root / "js/up.bin").read_bytes() == source.read_bytes()


def test_jupyter_server_proxy_leads_to_the_page_which_says_what_it_cannot(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with JupyterServer(tmp_path_factory.mktemp("j"), without=["holdfast.jupyter"]) as jupyter:
        page = httpx.get(
            f"{jupyter.holdfast}/",
            headers={**jupyter.headers, "Accept": "text/html"},
            timeout=PATIENCE,
            follow_redirects=True,
        )
        tiles = httpx.get(f"{jupyter.url}/server-proxy/servers-info", headers=jupyter.headers).json()
    assert page.status_code == 200, page.text
    assert "For big files:" in page.text
    assert "[jupyter]" in page.text
    (tile,) = [each for each in tiles["server_processes"] if each["name"] == "holdfast"]
    assert tile["launcher_entry"]["enabled"]


def test_activity_is_seen_by_cullers(jupyter: JupyterServer) -> None:
    def last_activity() -> str:
        status = httpx.get(f"{jupyter.url}/api/status", headers=jupyter.headers).json()
        return str(status["last_activity"])

    before = last_activity()
    assert last_activity() == before
    works(jupyter)
    assert last_activity() > before
