"""curl -T, tuspy and tus-js-client: uploads over connections that break arrive whole, and once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import requests

from tests.integration.conftest import CONTENT, MIB, program, run
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess

Broken = Callable[..., FaultyProxy]

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


def staged(server: ServerProcess) -> list[str]:
    """Return the staged files."""
    uploads = httpx.get(f"{server.url}/v1/uploads").json()["items"]
    return [upload["name"] for upload in uploads if not upload["complete"]]


# -- curl


def test_curl_puts_a_file_and_puts_it_again_after_a_cut(server: ServerProcess, broken: Broken, source: Path) -> None:
    proxy = broken(Fault(cut_up=4 * MIB), Fault(swallow_answer=True), Fault(duplicate=True))
    command = (program("curl"), "-sSf", "-T", source, f"{proxy.url}/v1/files/put.bin")
    codes = [run(*command, cwd=source.parent).returncode for _ in range(3)]
    assert codes[0] != 0
    assert not staged(server)
    assert codes[1] != 0
    assert codes[2] == 0
    assert (server.files_dir / "put.bin").read_bytes() == CONTENT
    assert not staged(server)


def test_curl_says_that_it_resumes_and_puts_the_whole(server: ServerProcess, source: Path) -> None:
    command = (program("curl"), "-sSf", "-C", "-", "-T", source, f"{server.url}/v1/files/put.bin")
    assert run(*command, cwd=source.parent).returncode == 0
    assert (server.files_dir / "put.bin").read_bytes() == CONTENT


def test_curl_posts_a_form_with_a_file(server: ServerProcess, source: Path) -> None:
    done = run(program("curl"), "-sSf", "-F", f"file=@{source.name}", f"{server.url}/v1/uploads", cwd=source.parent)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == source.name
    assert (server.files_dir / source.name).read_bytes() == CONTENT


# -- requests


def test_requests_sends_a_form_with_a_file(server: ServerProcess, source: Path) -> None:
    with source.open("rb") as file:
        answer = requests.post(f"{server.url}/v1/uploads", files={"file": ("forms/ä b.bin", file)}, timeout=60)
    assert (answer.status_code, answer.json()["name"]) == (201, "forms/ä b.bin")
    with source.open("rb") as file:
        answer = requests.put(f"{server.url}/v1/files/forms/put.bin", files={"file": file}, timeout=60)
    assert (answer.status_code, answer.json()["size"]) == (201, len(CONTENT))
    assert (server.files_dir / "forms/ä b.bin").read_bytes() == CONTENT
    assert (server.files_dir / "forms/put.bin").read_bytes() == CONTENT


# -- tuspy


def tuspy(endpoint: str, source: Path, **options: Any) -> list[str]:
    """The command that runs upload_by_tuspy.py; a process of its own, for it leaves files open."""
    options = {"name": "by/tuspy.bin", "chunk_size": 3 * MIB, "retries": 0, "storage": f"{source}.json"} | options
    return [sys.executable, str(HERE / "upload_by_tuspy.py"), endpoint, str(source), json.dumps(options)]


def test_tuspy_uploads_in_pieces_and_tries_again_what_was_cut(
    server: ServerProcess, broken: Broken, source: Path
) -> None:
    proxy = broken(
        Fault(when=b"PATCH ", cut_up=500_000),
        Fault(when=b"PATCH ", swallow_answer=True),
        Fault(when=b"PATCH ", duplicate=True),
    )
    done = run(*tuspy(f"{proxy.url}/v1/uploads", source, retries=5), cwd=source.parent)
    assert done.returncode == 0, done.stderr
    assert (server.files_dir / "by/tuspy.bin").read_bytes() == CONTENT
    assert len(proxy.used) == 3


def test_tuspy_goes_on_from_another_process(server: ServerProcess, broken: Broken, source: Path) -> None:
    proxy = broken(Fault(when=b"PATCH ", cut_up=5 * MIB))
    command = tuspy(f"{proxy.url}/v1/uploads", source, chunk_size=len(CONTENT))
    first = run(*command, cwd=source.parent)
    assert first.returncode == 1
    assert "TusCommunicationError" in first.stderr or "TusUploadFailed" in first.stderr
    before = proxy.bytes_up
    second = run(*command, cwd=source.parent)
    assert second.returncode == 0, second.stderr
    stood = int(second.stdout)  # how much of the 5 MiB a reset lets through is up to the kernel
    assert stood > 0
    assert (server.files_dir / "by/tuspy.bin").read_bytes() == CONTENT
    assert proxy.bytes_up - before < len(CONTENT) - stood + 64 * 1024


# -- tus-js-client


def node(*arguments: str | Path) -> list[str]:
    """The command that runs upload.mjs."""
    if not (HERE / "node_modules/tus-js-client").is_dir():
        pytest.fail("tus-js-client is missing: tests/tools.sh installs it", pytrace=False)
    return [program("node", "nodejs"), str(HERE / "upload.mjs"), *map(str, arguments)]


@pytest.mark.parametrize("parallel", [1, 4])
def test_tus_js_client_tries_again_what_was_cut(
    server: ServerProcess, broken: Broken, source: Path, tmp_path: Path, parallel: int
) -> None:
    proxy = broken(
        Fault(when=b"PATCH ", cut_up=MIB),
        Fault(when=b"PATCH ", cut_up=2 * MIB, reset=False),
        Fault(when=b"PATCH ", swallow_answer=True),
    )
    options = {"name": "js/up.bin", "parallel": parallel, "storage": str(tmp_path / "uploads.json")}
    done = run(*node(f"{proxy.url}/v1/uploads", source, json.dumps(options)), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resumed"] is False
    assert (server.files_dir / "js/up.bin").read_bytes() == CONTENT
    assert len(proxy.used) == 3


@pytest.mark.parametrize("parallel", [1, 4])
def test_tus_js_client_goes_on_from_another_process(
    server: ServerProcess, broken: Broken, source: Path, tmp_path: Path, parallel: int
) -> None:
    proxy = broken(*(Fault(when=b"PATCH ", stall_up=2 * MIB) for _ in range(parallel)))
    options = {"name": "js/up.bin", "parallel": parallel, "storage": str(tmp_path / "uploads.json")}
    command = node(f"{proxy.url}/v1/uploads", source, json.dumps(options))
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        proxy.wait_for(lambda p: p.happened == parallel)
        first.kill()
    before = proxy.bytes_up
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resumed"] is True
    assert (server.files_dir / "js/up.bin").read_bytes() == CONTENT
    assert proxy.bytes_up - before < len(CONTENT) - parallel * MIB, "what was there was not sent again"
    assert not staged(server)


# -- below a base URL


def test_clients_follow_the_locations_of_a_server_below_a_base_url(
    below: ServerProcess, source: Path, tmp_path: Path
) -> None:
    port, path = urlsplit(below.url).port, urlsplit(below.url).path
    assert port is not None
    with FaultyProxy(port, *(Fault(when=b"PATCH ", cut_up=MIB) for _ in range(2))) as proxy:
        url = f"{proxy.url}{path}v1"
        curl = run(program("curl"), "-sSfL", "-T", source, f"{url}/files/", cwd=tmp_path)  # curl adds the name
        form = run(program("curl"), "-sSf", "-F", f"file=@{source};filename=form.bin", f"{url}/uploads", cwd=tmp_path)
        by_python = run(*tuspy(f"{url}/uploads", source, retries=5), cwd=tmp_path)
        options = {"name": "js/up.bin", "parallel": 2, "storage": str(tmp_path / "uploads.json")}
        by_node = run(*node(f"{url}/uploads", source, json.dumps(options)), cwd=tmp_path)
        assert len(proxy.used) == 2
    for done in (curl, form, by_python, by_node):
        assert done.returncode == 0, done.stderr
    for name in (source.name, "form.bin", "by/tuspy.bin", "js/up.bin"):
        assert (below.files_dir / name).read_bytes() == CONTENT
