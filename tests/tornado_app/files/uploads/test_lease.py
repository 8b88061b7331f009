"""Leases on uploads: two implementations pass one suite, and who was taken over writes no more."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lease_conformance import Busy, LeaseConformance, Request, soon, until
from tests.support.sqlite_leases import SqliteLeases
from tornado_app.files.uploads.lease.fairness import CALM_S, FIRST_S, MOST_S, SILENT_S, Fairness
from tornado_app.files.uploads.lease.interface import Lease, UploadLeases
from tornado_app.files.uploads.lease.memory import MemoryLeases


class TestInMemory(LeaseConformance):
    @pytest.fixture
    def servers(self) -> tuple[UploadLeases, UploadLeases]:
        leases = MemoryLeases()
        return leases, leases

    async def test_nothing_is_awaited_for_a_lease_that_nobody_holds(self) -> None:
        """So an upload that is seen to be free is still free when its lease is taken."""
        with pytest.raises(StopIteration):
            MemoryLeases().acquire("a", Request()).send(None)

    async def test_only_an_interruption_of_a_client_is_kept_after_a_release(self) -> None:
        leases = MemoryLeases()
        leases.release(await leases.acquire("a", Request()))
        assert len(leases) == 0
        first = await leases.acquire("a", Busy())
        waiting = asyncio.ensure_future(leases.acquire("a", Request()))
        await until(lambda: first.release_requested)
        leases.release(first)
        leases.release(await soon(waiting))
        assert len(leases) == 1, "who was interrupted comes back, and then has its turn"
        leases.forget("a")
        assert len(leases) == 0


class TestOfSeveralServers(LeaseConformance):
    @pytest.fixture
    def servers(self, tmp_path: Path) -> Iterator[tuple[UploadLeases, UploadLeases]]:
        both = [SqliteLeases(tmp_path / "leases.sqlite", name) for name in ("one", "other")]
        yield both[0], both[1]
        for leases in both:
            leases.close()

    async def test_a_lease_says_whether_another_server_had_it_in_between(
        self, servers: tuple[UploadLeases, UploadLeases]
    ) -> None:
        inherited = []
        for server in (servers[0], servers[0], servers[1], servers[0]):
            lease = await server.acquire("a", Request())
            inherited.append(lease.from_other_server)
            server.release(lease)
        assert inherited == [False, False, True, True]

    async def test_a_server_that_stopped_is_taken_over_and_can_not_renew(self, tmp_path: Path) -> None:
        stopped = SqliteLeases(tmp_path / "leases.sqlite", "stopped", lease_s=0.01)
        living = SqliteLeases(tmp_path / "leases.sqlite", "living")
        try:
            old = await stopped.acquire("a", Busy())
            new = await soon(asyncio.ensure_future(living.acquire("a", Request())))
            assert new.epoch > old.epoch
            assert new.from_other_server
            assert not stopped.renew(old)
            stopped.release(old)
            assert living.renew(new)
        finally:
            stopped.close()
            living.close()


class TestFairness:
    """Time that a holder may go on, by a clock in the hands of the test."""

    @pytest.fixture
    def now(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [1000.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        return now

    def test_each_interruption_doubles_the_time_up_to_a_most(self, now: list[float]) -> None:
        history, allowed = Fairness(), []
        for epoch in range(8):
            lease = Lease("a", Busy(), epoch)
            began = now[0]
            while history.remaining(lease) > 0:
                now[0] += 0.5
            allowed.append(now[0] - began)
            history.interrupt(lease)
        assert allowed == [0, FIRST_S, 2, 4, 8, 16, MOST_S, MOST_S]

    def test_a_holder_at_work_may_go_on_and_a_silent_one_may_not(self, now: list[float]) -> None:
        history = Fairness()
        assert history.remaining(Lease("a", Busy(), 1)) == 0
        history.interrupt(Lease("a", Busy(), 1))
        assert history.remaining(Lease("a", Busy(), 2)) == pytest.approx(FIRST_S)
        silent = Lease("a", Request(active_at=now[0] - SILENT_S), 3)
        assert history.remaining(silent) <= 0
        assert history.remaining(Lease("a", Request(active_at=-math.inf), 4)) <= 0

    def test_interruptions_are_forgotten_after_a_calm(self, now: list[float]) -> None:
        history = Fairness()
        history.interrupt(Lease("a", Busy(), 1))
        now[0] += CALM_S + 1
        assert history.remaining(Lease("a", Busy(), 2)) <= 0
