"""The sync driver carries out every effect in the calling thread; a session ends with all of its connections."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from holdfast import calls, errors, plans
from holdfast._http import Connection, SyncDriver
from holdfast.plans import Close, Do, Emit, Open, Plan, Read, Retries, Sleep, Stop, Stopped, Together
from tests.support.servers import PATIENCE


def test_a_connection_that_is_being_opened_when_the_session_ends_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    connected, ended = threading.Event(), threading.Event()
    connect = socket.create_connection

    def slowly(*args: Any, **kwargs: Any) -> socket.socket:
        opened = connect(*args, **kwargs)
        connected.set()
        assert ended.wait(10)
        return opened

    outcome: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def ask(driver: SyncDriver, stop: Stop) -> None:
        try:
            driver.run(plans.request(calls.get_process("x"), Retries(attempts=1)), stop)
        except BaseException as error:
            outcome.put(error)
        else:
            outcome.put(None)

    monkeypatch.setattr(socket, "create_connection", slowly)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop = Stop()
        with SyncDriver(Connection(url)).session(stop) as driver:
            thread = threading.Thread(target=ask, args=(driver, stop))
            thread.start()
            assert connected.wait(10)
            stop.set()
        ended.set()
        assert isinstance(outcome.get(timeout=PATIENCE), Stopped), "it would wait for an answer that never comes"
        thread.join()
        server, _ = listener.accept()
        with server:
            server.settimeout(10)
            assert server.recv(1) == b"", "closed before anything was asked"


@pytest.fixture
def driver() -> Iterator[SyncDriver]:
    """A driver whose server sends the path of every file three times."""
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, stream=httpx.ByteStream(request.url.path.encode() * 3))
    )
    found = SyncDriver(Connection("http://server"), transport)
    yield found
    found.close()


def test_a_plan_gets_results_and_emits_values(driver: SyncDriver) -> None:
    def plan() -> Plan[bytes]:
        yield Emit((yield Do(threading.get_ident)))
        data: bytes = yield calls.get_file("n")
        return data

    steps = driver.iterate(plan())
    assert next(steps) == threading.get_ident()
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == b"/v1/files/n" * 3


def test_a_stream_is_read_to_its_end(driver: SyncDriver) -> None:
    def plan() -> Plan[bytes]:
        stream = yield Open(calls.get_file("n"))
        found = b""
        while data := (yield Read(stream)):
            found += bytes(data)
        yield Close(stream)
        return found

    assert driver.run(plan()) == b"/v1/files/n" * 3


def test_closing_the_iterator_closes_the_plan(driver: SyncDriver) -> None:
    ended: list[str] = []

    def plan() -> Plan[None]:
        try:
            yield Emit(1)
            yield Emit(2)
        finally:
            ended.append("closed")

    steps = driver.iterate(plan())
    assert next(steps) == 1
    steps.close()
    assert ended == ["closed"]


def test_a_stop_ends_a_sleep_at_once_and_lets_the_cleanup_run(driver: SyncDriver) -> None:
    stop, ended = Stop(), list[str]()

    def plan() -> Plan[None]:
        yield Do(stop.set)
        yield from plans.ensured(sleep(), lambda: ended.append("cleanup"))

    def sleep() -> Plan[None]:
        yield Sleep(1000)

    with pytest.raises(Stopped):
        driver.run(plan(), stop)
    assert ended == ["cleanup"]


def test_the_first_failure_of_several_plans_stops_the_others(driver: SyncDriver) -> None:
    ended: list[str] = []

    def waits() -> Plan[None]:
        try:
            yield Sleep(1000)
        except Stopped:
            ended.append("stopped")
            raise

    def fails() -> Plan[None]:
        yield Sleep(0)
        raise errors.ProtocolError("no")

    def plan() -> Plan[None]:
        yield Together([waits(), fails()])

    with pytest.raises(errors.ProtocolError, match="no"):
        driver.run(plan())
    assert ended == ["stopped"]


def test_further_plans_are_asked_for_while_others_run(driver: SyncDriver) -> None:
    gate, seen = threading.Event(), list[str]()

    def first() -> Plan[None]:
        yield Do(lambda: gate.wait(PATIENCE))
        seen.append("first")

    def second() -> Plan[None]:
        seen.append("second")
        gate.set()
        yield Sleep(0)

    more = iter([[second()]])

    def plan() -> Plan[None]:
        yield Together([first()], lambda: next(more, []), every=0.01)

    driver.run(plan())
    assert seen == ["second", "first"]


def test_a_retry_is_reported_before_its_wait(driver: SyncDriver) -> None:
    reported: list[float] = []
    driver.connection.on_retry = lambda error, seconds: reported.append(seconds)

    def plan() -> Plan[None]:
        yield Sleep(0.0, errors.ConnectFailed("refused"))
        yield Sleep(0.0)

    driver.run(plan())
    assert reported == [0.0]


def test_a_transport_of_the_user_is_shared_by_sessions(driver: SyncDriver) -> None:
    with driver.session(Stop()) as session:
        assert session is driver


def test_an_unknown_effect_is_an_error(driver: SyncDriver) -> None:
    def plan() -> Plan[None]:
        yield "effect"  # type: ignore[misc]

    with pytest.raises(TypeError, match="not an effect: 'effect'"):
        driver.run(plan())
