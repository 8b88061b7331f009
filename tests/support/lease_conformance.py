"""The promises of every `UploadLeases`. An implementation's tests subclass `LeaseConformance` and give it `servers`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import pytest

from tests.support.servers import PATIENCE
from tornado_app import problems
from tornado_app.files.uploads.lease import fairness
from tornado_app.files.uploads.lease.interface import Lease, UploadLeases


class Request:
    """A holder in the hands of a test."""

    def __init__(self, *, is_internal: bool = False, active_at: float = -math.inf) -> None:
        self.is_internal = is_internal
        self.active_at = active_at
        self.asked = 0

    def on_release_requested(self) -> None:
        self.asked += 1


class Busy(Request):
    """A request whose bytes arrive all the time."""

    active_at = property(lambda self: time.monotonic(), lambda self, value: None)  # type: ignore[assignment]


class Internal(Busy):
    """The server itself at work."""

    def __init__(self) -> None:
        super().__init__(is_internal=True)


async def until(condition: Callable[[], object]) -> None:
    """Return once a condition is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def soon(work: asyncio.Future[Lease]) -> Lease:
    """Return the lease that somebody waits for."""
    async with asyncio.timeout(PATIENCE):
        return await work


class LeaseConformance:
    """The suite. `servers` are two servers' views of the same leases, or one server's view twice."""

    @pytest.fixture
    def servers(self) -> tuple[UploadLeases, UploadLeases]:
        raise NotImplementedError

    async def test_a_lease_that_nobody_holds_is_given_at_once(self, servers: tuple[UploadLeases, UploadLeases]) -> None:
        one, other = servers
        assert one.holder("a") is None
        holder = Request()
        lease = await one.acquire("a", holder)
        assert (lease.upload, lease.holder, lease.release_requested) == ("a", holder, False)
        assert one.holder("a") is holder
        assert one.renew(lease)
        await other.acquire("b", Request())
        assert holder.asked == 0, "another upload is no matter of this one"

    async def test_a_released_lease_is_nobodys(self, servers: tuple[UploadLeases, UploadLeases]) -> None:
        one, _ = servers
        lease = await one.acquire("a", Request())
        one.release(lease)
        one.release(lease)
        assert one.holder("a") is None
        assert not one.renew(lease)

    async def test_the_holder_is_asked_once_and_the_next_one_waits_for_it(
        self, servers: tuple[UploadLeases, UploadLeases]
    ) -> None:
        one, other = servers
        holder = Request()
        first = await one.acquire("a", holder)
        waiting = asyncio.ensure_future(other.acquire("a", Request()))
        await until(lambda: holder.asked)
        assert not waiting.done(), "bytes of the first may still be on their way to the disk"
        assert other.waiting("a") == 1
        assert first.release_requested
        one.release(first)
        second = await soon(waiting)
        assert second.epoch > first.epoch
        assert other.renew(second)
        assert not one.renew(first)
        assert holder.asked == 1
        assert other.waiting("a") == 0

    async def test_a_late_release_takes_nothing_from_the_next_holder(
        self, servers: tuple[UploadLeases, UploadLeases]
    ) -> None:
        one, other = servers
        first = await one.acquire("a", Request())
        one.release(first)
        second = await other.acquire("a", Request())
        one.release(first)
        assert other.renew(second)

    async def test_of_several_that_wait_the_newest_gets_it(self, servers: tuple[UploadLeases, UploadLeases]) -> None:
        one, other = servers
        first = await one.acquire("a", holder := Request())
        older = asyncio.ensure_future(other.acquire("a", Request()))
        await until(lambda: holder.asked)
        newest = Request()
        newer = asyncio.ensure_future(one.acquire("a", newest))
        await until(lambda: one.waiting("a") + (other.waiting("a") if other is not one else 0) == 2 or older.done())
        one.release(first)
        with pytest.raises(problems.ProblemError, match="a newer request for this upload took over") as refused:
            await soon(older)
        assert refused.value.kind is problems.LOCKED
        assert refused.value.headers == {"Retry-After": "1"}
        assert (await soon(newer)).holder is newest

    async def test_a_client_that_has_gone_gets_no_lease(self, servers: tuple[UploadLeases, UploadLeases]) -> None:
        one, other = servers
        first = await one.acquire("a", holder := Request())
        gone = False
        waiting = asyncio.ensure_future(other.acquire("a", Request(), lambda: gone))
        await until(lambda: holder.asked)
        gone = True
        one.release(first)
        done, _ = await asyncio.wait([waiting], timeout=PATIENCE)
        assert done
        if waiting.exception() is None:  # the lease was free before anybody looked
            other.release(waiting.result())
        else:
            assert "the client has gone" in str(waiting.exception())
        third = await one.acquire("a", Request())
        assert one.renew(third)

    async def test_any_number_may_ask_for_a_release_and_nobody_is_refused(
        self, servers: tuple[UploadLeases, UploadLeases]
    ) -> None:
        one, other = servers
        first = await one.acquire("a", holder := Request())
        readers = [asyncio.ensure_future(server.request_release("a")) for server in (one, other) for _ in range(4)]
        await until(lambda: holder.asked)
        assert not any(reader.done() for reader in readers)
        one.release(first)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*readers)
        assert holder.asked == 1
        async with asyncio.timeout(PATIENCE):
            await other.request_release("a")  # nobody holds it

    async def test_work_of_the_server_itself_refuses_none_of_those_that_wait(
        self, servers: tuple[UploadLeases, UploadLeases]
    ) -> None:
        one, other = servers
        first = await one.acquire("a", holder := Busy())
        client = asyncio.ensure_future(other.acquire("a", Request()))
        await until(lambda: holder.asked)
        internal = asyncio.ensure_future(one.acquire("a", Request(is_internal=True), preempt=True))
        await asyncio.sleep(0)
        one.release(first)
        left = {internal: one, client: other}
        while left:
            async with asyncio.timeout(PATIENCE):
                done, _ = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for turn in done:
                left.pop(turn).release(turn.result())

    async def test_everybody_on_a_server_is_asked_when_it_closes(
        self, servers: tuple[UploadLeases, UploadLeases]
    ) -> None:
        one, _ = servers
        holders = [Busy() for _ in range(3)]
        for number, holder in enumerate(holders):
            await one.acquire(str(number), holder)
        one.release_all()
        assert [holder.asked for holder in holders] == [1, 1, 1]

    async def test_what_is_forgotten_can_be_acquired_anew(self, servers: tuple[UploadLeases, UploadLeases]) -> None:
        one, other = servers
        first = await one.acquire("a", Request())
        one.forget("a")
        assert one.holder("a") is None
        second = await other.acquire("a", Request())
        one.release(first)
        assert other.renew(second)

    # -- fairness

    async def test_of_two_that_interrupt_each_other_the_second_may_go_on_for_a_while(
        self, servers: tuple[UploadLeases, UploadLeases], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fairness, "FIRST_S", 0.05)
        one, other = servers
        first = await one.acquire("a", holder := Busy())
        waiting = asyncio.ensure_future(one.acquire("a", second := Busy()))
        await until(lambda: holder.asked)
        one.release(first)
        lease = await soon(waiting)
        back = asyncio.ensure_future(other.acquire("a", Busy()))
        await until(lambda: second.asked)
        assert time.monotonic() - lease.acquired_at >= 0.05
        one.release(lease)
        await soon(back)

    @pytest.mark.parametrize("before", [Busy, Internal])
    async def test_a_silent_holder_and_one_after_the_server_itself_are_not_waited_for(
        self, servers: tuple[UploadLeases, UploadLeases], monkeypatch: pytest.MonkeyPatch, before: type[Request]
    ) -> None:
        monkeypatch.setattr(fairness, "FIRST_S", 10 * PATIENCE)
        monkeypatch.setattr(fairness, "MOST_S", 10 * PATIENCE)
        one, other = servers
        for holder in (before(), Request() if before is Busy else Busy()):
            lease = await one.acquire("a", holder)
            waiting = asyncio.ensure_future(other.request_release("a"))
            await until(lambda holder=holder: holder.asked)  # type: ignore[misc]
            one.release(lease)
            await waiting
