"""Files of the server are its user's alone, and no secret is shown."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import holdfast
from holdfast._http import Connection
from tests.support.servers import ServerProcess
from tornado_app import private, settings
from tornado_app.private import NotPrivateError

STRANGER = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user, which only root can")


def open_to_others(folder: Path) -> list[str]:
    """Return the paths in a folder that others may read or write, itself included."""
    found = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    return [str(path.relative_to(folder)) for path in found if path.stat().st_mode & 0o077]


@pytest.mark.slow
def test_the_data_directory_is_private_whatever_the_umask_and_whatever_was_there(
    spawn_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    (data / "kernels").mkdir(parents=True)
    (data / "kernels/old.json").write_text("{}", encoding="utf-8")
    outside.write_text("mine", encoding="utf-8")
    (data / "link").symlink_to(outside)
    for path in (data, data / "kernels", data / "kernels/old.json", outside):
        path.chmod(0o777 if path.is_dir() else 0o666)
    before = os.umask(0)
    try:
        server = spawn_server()
    finally:
        os.umask(before)
    with holdfast.Client(server.url) as client:
        client.files.write("a.csv", b"a,b\n1,2\n")
        assert client.processes.start("import-csv", file_name="a.csv", table="t").result(60)
        client.files.download_link("a.csv")
    assert (data / "default.sqlite").stat().st_size > 0
    assert open_to_others(data) == []
    assert outside.stat().st_mode & 0o777 == 0o666
    server.stop()
    assert open_to_others(data) == []


def test_published_files_in_it_keep_their_modes(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "shown").write_text("x", encoding="utf-8")
    (files / "shown").chmod(0o644)
    (tmp_path / "server.log").write_text("x", encoding="utf-8")
    (tmp_path / "server.log").chmod(0o644)
    private.make_files(tmp_path, leave=files)
    assert (files / "shown").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "server.log").stat().st_mode & 0o777 == 0o600


@needs_root
def test_what_another_user_has_made_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, token = tmp_path / "data", tmp_path / "token"
    folder.mkdir()
    token.write_text("t", encoding="utf-8")
    for path in (folder, token):
        os.chown(path, STRANGER, STRANGER)
    with pytest.raises(NotPrivateError, match="belongs to another user"):
        private.check_unshared(token)
    private.make_folder(folder)  # root may do anything
    monkeypatch.setattr("tornado_app.private.os.geteuid", lambda: 1234)
    with pytest.raises(NotPrivateError, match="belongs to another user"):
        private.make_folder(folder)


def test_a_secret_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    made = private.secret(path)
    assert len(made) >= 32
    assert private.secret(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o660)
    with pytest.raises(NotPrivateError, match="chmod go-w"):
        private.secret(path)
    path.chmod(0o600)
    assert private.renew(path) != made
    assert [*tmp_path.iterdir()] == [path]


class TestNoSecretIsShown:
    def test_in_a_clients_text_or_its_errors(self) -> None:
        url = "http://someone:hunter2@127.0.0.1:9/prefix"
        with holdfast.Client(url, token="s3cret", retries=0) as client:
            assert repr(client) == "<Client http://127.0.0.1:9/prefix>"
            assert "s3cret" not in repr(client._core.connection)
            with pytest.raises(holdfast.errors.ConnectFailed) as failed:
                client.work_types()
        assert "hunter2" not in str(failed.value) + repr(failed.value)
        with pytest.raises(ValueError, match="is not the URL") as refused:
            holdfast.Client("ftp://someone:hunter2@host")
        assert "hunter2" not in str(refused.value)
        assert "hunter2" not in repr(Connection(url, "s3cret").shown_url)

    @pytest.mark.slow
    def test_by_the_command(self) -> None:
        command = [sys.executable, "-m", "holdfast.cli", "--url", "http://someone:hunter2@127.0.0.1:9"]
        for words in (["version"], ["ls"], ["--json", "ls"]):
            run = subprocess.run([*command, "--token", "s3cret", *words], capture_output=True, text=True, timeout=60)
            assert "hunter2" not in run.stdout + run.stderr
            assert "s3cret" not in run.stdout + run.stderr

    @pytest.mark.parametrize("flags", [["--tokn", "s3cret"], ["--tokn=s3cret"], ["--port", "1", "s3cret"]])
    def test_by_a_server_that_is_started_wrong(self, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            settings.read(flags, {})
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert "s3cret" not in said
        assert "unrecognized arguments" in said
        assert ("--tokn" in said) == flags[0].startswith("--tokn")

    @pytest.mark.slow
    @pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads the arguments of a process from /proc")
    def test_in_the_arguments_or_the_log_of_a_server_of_ones_own(self) -> None:
        with holdfast.local_server() as server, server.client() as client:
            assert client.ready()
            assert server.token
            arguments = Path(f"/proc/{server.pid}/cmdline").read_text(encoding="utf-8")
            assert server.token not in arguments
            assert server.token not in repr(server)
            assert server.token not in server.log_path.read_text(encoding="utf-8")
            assert server.log_path.stat().st_mode & 0o777 == 0o600
            with holdfast.local_server(flags=["--max-running", "1"]) as other:
                assert other.token != server.token
