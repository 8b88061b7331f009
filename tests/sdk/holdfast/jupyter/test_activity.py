"""Activity that keeps a culler away."""

from __future__ import annotations

import asyncio

from holdfast.jupyter.activity import Activity


async def test_open_requests_and_running_work_are_reported_and_nothing_else() -> None:
    reports: list[str] = []
    asked = asyncio.Event()
    works = False

    async def has_work() -> bool:
        asked.set()
        return works

    activity = Activity(lambda: reports.append("active"), has_work, interval=0.001)
    activity.start()
    await asked.wait()
    assert reports == []

    request = object()
    activity.begin(request)
    assert (activity.open_requests, reports) == (1, ["active"])
    while len(reports) < 3:
        await asyncio.sleep(0)
    activity.end(request)
    assert activity.open_requests == 0

    asked.clear()
    await asked.wait()
    before, works = len(reports), True
    while len(reports) == before:
        await asyncio.sleep(0)
    await activity.stop()


async def test_an_error_does_not_end_the_reports() -> None:
    reports: list[str] = []
    errors = iter([OSError("no answer"), ValueError("no JSON")])

    async def has_work() -> bool:
        if error := next(errors, None):
            raise error
        return True

    activity = Activity(lambda: reports.append("active"), has_work, interval=0.001)
    activity.start()
    while not reports:
        await asyncio.sleep(0)
    await activity.stop()


async def test_a_request_ends_once() -> None:
    reports: list[str] = []

    async def has_work() -> bool:
        return False

    activity = Activity(lambda: reports.append("active"), has_work)
    activity.end(object())
    assert reports == []
