"""One server that several programs share, and that none of them takes along when it ends."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import holdfast
from holdfast._environment import known_servers, shared_server
from tests.support.jupyter_server import end_holder
from tests.support.servers import PATIENCE, ServerProcess, wait_until


@pytest.fixture
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of state; every server that is started in it is ended."""
    folder = tmp_path_factory.mktemp("s")
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(folder))
    yield folder
    for lock in folder.glob("shared/*/lock"):
        end_holder(lock)


def pid_of(url: str) -> int:
    return next(note.pid for note in known_servers.running() if note.url == url)


# -- where it is


def test_each_files_directory_has_a_data_directory(state: Path, tmp_path: Path) -> None:
    one, other = (shared_server.default_data_dir(tmp_path / name) for name in ("a", "b"))
    assert one.parent == other.parent == state.resolve() / "shared"
    assert one != other
    assert shared_server.default_data_dir(tmp_path / "x" / ".." / "a") == one


def test_nothing_of_the_state_is_published_where_all_of_home_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / ".local/state/holdfast"))
    assert shared_server.default_data_dir(tmp_path) == tmp_path.resolve() / ".holdfast" / "server"


def test_the_socket_lies_in_a_private_folder_whatever_the_length_of_its_path(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = shared_server.socket_path(tmp_path)
    assert place.parent == state.resolve() / "s"
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700

    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / ("long" * 25)))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(state))
    elsewhere = shared_server.socket_path(tmp_path)
    assert elsewhere == state / f"holdfast-{os.geteuid()}" / place.name
    elsewhere.parent.chmod(0o755)
    shared_server.socket_path(tmp_path)
    assert stat.S_IMODE(elsewhere.parent.stat().st_mode) == 0o700

    elsewhere.parent.rmdir()
    elsewhere.parent.symlink_to(tmp_path)  # as another user might in /tmp
    with pytest.raises(PermissionError, match="not a folder of your own"):
        shared_server.socket_path(tmp_path)
    with pytest.raises(shared_server.SharedServerError, match=r"can't be started: .* is not a folder of your own"):
        shared_server.ensure(tmp_path / "data", tmp_path)


def test_what_is_missing_is_said_with_its_remedy(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_server, "missing_packages", lambda: ["sqlalchemy"])
    with pytest.raises(shared_server.SharedServerError, match=r"the server needs sqlalchemy: pip install .*jupyter"):
        shared_server.ensure(None, tmp_path)


# -- its life


@pytest.mark.slow
def test_it_is_found_again_outlives_who_started_it_and_is_started_anew_when_killed(state: Path, tmp_path: Path) -> None:
    code = f"from holdfast._environment import shared_server as s; print(s.ensure(None, {str(tmp_path / 'files')!r}))"
    first = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    url = first.stdout.strip()
    assert url == shared_server.ensure(None, tmp_path / "files")  # the program that started it is gone
    pid = pid_of(url)
    assert next(note.kind for note in known_servers.running()) == "shared"
    assert os.getsid(pid) != os.getsid(0)
    with holdfast.Client(url) as client:
        client.files.write("a.txt", b"kept")
    assert (tmp_path / "files/a.txt").read_bytes() == b"kept"
    log = shared_server.default_data_dir(tmp_path / "files") / "server.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600

    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not shared_server.answers(Path(url.removeprefix("unix:"))))
    assert shared_server.ensure(None, tmp_path / "files") == url
    assert pid_of(url) != pid


@pytest.mark.slow
def test_of_several_that_ask_at_once_one_starts_it(state: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        urls = [*pool.map(lambda _: shared_server.ensure(None, tmp_path / "files"), range(4))]
    assert len(set(urls)) == 1
    log = shared_server.default_data_dir(tmp_path / "files") / "server.log"
    assert log.read_text().count("Holdfast serving on") == 1


@pytest.mark.slow
def test_a_server_that_stops_is_waited_for(state: Path, tmp_path: Path) -> None:
    url = shared_server.ensure(None, tmp_path / "files")
    pid = pid_of(url)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not shared_server.answers(Path(url.removeprefix("unix:"))))
    assert shared_server.ensure(None, tmp_path / "files") == url
    assert pid_of(url) != pid


@pytest.mark.slow
def test_it_stops_by_itself_when_nobody_uses_it(state: Path, tmp_path: Path) -> None:
    url = shared_server.ensure(None, tmp_path / "files", idle_stop=0.2)
    wait_until(lambda: not shared_server.answers(Path(url.removeprefix("unix:"))), what="it stops")


@pytest.mark.slow
def test_a_server_that_somebody_started_there_is_taken(
    state: Path, tmp_path: Path, spawn_server: Callable[..., ServerProcess]
) -> None:
    server = spawn_server(HOLDFAST_STATE_DIR=str(state))
    assert shared_server.ensure(server.data_dir, server.files_dir) == known_servers.running()[0].url
    assert f":{server.url.rpartition(':')[2].strip('/')}" in known_servers.running()[0].url


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why(state: Path, tmp_path: Path) -> None:
    with pytest.raises(
        shared_server.SharedServerError, match=r"ended at once[\s\S]*server\.log says:[\s\S]*--nonsense"
    ):
        shared_server.ensure(None, tmp_path / "files", flags=["--nonsense"])
    (tmp_path / "file").write_text("")
    with pytest.raises(shared_server.SharedServerError, match="can't be started"):
        shared_server.ensure(tmp_path / "file" / "data", tmp_path / "files")


@pytest.mark.slow
def test_a_data_directory_that_another_server_keeps_is_named(
    state: Path, tmp_path: Path, spawn_server: Callable[..., ServerProcess]
) -> None:
    server = spawn_server(HOLDFAST_STATE_DIR=str(state / "another"))  # so that its note is not found
    with pytest.raises(shared_server.SharedServerError, match=rf"another server \(pid {server.pid}\) uses"):
        shared_server.ensure(server.data_dir, server.files_dir, timeout=0.2)
