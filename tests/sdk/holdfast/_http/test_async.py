"""The async driver carries out every effect on the loop, and what blocks on threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from holdfast import calls, errors, plans
from holdfast._http import AsyncDriver, Connection
from holdfast.plans import Close, Do, Emit, Open, Plan, Read, Sleep, Together
from tests.support.servers import ServerProcess


@pytest.fixture
async def driver() -> AsyncIterator[AsyncDriver]:
    """A driver whose server answers every path with itself."""
    transport = httpx.MockTransport(answer)
    found = AsyncDriver(Connection("http://server"), transport)
    yield found
    await found.close()


async def answer(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/health/live":
        return httpx.Response(200, json={"status": "live"})
    if request.method == "PUT":
        return httpx.Response(413, json={"title": f"{len(await request.aread())} bytes are too many"})
    return httpx.Response(200, stream=httpx.ByteStream(request.url.path.encode() * 3))


async def test_a_call_is_sent_and_its_result_sent_into_the_plan(driver: AsyncDriver) -> None:
    def plan() -> Plan[str]:
        health = yield calls.live()
        return health.status.upper()

    assert await driver.run(plan()) == "LIVE"


async def test_an_error_is_raised_where_the_effect_was_yielded(driver: AsyncDriver) -> None:
    class Body:
        length = 6

        def pieces(self) -> Iterator[bytes]:
            yield from (b"abc", b"def")

    def plan() -> Plan[str]:
        try:
            yield calls.put_file("n", Body())
        except errors.TooLarge as error:
            return error.title
        return ""

    assert await driver.run(plan()) == "6 bytes are too many"


async def test_values_are_emitted_in_order_and_the_result_follows(driver: AsyncDriver) -> None:
    def plan() -> Plan[int]:
        for number in range(3):
            yield Emit(number)
        return 3

    results: list[int] = []
    assert [value async for value in driver.iterate(plan(), results.append)] == [0, 1, 2]
    assert results == [3]


async def test_what_blocks_runs_on_a_thread(driver: AsyncDriver) -> None:
    def plan() -> Plan[int]:
        ident = yield Do(threading.get_ident)
        yield Sleep(0.0)
        return ident

    assert await driver.run(plan()) != threading.get_ident()


async def test_a_stream_is_read_to_its_end(driver: AsyncDriver) -> None:
    def plan() -> Plan[bytes]:
        stream = yield Open(calls.get_file("n"))
        assert stream.answer.status == 200
        found = b""
        while data := (yield Read(stream)):
            found += data
        yield Close(stream)
        return found

    assert await driver.run(plan()) == b"/v1/files/n" * 3


async def test_a_refused_stream_is_an_error() -> None:
    refusing = AsyncDriver(Connection("http://server"), httpx.MockTransport(lambda request: httpx.Response(404)))

    def plan() -> Plan[None]:
        yield Open(calls.get_file("n"))

    with pytest.raises(errors.NotFound):
        await refusing.run(plan())
    await refusing.close()


async def test_the_first_failure_of_several_plans_cancels_the_others(driver: AsyncDriver) -> None:
    ended: list[str] = []

    def waits() -> Plan[None]:
        try:
            yield Sleep(1000)
        finally:
            ended.append("waits")

    def fails() -> Plan[None]:
        yield Sleep(0)
        raise errors.ProtocolError("no")

    def plan() -> Plan[None]:
        yield Together([waits(), fails()])

    with pytest.raises(errors.ProtocolError, match="no"):
        await driver.run(plan())
    assert ended == ["waits"]


async def test_further_plans_are_asked_for_while_others_run(driver: AsyncDriver) -> None:
    gate, seen = threading.Event(), list[str]()

    def first() -> Plan[None]:
        yield Do(lambda: gate.wait(60))
        seen.append("first")

    def second() -> Plan[None]:
        seen.append("second")
        gate.set()
        yield Sleep(0)

    more = iter([[second()]])

    def plan() -> Plan[None]:
        yield Together([first()], lambda: next(more, []), every=0.01)

    await driver.run(plan())
    assert seen == ["second", "first"]


async def test_cancelling_ends_the_plan_with_its_cleanup(driver: AsyncDriver) -> None:
    began, ended = asyncio.Event(), list[Any]()

    def plan() -> Plan[None]:
        try:
            began.set()
            yield Sleep(1000)
        except asyncio.CancelledError:
            yield Do(lambda: ended.append("cleanup"), always=True)
            raise

    task = asyncio.create_task(driver.run(plan()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cleanup"]


async def test_an_unknown_effect_is_an_error(driver: AsyncDriver) -> None:
    def plan() -> Plan[None]:
        yield "effect"  # type: ignore[misc]

    with pytest.raises(TypeError, match="not an effect: 'effect'"):
        await driver.run(plan())


async def test_a_transfer_leaves_the_loop(served: ServerProcess) -> None:
    seen: list[threading.Thread] = []

    def plan() -> Plan[str]:
        seen.append(threading.current_thread())
        return (yield calls.live()).status

    driver = AsyncDriver(Connection(served.url))
    assert await driver.transfer(plan()) == "live"
    assert seen != [threading.current_thread()]
    await driver.close()


async def test_a_transfer_by_a_transport_of_the_user_stays_on_the_loop(driver: AsyncDriver) -> None:
    def plan() -> Plan[threading.Thread]:
        yield Sleep(0)
        return threading.current_thread()

    assert await driver.transfer(plan()) is threading.current_thread()


async def test_a_cancelled_transfer_ends_with_its_cleanup(served: ServerProcess) -> None:
    began, ended = threading.Event(), list[str]()

    def plan() -> Plan[None]:
        began.set()
        yield from plans.ensured(sleep(), lambda: ended.append("cleanup"))

    def sleep() -> Plan[None]:
        yield Sleep(1000)

    driver = AsyncDriver(Connection(served.url))
    task = asyncio.create_task(driver.transfer(plan()))
    await asyncio.to_thread(began.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cleanup"]
    await driver.close()


async def test_more_transfers_than_threads_wait_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast._http._async.MOST_THREADS", 2)
    driver, lock, at_once = AsyncDriver(Connection("http://server")), threading.Lock(), [0, 0]

    def count(change: int) -> None:
        with lock:
            at_once[0] += change
            at_once[1] = max(at_once)

    def plan() -> Plan[None]:
        yield Do(lambda: count(1))
        yield Sleep(0.01)
        yield Do(lambda: count(-1))

    await asyncio.gather(*(driver.transfer(plan()) for _ in range(6)))
    assert at_once == [0, 2]
    await driver.close()
