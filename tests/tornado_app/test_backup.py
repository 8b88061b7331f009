"""A backup that is taken while the server works is restored elsewhere, and everything goes on from there."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import holdfast
from tests.support.servers import ServerProcess, wait_until
from tornado_app import backup
from tornado_app.settings import Settings

ROWS = 3000


def command(server: ServerProcess, target: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "holdfast", "backup", str(target)]
    line += ["--data-dir", str(server.data_dir), "--files-dir", str(server.files_dir), *flags]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_a_restored_server_goes_on_with_all_that_was_under_way(
    spawn_server: Callable[..., ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    server = spawn_server("--journal-interval", "0")
    rows = "".join(f"{n},{n * n}\n" for n in range(ROWS))
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(range(256)) * 20_000)
    with holdfast.Client(server.url) as client:
        client.files.write("rows.csv", f"n,square\n{rows}".encode())
        paused = client.processes.start("import-csv", id="paused", file_name="rows.csv", table="a", batch_rows=1)
        paused.pause().wait(30, until="paused")
        running = client.processes.start("import-csv", id="running", file_name="rows.csv", table="b", batch_rows=1)
        wait_until(lambda: (client.processes.get("running").progress.done or 0) > 1000)
        upload = client.files.upload(big, limit=1 << 20)
        wait_until(lambda: upload.progress.done > 1 << 18)
        upload.pause()
        done = command(server, tmp_path / "backup")
        assert done.returncode == 0, done.stderr
        assert "databases" in done.stdout
        assert running.wait(120).result() == {"rows": ROWS, "table": "b", "columns": ["n", "square"]}, "undisturbed"
    server.end()
    for old, new in ((server.data_dir, "data"), (server.files_dir, "files")):
        shutil.rmtree(old)
        shutil.copytree(tmp_path / "backup" / new, old, symlinks=True)
    server.start()
    with holdfast.Client(server.url) as client:
        assert client.processes.get("paused").state == "paused"
        assert client.processes.get("running").result(120)["rows"] == ROWS
        assert client.processes.get("paused").resume().result(120)["rows"] == ROWS
        assert client.files.read("rows.csv") == f"n,square\n{rows}".encode()
        [half] = [each for each in client.files.uploads() if not each.complete]
        assert (half.name, half.length) == ("big.bin", big.stat().st_size)
        assert half.offset > 0
        with closing(sqlite3.connect(server.data_dir / "default.sqlite")) as database:
            for table in "ab":
                found = database.execute(f"SELECT count(*), count(DISTINCT n), sum(n) FROM {table}").fetchone()
                assert found == (ROWS, ROWS, ROWS * (ROWS - 1) // 2), table


@pytest.mark.slow
def test_an_upload_goes_on_at_the_byte_that_the_backup_has(
    spawn_server: Callable[..., ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    server = spawn_server()
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(range(256)) * 20_000)
    with holdfast.Client(server.url) as client:
        upload = client.files.upload(big, limit=1 << 20)
        wait_until(lambda: upload.progress.done > 1 << 18)
        upload.pause()
        assert command(server, tmp_path / "backup", "--json").returncode == 0
    server.end()
    shutil.rmtree(server.files_dir)
    shutil.copytree(tmp_path / "backup/files", server.files_dir)
    server.start()
    with holdfast.Client(server.url) as client:
        [half] = client.files.uploads()
        assert half.offset > 0
        assert client.files.upload(big).wait(60).size == big.stat().st_size
    assert (server.files_dir / "big.bin").read_bytes() == big.read_bytes()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Directories as a server has them."""
    data, files = tmp_path / "data", tmp_path / "files"
    (data / "kernels").mkdir(parents=True)
    (files / "a").mkdir(parents=True)
    for name in ("journal.sqlite", "extra.sqlite", "odd name.db"):
        with closing(sqlite3.connect(data / name)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("CREATE TABLE t (x)")
            database.execute("INSERT INTO t VALUES (1)")
            database.commit()
    (data / "kernels/x.json").write_text("{}")
    (data / "lock").write_text("1")
    (files / "a/b").write_text("b")
    (files / "link").symlink_to("a/b")
    (tmp_path / "elsewhere.sqlite").write_bytes((data / "extra.sqlite").read_bytes())
    databases = {"mine": f"sqlite:///{tmp_path}/elsewhere.sqlite", "theirs": "postgresql://db/x"}
    return Settings(data_dir=data, files_dir=files, database=databases)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_a_backup_holds_what_a_restore_needs_and_nothing_of_the_moment(settings: Settings, tmp_path: Path) -> None:
    with closing(sqlite3.connect(settings.data_dir / "journal.sqlite")) as writer:
        writer.execute("INSERT INTO t VALUES (2)")
        writer.commit()
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO t VALUES (3)")  # not committed, and in nobody's way
        copied = backup.back_up(settings, tmp_path / "out/backup")
        writer.rollback()
    found = tmp_path / "out/backup"
    data = {f"data/{name}" for name in ("journal.sqlite", "extra.sqlite", "odd name.db", "kernels/x.json")}
    assert tree(found) == data | {"files/a/b", "files/link", "databases/mine.sqlite"}
    with closing(sqlite3.connect(found / "data/journal.sqlite")) as database:
        assert database.execute("SELECT x FROM t").fetchall() == [(1,), (2,)]
    assert list(copied.left_out) == ["theirs"]
    assert (found.stat().st_mode & 0o777) == 0o700
    assert (found / "files/.holdfast/uploads").is_dir()


def test_without_files_there_are_none(settings: Settings, tmp_path: Path) -> None:
    backup.back_up(settings, tmp_path / "backup", files=False)
    assert not (tmp_path / "backup/files").exists()


def test_what_fails_leaves_nothing_behind(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data-dir", str(settings.data_dir), "--files-dir", str(settings.files_dir)]
    there = tmp_path / "there"
    there.mkdir()
    assert backup.main([str(there), *flags]) == 1
    assert "exists. Give a new folder" in capsys.readouterr().err
    assert backup.main([str(tmp_path / "new"), "--data-dir", str(there)]) == 1
    assert "Give the server's --data-dir" in capsys.readouterr().err
    assert backup.main([str(tmp_path / "new"), "--port", "x"]) == 2

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", full)
    before = sorted(tmp_path.iterdir())
    assert backup.main([str(tmp_path / "new"), *flags]) == 1
    assert "No space left" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_no_database_is_told(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (settings.data_dir / "journal.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    flags = ["--data-dir", str(settings.data_dir), "--files-dir", str(settings.files_dir), "--json"]
    assert backup.main([str(tmp_path / "new"), *flags]) == 1
    assert "journal.sqlite could not be copied" in capsys.readouterr().err
    (settings.data_dir / "journal.sqlite").write_bytes((settings.data_dir / "extra.sqlite").read_bytes())
    assert backup.main([str(tmp_path / "new"), *flags]) == 0
    assert json.loads(capsys.readouterr().out)["databases"] == 3


def test_files_in_memory_are_refused_unless_they_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    with closing(sqlite3.connect(tmp_path / "data/journal.sqlite")) as journal:
        journal.execute("CREATE TABLE t (x)")
    flags = ["--data-dir", str(tmp_path / "data"), "--files-dir", str(tmp_path / "none"), "--store", "memory"]
    assert backup.main([str(tmp_path / "backup"), *flags]) == 1
    assert "--store memory are in its own memory, which a backup can't read: download" in capsys.readouterr().err
    assert not (tmp_path / "backup").exists()
    assert backup.main([str(tmp_path / "backup"), *flags, "--no-files"]) == 0
    assert (tmp_path / "backup/data/journal.sqlite").exists()
