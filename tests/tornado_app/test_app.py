"""The server as a whole: what it opens, refuses to open twice, and gives back."""

from __future__ import annotations

import dataclasses
import os
import socket
from pathlib import Path

import httpx
import pytest

from tornado_app.app import App, DirectoryLock
from tornado_app.settings import Settings, SettingsError


class TestDirectoryLock:
    def test_a_second_one_is_refused_and_names_the_first(self, tmp_path: Path) -> None:
        lock = DirectoryLock(tmp_path)
        with pytest.raises(SettingsError, match=rf"another server \(pid {os.getpid()}\)"):
            DirectoryLock(tmp_path)
        lock.release()
        lock.release()
        DirectoryLock(tmp_path).release()

    def test_a_directory_that_is_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "data").touch()
        with pytest.raises(SettingsError, match="--data-dir"):
            DirectoryLock(tmp_path / "data")


class TestApp:
    async def test_it_serves_from_listen_to_close(self, settings: Settings) -> None:
        app = await App.open(settings)
        port = app.listen()
        assert app.url == f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{app.url}/health/live")).json() == {"status": "live"}
        await app.close()
        with pytest.raises(OSError, match="refused"), socket.socket() as sock:
            sock.connect(("127.0.0.1", port))

    async def test_after_a_close_the_same_folders_can_be_opened(self, settings: Settings) -> None:
        for _ in range(2):
            app = await App.open(settings)
            with pytest.raises(SettingsError, match="another server"):
                await App.open(settings)
            await app.close()

    async def test_a_refused_start_leaves_the_folders_free(self, settings: Settings) -> None:
        with pytest.raises(SettingsError, match="no-such-module"):
            await App.open(dataclasses.replace(settings, import_=("no-such-module",)))
        await (await App.open(settings)).close()

    async def test_a_unix_socket_is_removed_at_the_close(self, settings: Settings, tmp_path: Path) -> None:
        path = tmp_path / "s"
        app = await App.open(dataclasses.replace(settings, socket=path))
        assert app.listen() == 0
        assert app.url == f"unix:{path}"
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as client:
            assert (await client.get("http://localhost/v1/work-types")).status_code == 200
        await app.close()
        assert not path.exists()

    async def test_the_data_directory_is_private(self, app: App) -> None:
        data_dir = app.settings.data_dir
        assert data_dir.stat().st_mode & 0o077 == 0
        assert all(path.stat().st_mode & 0o077 == 0 for path in data_dir.iterdir() if path.is_file())
