"""Pacing of background work by the traffic of this process. No test depends on how fast time passes."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from tornado_app.files import metrics
from tornado_app.files.sha256 import pacing
from tornado_app.files.sha256.pacing import TrafficPacing


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_POLL_S", 0.0)


async def polls(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("counter", [metrics.SENT, metrics.RECEIVED], ids=["downloads", "uploads"])
async def test_work_waits_while_bytes_move_and_starts_when_none_do(
    counter: pacing.Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "QUIET_S", math.inf)
    turn = asyncio.ensure_future(TrafficPacing().turn(time.time()))
    for _ in range(20):
        counter.inc(1)
        await polls(3)
    assert not turn.done()
    monkeypatch.setattr(pacing, "QUIET_S", 0.0)
    await turn


async def test_bytes_that_moved_while_nobody_looked_begin_a_new_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "QUIET_S", 0.0)
    it = TrafficPacing()
    await it.turn(time.time())
    metrics.SENT.inc(1)
    monkeypatch.setattr(pacing, "QUIET_S", math.inf)
    turn = asyncio.ensure_future(it.turn(time.time()))
    await polls(5)
    assert not turn.done()
    turn.cancel()


async def test_what_has_waited_for_long_starts_in_spite_of_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "QUIET_S", math.inf)
    await TrafficPacing().turn(time.time() - pacing.LATEST_S)


async def test_it_then_rests_between_pieces_also_when_the_wait_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "QUIET_S", math.inf)
    now = 1000.0
    monkeypatch.setattr(pacing, "monotonic", lambda: now)
    it = TrafficPacing()
    await it.turn(0)
    now = 1001.0  # the piece took a second
    turn = asyncio.ensure_future(it.turn(0))
    await polls(5)
    assert not turn.done()
    turn.cancel()
    now = 1003.5
    turn = asyncio.ensure_future(it.turn(0))
    await polls(5)
    assert not turn.done()
    now = 1004.5  # three times as long as the piece
    await turn
