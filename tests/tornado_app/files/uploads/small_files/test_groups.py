"""Group commit: what waits together is published together, and each gets its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from tornado_app import problems
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.store.interface import PlacedFile, SmallFile
from tornado_app.files.store.memory.store import MemoryStore
from tornado_app.files.uploads.small_files import groups
from tornado_app.files.uploads.small_files.groups import PublicationGroups


class Recorded(MemoryStore):
    """Remembers the groups that it was given, and waits before each until `go_on` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[list[str]] = []
        self.go_on = threading.Event()
        self.failure: Exception | None = None

    def publish_small(self, files: Sequence[SmallFile]) -> list[PlacedFile | Exception]:
        self.groups.append([file.name for file in files])
        self.go_on.wait(60)
        if self.failure is not None:
            raise self.failure
        return super().publish_small(files)


@pytest.fixture
async def executor() -> AsyncIterator[BlockingExecutor]:
    executor = BlockingExecutor(2, "test")
    yield executor
    executor.close()


def file(name: str, size: int = 1) -> SmallFile:
    return SmallFile(name, bytes(size))


async def test_while_one_group_is_published_the_next_one_forms(executor: BlockingExecutor) -> None:
    store = Recorded()
    queue = PublicationGroups(executor, store, lambda size: None)
    first = asyncio.create_task(queue.publish(lambda: file("first")))
    while not store.groups:
        await asyncio.sleep(0.001)
    others = [asyncio.create_task(queue.publish(lambda name=name: file(name))) for name in "abc"]  # type: ignore[misc]
    await asyncio.sleep(0)
    store.go_on.set()
    placed = await asyncio.gather(first, *others)
    assert [one.stat.name for one in placed] == ["first", "a", "b", "c"]
    assert store.groups == [["first"], ["a", "b", "c"]]
    await queue.close()


async def test_a_group_has_an_end(executor: BlockingExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "GROUP", 2)
    store = Recorded()
    store.go_on.set()
    queue = PublicationGroups(executor, store, lambda size: None)
    await asyncio.gather(*(queue.publish(lambda name=name: file(name)) for name in "abcde"))  # type: ignore[misc]
    assert store.groups == [["a", "b"], ["c", "d"], ["e"]]


async def test_one_that_can_not_be_published_does_not_touch_the_others(executor: BlockingExecutor) -> None:
    def refused() -> SmallFile:
        raise problems.DIGEST_MISMATCH("not these bytes")

    store = Recorded()
    store.go_on.set()
    queue = PublicationGroups(executor, store, lambda size: None)
    results = await asyncio.gather(
        queue.publish(lambda: file("a")),
        queue.publish(refused),
        queue.publish(lambda: file("../b")),
        queue.publish(lambda: file("c")),
        return_exceptions=True,
    )
    kinds = [result.kind if isinstance(result, problems.ProblemError) else None for result in results]
    assert kinds == [None, problems.DIGEST_MISMATCH, problems.BAD_NAME, None]
    assert [stat.name for stat in store.listing()] == ["a", "c"]


async def test_a_failure_of_the_store_is_that_of_all_who_waited_and_of_none_after(executor: BlockingExecutor) -> None:
    store = Recorded()
    store.go_on.set()
    store.failure = OSError(5, "Input/output error")
    queue = PublicationGroups(executor, store, lambda size: None)
    results = await asyncio.gather(*(queue.publish(lambda: file("a")) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [OSError] * 3
    store.failure = None
    assert (await queue.publish(lambda: file("a"))).stat.name == "a"


async def test_without_room_for_all_those_are_published_that_fit(executor: BlockingExecutor) -> None:
    def check(size: int) -> None:
        if size > 100:
            raise problems.NO_SPACE("full")

    store = Recorded()
    store.go_on.set()
    queue = PublicationGroups(executor, store, check)
    sizes = {"a": 60, "b": 60, "c": 30}
    results = await asyncio.gather(
        *(queue.publish(lambda name=name: file(name, sizes[name])) for name in sizes),  # type: ignore[misc]
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [PlacedFile, problems.ProblemError, PlacedFile]


async def test_who_does_not_wait_any_more_stops_nobody(executor: BlockingExecutor) -> None:
    store = Recorded()
    queue = PublicationGroups(executor, store, lambda size: None)
    gone = asyncio.create_task(queue.publish(lambda: file("gone")))
    while not store.groups:
        await asyncio.sleep(0.001)
    gone.cancel()
    after = asyncio.create_task(queue.publish(lambda: file("after")))
    await asyncio.sleep(0)
    store.go_on.set()
    await after
    assert [stat.name for stat in store.listing()] == ["after", "gone"]
