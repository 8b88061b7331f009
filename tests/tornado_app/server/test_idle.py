"""A server stops by itself once nobody has used it for long enough, and never while there is something to do."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from tests.support import work
from tests.support.processes import eventually
from tests.support.servers import ServerProcess
from tests.support.uploads import open_upload
from tornado_app.app import App
from tornado_app.server.idle import InFlight, wait_idle
from tornado_app.settings import Settings


class Time:
    """A clock that only `sleep` moves; what happens at which second is given."""

    def __init__(self, **happens: Callable[[], None]) -> None:
        self.now = 0.0
        self.happens = happens

    async def sleep(self, seconds: float) -> None:
        """Move the clock on, a second at a time."""
        assert seconds > 0
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            self.happens.pop(f"at_{self.now:g}", lambda: None)()


class TestWait:
    async def stops_at(self, time: Time, activity: InFlight, working: Callable[[], bool] = lambda: False) -> float:
        async def has_work() -> bool:
            return working()

        await wait_idle(activity, 60.0, has_work, time.sleep)
        return time.now

    async def test_without_any_use_it_ends_after_that_time(self) -> None:
        time = Time()
        assert await self.stops_at(time, InFlight(lambda: time.now)) == 60

    async def test_it_counts_from_the_end_of_the_last_request(self) -> None:
        time = Time()
        activity = InFlight(lambda: time.now)
        time.happens = {"at_50": lambda: activity.add("a"), "at_500": lambda: activity.discard("a")}
        assert await self.stops_at(time, activity) == 560

    async def test_a_request_that_was_answered_at_once_counts(self) -> None:
        time = Time()
        activity = InFlight(lambda: time.now)
        time.happens = {"at_59": activity.touch}
        assert await self.stops_at(time, activity) == 119

    async def test_a_probe_does_not(self) -> None:
        time = Time()
        activity = InFlight(lambda: time.now)
        time.happens = {
            "at_30": lambda: activity.add("p", is_probe=True),
            "at_59": lambda: activity.discard("p"),
        }
        assert await self.stops_at(time, activity) == 60

    async def test_it_counts_from_the_end_of_the_last_work(self) -> None:
        time = Time()
        ended = await self.stops_at(time, InFlight(lambda: time.now), lambda: 10 <= time.now < 199)
        assert 199 + 60 <= ended <= 199 + 60 + 5  # it looks every 5 seconds

    async def test_a_request_that_comes_while_it_asks_for_work_holds_it(self) -> None:
        time = Time()
        activity = InFlight(lambda: time.now)

        async def has_work() -> bool:
            if time.now == 60:
                activity.touch()
            return False

        await wait_idle(activity, 60.0, has_work, time.sleep)
        assert time.now == 120

    async def test_a_stop_waits_for_requests_and_probes(self) -> None:
        activity = InFlight()
        activity.add("a")
        activity.add("p", is_probe=True)
        drained = asyncio.ensure_future(activity.drained(60))
        activity.discard("a")
        await asyncio.sleep(0)
        assert not drained.done()
        activity.discard("p")
        await drained


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(
        settings, import_=("tests.support.work",), command={"sleeps": "sleep 1000"}, shutdown_grace=0.5
    )


@pytest.fixture
async def released(server: App) -> AsyncIterator[App]:
    """`server`; work that waits for its release gets it in the end."""
    work.RELEASE.clear()
    yield server
    work.RELEASE.set()


class TestWork:
    async def test_a_server_at_rest_has_none_also_with_an_unfinished_upload(
        self, server: App, http: httpx.AsyncClient
    ) -> None:
        assert not await server.has_work()
        assert (await open_upload(http, 10, "a")).status_code == 201
        assert not await server.has_work()

    async def test_a_process_that_runs_or_is_queued_is_work_and_one_that_is_paused_or_ended_is_none(
        self, released: App, http: httpx.AsyncClient
    ) -> None:
        await http.post("/v1/processes", json={"work_type": "keyed", "id": "p"})
        assert await released.has_work()
        await http.post("/v1/processes/p/pause")
        await eventually(lambda: state_of(released, "p") is None)
        await until_at_rest(released)
        await http.post("/v1/processes/p/resume")
        assert await released.has_work()
        work.RELEASE.set()
        await until_at_rest(released)
        await http.post("/v1/processes", json={"work_type": "never", "id": "q"})
        assert await released.has_work()
        await http.post("/v1/processes/q/cancel")
        await until_at_rest(released)

    async def test_one_that_waits_for_its_retry_is_work(self, server: App, http: httpx.AsyncClient) -> None:
        body = {"work_type": "bad", "id": "r", "params": {"how": "raises"}, "retries": 9}
        await http.post("/v1/processes", json=body)
        async with asyncio.timeout(60):
            while (await http.get("/v1/processes/r")).json()["retry_at"] is None:
                await asyncio.sleep(0.01)
        assert await server.has_work()
        await http.post("/v1/processes/r/cancel")
        await until_at_rest(server)

    async def test_one_that_is_paused_with_its_program_left_alive_is_work(
        self, server: App, http: httpx.AsyncClient
    ) -> None:
        await http.post("/v1/processes", json={"work_type": "command", "id": "c", "params": {"name": "sleeps"}})
        await running(http, "c")
        await http.post("/v1/processes/c/pause")
        async with asyncio.timeout(60):
            while (await http.get("/v1/processes/c")).json()["state"] != "paused":
                await asyncio.sleep(0.01)
        assert await server.has_work()
        await http.post("/v1/processes/c/cancel")
        await until_at_rest(server)

    async def test_a_digest_to_be_made_is_work(
        self, server: App, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sha256 = server.services.files.sha256
        may_begin = asyncio.Event()
        monkeypatch.setattr(sha256, "_may_go_on", lambda job: may_begin.wait())
        await http.put("/v1/files/large", content=bytes(1 << 20))
        assert await server.has_work()
        may_begin.set()
        await until_at_rest(server)

    async def test_an_event_stream_and_a_long_poll_are_use(self, released: App, http: httpx.AsyncClient) -> None:
        in_flight = released.services.in_flight
        async with http.stream("GET", "/v1/events") as stream:
            assert stream.status_code == 200
            assert in_flight.idle_for() == 0.0
        await eventually(lambda: in_flight.idle_for() > 0)

    async def test_what_monitors_and_watchers_ask_is_no_use_and_all_else_is(
        self, server: App, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (server.settings.files_dir / "a").write_bytes(b"a")
        used: list[None] = []
        monkeypatch.setattr(server.services.in_flight, "touch", lambda: used.append(None))
        watch = {"X-Holdfast-Watch": "1"}
        for path in ("/health", "/health/live", "/health/ready", "/metrics", f"/v1/identity?nonce={'x' * 22}"):
            assert (await http.get(path)).status_code == 200
        for path in ("/v1/processes", "/v1/files/a", "/v1/files/a"):  # the second one could be answered directly
            assert (await http.get(path, headers=watch)).status_code == 200
        assert not used
        for path in ("/v1/processes", "/v1/files/a", "/v1/files/a"):
            before = len(used)
            assert (await http.get(path)).status_code == 200
            assert len(used) > before, path
        before = len(used)
        await http.put("/v1/files/b", headers=watch, content=b"b")
        assert len(used) > before


def state_of(app: App, id: str) -> object:
    """The process as the loop knows it while it runs here."""
    return app.services.engine.get_running(id)


async def running(http: httpx.AsyncClient, id: str) -> None:
    async with asyncio.timeout(60):
        while (await http.get(f"/v1/processes/{id}")).json()["state"] != "running":
            await asyncio.sleep(0.01)


async def until_at_rest(app: App) -> None:
    async with asyncio.timeout(60):
        while await app.has_work():
            await asyncio.sleep(0.01)


@pytest.mark.slow
class TestServer:
    def test_it_ends_cleanly_by_itself_and_leaves_no_socket_and_no_note(
        self, spawn_server: Callable[..., ServerProcess], tmp_path: Path
    ) -> None:
        server = spawn_server(
            *("--idle-stop", "0.2", "--socket", str(tmp_path / "s")), HOLDFAST_STATE_DIR=str(tmp_path / "state")
        )
        server.wait_for_clean_end()
        assert "(--idle-stop)" in server.log
        assert not (tmp_path / "s").exists()
        assert list((tmp_path / "state" / "servers").iterdir()) == []

    def test_not_before_its_last_process_has_ended(self, spawn_server: Callable[..., ServerProcess]) -> None:
        flags = ("--import", "tests.support.work")
        server = spawn_server(*flags, PYTHONPATH=".")
        body = {"work_type": "steps", "id": "p", "params": {"to": 300, "every": 0.01}}
        assert httpx.post(f"{server.url}/v1/processes", json=body).status_code == 201
        server.kill()
        server.flags += ["--idle-stop", "0.2"]
        server.start()  # it goes on with the process, which nobody asks about
        server.wait_for_clean_end()
        again = spawn_server(*flags, PYTHONPATH=".")
        assert httpx.get(f"{again.url}/v1/processes/p").json()["state"] == "succeeded"
