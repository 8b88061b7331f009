"""Group commit of small files: while one group is on its way to the disk, the next one forms."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from tornado_app import problems
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.store import powers
from tornado_app.files.store.interface import FileStore, PlacedFile, SmallFile

GROUP = 128
"""Most files that are published together."""

Prepare = Callable[[], SmallFile]
"""Returns a file to publish, or raises why it can't be; called in a worker thread."""


class PublicationGroups:
    """Publishes small files that wait at the same time with shared trips to the disk. Lives on the event loop."""

    def __init__(self, executor: BlockingExecutor, store: FileStore, check_space: Callable[[int], None]) -> None:
        """`check_space` raises NO_SPACE when so many bytes are too many. Blocks."""
        self._executor = executor
        self._store = store
        self._check_space = check_space
        self._waiting: deque[tuple[Prepare, asyncio.Future[PlacedFile]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def publish(self, prepare: Prepare) -> PlacedFile:
        """Publish a file, durably. Raises what `prepare` raises, and what `publish_small` returns as failures."""
        future: asyncio.Future[PlacedFile] = asyncio.get_running_loop().create_future()
        self._waiting.append((prepare, future))
        if self._task is None:
            self._task = asyncio.create_task(self._publish_waiting())
        return await future

    async def close(self) -> None:
        """Return when every file that waits is published or refused."""
        if self._task is not None:
            await self._task

    async def _publish_waiting(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
                results: Sequence[PlacedFile | BaseException]
                try:
                    results = await self._executor.run(self.publish_now, [prepare for prepare, _ in group])
                except BaseException as error:
                    results = [error] * len(group)
                for (_, future), result in zip(group, results, strict=True):
                    if future.done():
                        continue  # its request was cancelled
                    if isinstance(result, PlacedFile):
                        future.set_result(result)
                    else:
                        future.set_exception(result)
        finally:
            self._task = None

    def publish_now(self, prepares: Sequence[Prepare]) -> list[PlacedFile | Exception]:
        """Publish files; return for each, in order, what it is now or why it is not published. Blocks."""
        results: list[PlacedFile | Exception | None] = [None] * len(prepares)
        files: list[tuple[int, SmallFile]] = []
        for index, prepare in enumerate(prepares):
            try:
                files.append((index, prepare()))
            except (OSError, problems.ProblemError) as error:
                results[index] = error
        files = self._with_space(files, results)
        placed = powers.publish_small(self._store, [file for _, file in files])
        for (index, _), result in zip(files, placed, strict=True):
            results[index] = result
        return [result for result in results if result is not None]

    def _with_space(
        self, files: list[tuple[int, SmallFile]], results: list[PlacedFile | Exception | None]
    ) -> list[tuple[int, SmallFile]]:
        """Return the files that there is room for."""
        total, fitting = sum(len(file.data) for _, file in files), []
        try:
            self._check_space(total)
            return files
        except problems.ProblemError:
            total = 0
        for index, file in files:
            try:
                self._check_space(total + len(file.data))
            except problems.ProblemError as error:
                results[index] = error
            else:
                total += len(file.data)
                fitting.append((index, file))
        return fitting
