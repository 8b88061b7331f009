"""Limits of uploads, and refusals by the disk, the client or the clock."""

from __future__ import annotations

import dataclasses
import os
import resource
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from holdfast.wire import Event
from tests.support.servers import ServerProcess, wait_until
from tests.support.uploads import OCTETS, PARTIAL, TUS, Raw, metadata, open_upload, shown
from tornado_app.app import App
from tornado_app.settings import Settings

Spawn = Callable[..., ServerProcess]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, reserve_space=0, idle_timeout=0.1)


@pytest.fixture
def files(settings: Settings) -> Path:
    return settings.files_dir


@pytest.mark.slow
class TestFullDisk:
    """The limit on the size of a file stands for a full disk: the kernel refuses more bytes in the same way."""

    @pytest.fixture
    def server(self, spawn_server: Spawn) -> ServerProcess:
        server = spawn_server("--reserve-space", "0")
        self.limit(server, 2_000_000)
        return server

    def limit(self, server: ServerProcess, size: int) -> None:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def go_on(self, client: httpx.Client, url: str, data: bytes) -> int:
        offset = int(client.head(url, headers=TUS).headers["Upload-Offset"])
        headers = {**OCTETS, "Upload-Offset": str(offset)}
        return client.patch(url, headers=headers, content=data[offset:]).status_code

    def test_it_is_a_507_that_loses_nothing_acknowledged(self, server: ServerProcess) -> None:
        data = os.urandom(5_000_000)
        with httpx.Client(base_url=server.url, timeout=30) as client:
            url = open_upload(client, len(data), "a").headers["Location"]
            first = client.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=data[:1_500_000])
            assert first.status_code == 204
            answer = client.patch(url, headers={**OCTETS, "Upload-Offset": "1500000"}, content=data[1_500_000:])
            assert answer.status_code == 507
            assert "disk of the files directory is full. Make room, then go on" in answer.json()["detail"]
            offset = int(client.head(url, headers=TUS).headers["Upload-Offset"])
            assert 1_500_000 <= offset <= 2_000_000
            assert shown(server.files_dir) == {}
            assert self.go_on(client, url, data) == 507
            self.limit(server, resource.RLIM_INFINITY)
            assert self.go_on(client, url, data) == 204
        assert shown(server.files_dir) == {"a": data}

    def test_on_every_way_in(self, server: ServerProcess) -> None:
        data = os.urandom(3_000_000)
        with httpx.Client(base_url=server.url, timeout=30) as client:
            answer = client.post("/upload/?file_name=seed&bytes_read=0", content=data)
            assert (answer.status_code, answer.json()["type"]) == (500, "/problems/no-space")
            at = client.get("/upload/?file_name=seed").json()["bytes_read"]
            assert 0 <= at <= 2_000_000
            answer = client.put("/v1/files/put", content=data)
            assert answer.status_code == 507
            answer = client.post("/v1/uploads", headers={"Upload-Complete": "?1"}, content=data)
            assert (answer.status_code, answer.headers["Upload-Complete"]) == (507, "?0")
            draft = answer.headers["Location"]
            offset = int(client.head(draft).headers["Upload-Offset"])
            self.limit(server, resource.RLIM_INFINITY)
            headers = {**PARTIAL, "Upload-Offset": str(offset), "Upload-Complete": "?1"}
            assert client.patch(draft, headers=headers, content=data[offset:]).status_code == 201
            query = f"/upload/?file_name=seed&bytes_read={at}&is_complete=true"
            assert client.post(query, content=data[at:]).status_code == 200
        assert shown(server.files_dir) == {"seed": data, draft.rpartition("/")[2]: data}

    def test_parts_that_do_not_fit_together_stay_apart(self, server: ServerProcess) -> None:
        data = os.urandom(1_500_000)
        with httpx.Client(base_url=server.url, timeout=30) as client:
            headers = {**OCTETS, "Upload-Length": "1500000", "Upload-Concat": "partial"}
            parts = [client.post("/v1/uploads", headers=headers, content=data).headers["Location"] for _ in range(2)]
            final = {**TUS, "Upload-Concat": f"final;{' '.join(parts)}", **metadata(filename="a")}
            answer = client.post("/v1/uploads", headers=final)
            assert answer.status_code == 507
            whole = answer.headers["Location"]
            self.limit(server, resource.RLIM_INFINITY)
            wait_until(lambda: client.head(whole, headers=TUS).headers.get("Upload-Offset") == "3000000")
        assert shown(server.files_dir) == {"a": data + data}


class TestReserve:
    async def test_before_the_disk_is_full_there_is_a_507(self, http: httpx.AsyncClient, app: App, files: Path) -> None:
        answer = await open_upload(http, 1 << 55, "a")
        assert answer.status_code == 507
        assert "--reserve-space" in answer.json()["detail"]
        url = (await open_upload(http, 10, "a")).headers["Location"]
        app.services.files.store.free_space = lambda: 99  # type: ignore[method-assign]
        app.services.files.uploads.limits.reserve = 100
        answer = await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=b"01234")
        assert answer.status_code == 507
        assert "99 bytes are free, and 100 of them stay so" in answer.json()["detail"]
        app.services.files.store.free_space = lambda: None  # type: ignore[method-assign]
        answer = await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=b"0123456789")
        assert answer.status_code == 204
        assert shown(files) == {"a": b"0123456789"}


class TestTold:
    async def test_events_tell_the_life_of_an_upload(self, http: httpx.AsyncClient, app: App) -> None:
        events: list[Event] = []
        app.services.files.on_event = events.append
        url = (await open_upload(http, 6, "a")).headers["Location"]
        id = url.rpartition("/")[2]
        await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=b"abc")
        await http.patch(url, headers={**OCTETS, "Upload-Offset": "3"}, content=b"def")
        gone = (await open_upload(http, 6, "b")).headers["Location"]
        await http.delete(gone, headers=TUS)
        await http.delete("/v1/files/a")
        progress = [event.data for event in events if (event.data or {})["what"] == "progress"]
        assert progress[0] == {"what": "progress", "name": "a", "offset": 3, "length": 6}
        told = [(event.type, event.id, (event.data or {})["what"]) for event in events if event.data not in progress]
        assert told == [
            ("upload", id, "created"),
            ("upload", id, "finished"),
            ("file", "a", "published"),
            ("upload", gone.rpartition("/")[2], "created"),
            ("upload", gone.rpartition("/")[2], "cancelled"),
            ("file", "a", "deleted"),
        ]
        assert next(event.data or {} for event in events if event.type == "file")["size"] == 6

    async def test_events_tell_when_a_part_is_whole(self, http: httpx.AsyncClient, app: App) -> None:
        """It is never published, and joining parts may take long or never come."""
        told: list[str] = []
        app.services.files.on_event = lambda event: told.append((event.data or {})["what"])
        part = {**TUS, "Upload-Length": "6", "Upload-Concat": "partial"}
        url = (await http.post("/v1/uploads", headers=part)).headers["Location"]
        await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=b"abc")
        await http.patch(url, headers={**OCTETS, "Upload-Offset": "3"}, content=b"def")
        await http.patch(url, headers={**OCTETS, "Upload-Offset": "6"}, content=b"")
        assert [what for what in told if what != "progress"] == ["created", "finished"]

    async def test_metrics_count_what_happened(self, http: httpx.AsyncClient, base_url: str) -> None:
        async def counted() -> dict[str, float]:
            lines = [line for line in (await http.get("/metrics")).text.splitlines() if not line.startswith("#")]
            return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

        before = await counted()
        url = (await open_upload(http, 6, "a")).headers["Location"]
        during = await counted()
        await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=b"abc")
        wrong = {**OCTETS, "Upload-Offset": "3", "Upload-Checksum": "sha1 " + "A" * 27 + "="}
        assert (await http.patch(url, headers=wrong, content=b"def")).status_code == 460
        raw = Raw(base_url)
        await raw.send(f"PATCH {url}", {**OCTETS, "Upload-Offset": "3", "Content-Length": "3"}, b"d")
        assert await raw.is_closed()
        raw.close()
        await http.head(url, headers=TUS)
        await http.patch(url, headers={**OCTETS, "Upload-Offset": "4"}, content=b"ef")
        after = await counted()

        def grew(name: str) -> float:
            return after.get(name, 0) - before.get(name, 0)

        assert grew("holdfast_upload_bytes_total") == 6
        assert grew('holdfast_uploads_created_total{kind="tus"}') == 1
        assert grew('holdfast_uploads_published_total{kind="tus"}') == 1
        assert grew('holdfast_upload_cuts_total{why="idle"}') == 1
        assert grew("holdfast_upload_resumes_total") == 3
        assert grew("holdfast_digest_failures_total") == 1
        assert grew("holdfast_upload_seconds_count") == 1
        assert during["holdfast_uploads_in_the_making"] == before.get("holdfast_uploads_in_the_making", 0) + 1
        assert after["holdfast_uploads_in_the_making"] == during["holdfast_uploads_in_the_making"] - 1


class TestSettings:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, durable=True, digest_uploads=False)

    async def test_durable_and_without_digests_uploads_go_the_same_way(
        self, http: httpx.AsyncClient, files: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced = []
        fdatasync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(fdatasync(fd)))
        url = (await open_upload(http, 6, "a")).headers["Location"]
        await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=b"abc")
        assert len(synced) == 1  # before the answer that promised three bytes
        await http.patch(url, headers={**OCTETS, "Upload-Offset": "3"}, content=b"def")
        assert shown(files) == {"a": b"abcdef"}
        answer = await http.get("/v1/files/a")
        assert "Repr-Digest" not in answer.headers
        assert answer.headers["ETag"]

    async def test_a_digest_that_was_asked_for_is_checked_all_the_same(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        headers = {**OCTETS, "Upload-Length": "3", **metadata(filename="a", sha256="0" * 64)}
        assert (await http.post("/v1/uploads", headers=headers, content=b"abc")).status_code == 460
        assert shown(files) == {}

    @pytest.mark.slow
    def test_two_servers_on_one_files_directory_are_refused(self, spawn_server: Spawn, tmp_path: Path) -> None:
        first = spawn_server()
        with pytest.raises(AssertionError, match="another server uses it"):
            spawn_server("--files-dir", str(first.files_dir), folder=tmp_path / "second")


@pytest.mark.slow
def test_memory_does_not_grow_with_an_upload(spawn_server: Spawn) -> None:
    server = spawn_server("--reserve-space", "0")

    def upload(name: str, mib: int) -> int:
        with httpx.Client(base_url=server.url, timeout=120) as client:
            url = open_upload(client, mib << 20, name).headers["Location"]
            body = (b"x" * (1 << 20) for _ in range(mib))
            headers = {**OCTETS, "Upload-Offset": "0", "Content-Length": str(mib << 20)}
            assert client.patch(url, headers=headers, content=body).status_code == 204
        status = Path(f"/proc/{server.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024

    small = upload("small", 100)
    assert upload("big", 700) - small < 16 << 20
