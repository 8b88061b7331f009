"""The engine as one user sees it: that user's processes, by the ids that the user gave them.

The journal has the user's folder in front of each id, and in a column of its own. Nothing that a client sends gets
there, so that nobody can name another's process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec

from holdfast.wire import BulkAnswer, BulkRequest, Event, LogPage, Process, ProcessPage, StartRequest, WorkTypeInfo
from tornado_app.problems import ProblemError
from tornado_app.processes.events import Watcher
from tornado_app.processes.journal import queries
from tornado_app.processes.journal.queries import ProcessRecord, UserRequest
from tornado_app.processes.requests import check_id
from tornado_app.processes.service import Engine
from tornado_app.processes.states import Cause

T = TypeVar("T")

RUN_CODE = frozenset({"code", "command", "notebook"})
"""Work types that run code or programs, on behalf of who starts them."""


class UserProcesses:
    """Has the methods of `Engine` that handlers call, and raises as they do.

    `folder` is that of the user; "" where all users share one, and see the processes of all. `labels` are given to
    each process that is started, in place of those that the request has by the same keys. `forbid_code` is called
    before code would be run or run again for a user who may not do that, and raises.
    """

    def __init__(
        self,
        engine: Engine,
        folder: str,
        labels: Mapping[str, str] | None = None,
        forbid_code: Callable[[], None] | None = None,
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._prefix = f"{folder}/" if folder else ""
        self._labels = dict(labels or {})
        self._forbid_code = forbid_code

    # -- starting and steering

    async def start(self, request: StartRequest, *, strict: bool = True) -> tuple[Process, bool]:
        """See `Engine.start`."""
        if request.code is not None or request.work_type in RUN_CODE:
            self._check_code()
        if self._labels:
            request = msgspec.structs.replace(request, labels={**request.labels, **self._labels})
        process, created = await self._own(
            request.id or "", self._engine.start(request, strict=strict, user=self._folder)
        )
        return self._displayed(process), created

    async def pause(self, id: str) -> Process:
        """See `Engine.pause`."""
        return await self._one(id, self._engine.pause)

    async def resume(self, id: str, work_types: list[str] | None = None) -> Process:
        """See `Engine.resume`."""
        await self._check_code_of(id)
        return await self._one(id, lambda own: self._engine.resume(own, work_types))

    async def cancel(self, id: str) -> Process:
        """See `Engine.cancel`."""
        return await self._one(id, self._engine.cancel)

    async def kill(self, id: str) -> Process:
        """See `Engine.kill`."""
        return await self._one(id, self._engine.kill)

    async def ask_all(self, wanted: BulkRequest, cause: Cause) -> BulkAnswer:
        """See `Engine.ask_all`."""
        if cause is Cause.RESUME and self._forbid_code is not None:
            return await self._resume_each(wanted)
        answer = await self._engine.ask_all(self._filter(wanted), cause)
        refused = {self._plain(id): self._text(why, id) for id, why in answer.refused.items()}
        return BulkAnswer([*map(self._plain, answer.changed)], refused)

    async def _resume_each(self, wanted: BulkRequest) -> BulkAnswer:
        """Resume what matches and runs no code; each that does is refused by name."""
        answer = BulkAnswer([], {})
        cursor: str | None = None
        ids: list[str] = []
        if wanted.ids is None:
            while True:
                page = await self.page(wanted, cursor, 1000)
                ids += [item.id for item in page.items]
                if page.next is None:
                    break
                cursor = page.next
        for id in wanted.ids if wanted.ids is not None else ids:
            try:
                answer.changed.append((await self.resume(id)).id)
            except ProblemError as error:
                answer.refused[id] = error.detail
        return answer

    async def delete(self, id: str) -> None:
        """See `Engine.delete`."""
        check_id(id)
        await self._own(id, self._engine.delete(self._prefix + id))

    # -- looking

    def work_types(self) -> list[WorkTypeInfo]:
        """See `Engine.work_types`."""
        return self._engine.work_types()

    def get_running(self, id: str) -> Process | None:
        """See `Engine.get_running`."""
        process = self._engine.get_running(self._prefix + id)
        return None if process is None else self._displayed(process)

    async def get(self, id: str) -> Process:
        """See `Engine.get`."""
        return await self._one(id, self._engine.get)

    async def wait(self, id: str, after: int | None, timeout: float) -> Process:
        """See `Engine.wait`."""
        return await self._one(id, lambda own: self._engine.wait(own, after, timeout))

    async def wait_ended(self, process: Process, timeout: float) -> Process:
        """See `Engine.wait_ended`."""
        own = msgspec.structs.replace(process, id=self._prefix + process.id)
        return self._displayed(await self._engine.wait_ended(own, timeout))

    async def page(self, wanted: BulkRequest, cursor: str | None, limit: int) -> ProcessPage:
        """See `Engine.page`."""
        page = await self._engine.page(self._filter(wanted), cursor, limit)
        if not self._prefix:
            return page
        items = [msgspec.structs.replace(item, id=self._plain(item.id)) for item in page.items]
        return ProcessPage(items, page.next)

    async def log(self, id: str, after: int, limit: int, last: int = 0) -> LogPage:
        """See `Engine.log`."""
        check_id(id)
        return await self._own(id, self._engine.log(self._prefix + id, after, limit, last))

    # -- events

    @property
    def newest_event(self) -> int:
        """See `Engine.newest_event`."""
        return self._engine.newest_event

    def watch(self, wanted: BulkRequest) -> Watcher:
        """See `Engine.watch`. The events come as the journal has them: `event_for_user` makes the user's of one."""
        if not self._prefix:
            return self._engine.watch(wanted)
        prefix, mine = self._prefix, self._filter(wanted)
        everything = wanted == BulkRequest()

        def wants(event: Event, row: ProcessRecord | None) -> bool:
            return event.id.startswith(prefix) and (everything or queries.fits(mine, event, row))

        return self._engine.broker.watch(None, wants)

    def watch_one(self, id: str) -> Watcher:
        """See `Engine.watch_one`."""
        return self._engine.watch_one(self._prefix + id)

    def leave(self, id: str | None, watcher: Watcher) -> None:
        """See `Engine.leave`."""
        self._engine.leave(None if id is None else self._prefix + id, watcher)

    def event_for_user(self, event: Event) -> Event:
        """Return an event as the user sees it."""
        return msgspec.structs.replace(event, id=self._plain(event.id)) if self._prefix else event

    async def known_event(self, seq: int) -> int:
        """See `Engine.known_event`."""
        return await self._engine.known_event(seq)

    async def events_after(self, seq: int, wanted: BulkRequest, limit: int = 500) -> list[Event]:
        """See `Engine.events_after`. Its events are the user's already."""
        return [*map(self.event_for_user, await self._engine.events_after(seq, self._filter(wanted), limit))]

    # -- of the server

    async def check_ready(self) -> None:
        """See `Engine.check_ready`."""
        await self._engine.check_ready()

    async def refresh_metrics(self) -> None:
        """See `Engine.refresh_metrics`."""
        await self._engine.refresh_metrics()

    # -- ids

    def _filter(self, wanted: BulkRequest) -> BulkRequest:
        if not self._prefix:
            return wanted
        ids = None if wanted.ids is None else [self._prefix + id for id in wanted.ids]
        return UserRequest(ids, wanted.work_type, wanted.state, wanted.label, self._folder)

    async def _one(self, id: str, ask: Callable[[str], Awaitable[Process]]) -> Process:
        check_id(id)
        return self._displayed(await self._own(id, ask(self._prefix + id)))

    async def _own(self, id: str, asked: Awaitable[T]) -> T:
        """Await an answer, and name the process in a refusal as the user does."""
        try:
            return await asked
        except ProblemError as error:
            if not self._prefix:
                raise
            full = self._prefix + id
            members = {name: id if value == full else value for name, value in error.members.items()}
            raise ProblemError(error.kind, self._text(error.detail, full), members, error.headers) from error.__cause__

    def _text(self, text: str, full: str) -> str:
        return text.replace(full, self._plain(full)) if self._prefix else text

    def _plain(self, id: str) -> str:
        return id.removeprefix(self._prefix)

    def _displayed(self, process: Process) -> Process:
        return msgspec.structs.replace(process, id=self._plain(process.id)) if self._prefix else process

    # -- code

    def _check_code(self) -> None:
        if self._forbid_code is not None:
            self._forbid_code()

    async def _check_code_of(self, id: str) -> None:
        """Raise where a process that runs code would go on: a file that it runs may be another by now."""
        if self._forbid_code is not None and (await self.get(id)).work_type in RUN_CODE:
            self._forbid_code()
