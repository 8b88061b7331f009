"""A session's connections end with it, whatever they are doing just then."""

from __future__ import annotations

import queue
import socket
import threading
from typing import Any

import pytest

from holdfast import calls, plans
from holdfast._http import Connection, SyncDriver
from holdfast.plans import Retries, Stop, Stopped
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
