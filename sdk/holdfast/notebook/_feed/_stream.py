"""The event stream of a server, read on a thread for as long as views are open."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from holdfast import calls, plans, wire
from holdfast._http import SyncDriver
from holdfast.errors import HoldfastError
from holdfast.plans import Open, Plan, Retries, Sleep, Stop, Stopped

PERSISTENT = Retries(attempts=1_000_000_000, base=0.2, cap=3.0)
"""Retries of the stream. An open view waits for its server without a limit."""

REFUSED_PAUSE = 10.0  # seconds before the stream is requested again after a refusal (of a token, say)


class StreamListener(Protocol):
    """Receives events and the state of the connection, on the thread that reads the stream."""

    def on_connected(self, stop: Stop) -> None:
        """The stream is open. Events before this moment may have been missed."""

    def on_disconnected(self, reason: str, stop: Stop) -> None:
        """There is no stream, for this reason. Another attempt follows."""

    def on_event(self, event: wire.Event, stop: Stop) -> None:
        """Handle one event."""


def read_events(driver: SyncDriver, url: str, stop: Stop, listener: StreamListener) -> None:
    """Read events until `stop` is set. Blocks."""
    with suppress(Stopped):
        while True:
            # Without a last event id: the listener requests the whole state after each connection.
            plan = plans.events(lambda last: calls.all_events(), None, None, PERSISTENT)
            try:
                for event in driver.iterate(_report_connection(plan, url, stop, listener), stop):
                    listener.on_event(event, stop)
            except HoldfastError as error:
                listener.on_disconnected(f"{url} refused the request: {error}", stop)
            stop.sleep(REFUSED_PAUSE)


def _report_connection(plan: Plan[None], url: str, stop: Stop, listener: StreamListener) -> Plan[None]:
    """Yield the effects of `plan`, and report to `listener` when the stream opens and when it breaks."""
    value: Any = None
    failure: BaseException | None = None
    try:
        while True:
            effect = plan.send(value) if failure is None else plan.throw(failure)
            value = failure = None
            if isinstance(effect, Sleep):
                listener.on_disconnected(f"no connection to {url}; trying again", stop)
            try:
                value = yield effect
            except HoldfastError as error:
                failure = error
            if isinstance(effect, Open) and failure is None:
                listener.on_connected(stop)
    except StopIteration:
        return
    finally:
        plan.close()
