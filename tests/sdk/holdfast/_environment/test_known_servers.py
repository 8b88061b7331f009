"""Notes of running servers: what they say, who may read them, and that none outlives its server."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from holdfast._environment import known_servers
from holdfast._environment.known_servers import RunningServer, ServerNote, running, token_of
from tests.support.servers import ServerProcess


def server(**changes: object) -> RunningServer:
    """A note of this process as a server."""
    values = {
        "url": "http://127.0.0.1:8123/",
        "pid": os.getpid(),
        "host": known_servers.host_name(),
        "boot": known_servers.boot_id(),
        "started": 1.5,
        "data_dir": "/data",
        "files_dir": "/files",
        "instance": "abc",
    }
    return msgspec.convert(values | changes, RunningServer)


@pytest.fixture
def folder(state_dir: Path) -> Path:
    return state_dir / "servers"


def test_a_server_is_found_while_it_runs_and_only_its_user_can_read_its_note(folder: Path) -> None:
    assert running() == []
    note = ServerNote(server(token="s3cret"))
    [path] = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    [found] = running()
    assert found == server(token="s3cret")
    assert "s3cret" not in repr(found)
    note.close()
    assert running() == []
    assert list(folder.iterdir()) == []


def test_the_newest_comes_first() -> None:
    notes = [ServerNote(server(started=float(when), instance=str(when))) for when in (2, 3, 1)]
    assert [found.started for found in running()] == [3, 2, 1]
    for note in notes:
        note.close()


def test_the_note_of_a_server_that_was_killed_is_removed(folder: Path) -> None:
    folder.mkdir(0o700, parents=True)
    path = folder / "77-abc.json"
    path.write_text(json.dumps(msgspec.structs.asdict(server())))
    path.chmod(0o600)
    assert running() == []
    assert not path.exists()


def rewritten(folder: Path, **changes: object) -> Path:
    """The note of a running server, changed in place, so that its lock stays."""
    [path] = folder.iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


@pytest.mark.parametrize(
    "changes", [{"host": "elsewhere"}, {"boot": "another"}, {"version": 2}, {"url": 3}, {"kind": "new"}], ids=str
)
def test_a_note_of_another_machine_or_version_is_left_alone(folder: Path, changes: dict[str, object]) -> None:
    note = ServerNote(server())
    path = rewritten(folder, **changes)
    assert running() == []
    assert path.exists()
    note.close()


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", '"\\ud800"', "[1]"])
def test_what_is_no_note_is_passed_over(folder: Path, text: str) -> None:
    note = ServerNote(server())
    other = folder / "1-x.json"
    other.write_text(text)
    other.chmod(0o600)
    assert running() == [server()]
    note.close()


def test_a_note_that_others_may_write_or_that_lies_elsewhere_is_not_read(folder: Path, tmp_path: Path) -> None:
    note = ServerNote(server(token="s3cret"))
    [path] = folder.iterdir()
    path.chmod(0o640)
    assert running() == []
    path.chmod(0o600)
    moved = path.rename(tmp_path / "moved")
    path.symlink_to(moved)
    assert running() == []
    assert token_of("http://127.0.0.1:8123") is None
    moved.replace(path)
    assert running() == [server(token="s3cret")]
    folder.chmod(0o770)
    assert running() == []
    folder.chmod(0o700)
    note.close()


def test_notes_are_neither_written_nor_read_through_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.parent.mkdir(parents=True)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        ServerNote(server())
    assert running() == []
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_path_may_have_bytes_that_are_not_utf_8() -> None:
    name = os.fsdecode(b"/data/\xff")
    note = ServerNote(server(data_dir=name))
    assert running()[0].data_dir == name
    note.close()


class TestTokenOf:
    def test_only_a_server_on_loopback_that_wrote_one_has_it(self) -> None:
        notes = [ServerNote(server(token="s3cret")), ServerNote(server(url="http://127.0.0.1:9/", instance="b"))]
        assert token_of("http://127.0.0.1:8123") == "s3cret"
        assert token_of("http://localhost:8123/prefix") == "s3cret"
        assert token_of("http://localhost:9") is None
        assert token_of("https://localhost:8123") is None
        assert token_of("http://example.org:8123") is None
        assert token_of("unix:/a/socket") is None
        for note in notes:
            note.close()
        assert token_of("http://127.0.0.1:8123") is None

    def test_the_file_of_an_older_server_is_still_read(self, folder: Path) -> None:
        code = """
import fcntl, os, sys
number = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)
fcntl.flock(number, fcntl.LOCK_EX)
os.write(number, b"s3cret")
print("ready", flush=True)
sys.stdin.read()
"""
        folder.mkdir(0o700, parents=True)
        command = [sys.executable, "-S", "-c", code, str(folder / "8123")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as old:
            assert old.stdout is not None
            assert old.stdout.readline() == "ready\n"
            assert token_of("http://127.0.0.1:8123") == "s3cret"
            assert token_of("http://127.0.0.1:8124") is None
            old.communicate()
        assert token_of("http://127.0.0.1:8123") is None


@pytest.mark.parametrize(("given", "kind"), [("", "serve"), ("local", "local"), ("shared", "shared"), ("x", "serve")])
def test_who_starts_a_server_says_for_what(given: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(known_servers.KIND_VARIABLE, given)
    assert known_servers.kind_of_this_process() == kind


@pytest.mark.slow
class TestRealServers:
    def test_each_has_a_note_until_it_is_stopped_or_killed(
        self, spawn_server: Callable[..., ServerProcess], tmp_path: Path, folder: Path
    ) -> None:
        first = spawn_server(folder=tmp_path / "1")
        second = spawn_server("--socket", str(tmp_path / "s"), folder=tmp_path / "2", HOLDFAST_SERVER_KIND="shared")
        third = spawn_server(folder=tmp_path / "3", HOLDFAST_TOKEN="s3cret")
        found = running()
        assert [each.pid for each in found] == [third.pid, second.pid, first.pid]
        assert [each.url.rstrip("/") for each in found] == [third.url, f"unix:{tmp_path / 's'}", first.url]
        assert [each.kind for each in found] == ["serve", "shared", "serve"]
        assert [each.needs_token for each in found] == [True, False, False]
        assert [each.data_dir for each in found] == [str(each.data_dir) for each in (third, second, first)]
        assert [each.files_dir for each in found] == [str(each.files_dir) for each in (third, second, first)]
        assert not any("s3cret" in path.read_text() for path in folder.iterdir())
        first.stop()
        third.kill()
        assert [each.pid for each in running()] == [second.pid]
        assert len(list(folder.iterdir())) == 1

    def test_a_server_starts_where_it_can_not_write_its_note_and_says_so(
        self, spawn_server: Callable[..., ServerProcess], tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        server = spawn_server(HOLDFAST_STATE_DIR=str(tmp_path / "file"))
        assert "can't find this server by themselves" in server.log
        server.stop()
