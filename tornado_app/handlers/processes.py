"""The v1 process endpoints (design, section 5)."""

from __future__ import annotations

from holdfast.wire import BulkRequest, StartRequest, State, WorkTypeList
from tornado_app import problems
from tornado_app.handlers.base import BaseHandler
from tornado_app.processes.lifecycle import Cause

MOST_A_PAGE = 1000
MOST_WAIT = 60.0


class WorkTypesHandler(BaseHandler):
    """`GET /v1/work-types`."""

    def get(self) -> None:
        self.answer(WorkTypeList(self.services.processes.registry.infos(), self.services.settings.default_work_type))


class ProcessesHandler(BaseHandler):
    """`POST /v1/processes`: start, and with `wait` seconds answer once it has ended. `GET /v1/processes`: list."""

    async def post(self) -> None:
        seconds = self.number("wait", 0.0, 0.0, MOST_WAIT)
        process, created = await self.services.processes.start(self.body_as(StartRequest))
        if seconds:
            process = await self.services.processes.wait_ended(process.id, seconds)
        self.set_header("Location", f"/v1/processes/{process.id}")
        self.answer(process, 201 if created else 200)

    async def get(self) -> None:
        self.only("state", "work_type", "label", "limit", "cursor")
        limit = self.whole("limit", 100, 1, MOST_A_PAGE)
        self.answer(await self.services.processes.page(self._filter(), self.one("cursor"), limit))

    def _filter(self) -> BulkRequest:
        states: list[State] | None = None
        if (text := self.one("state")) is not None:
            try:
                states = [State(name) for name in text.split(",")]
            except ValueError:
                raise problems.BAD_PARAMETERS(
                    f"state is one or more of {', '.join(State)}, joined by commas, not {text!r}", field="state"
                ) from None
        label: dict[str, str] = {}
        for text in self.get_query_arguments("label"):
            key, sep, value = text.partition("=")
            if not sep:
                raise problems.BAD_PARAMETERS(f"label is KEY=VALUE, not {text!r}", field="label")
            label[key] = value
        return BulkRequest(work_type=self.one("work_type"), state=states, label=label or None)


class ProcessHandler(BaseHandler):
    """`GET /v1/processes/{id}`: as it stands, or with `wait` and `after` when it changes. `DELETE`: forget it."""

    async def get(self, id: str) -> None:
        self.only("wait", "after")
        seconds = self.number("wait", 0.0, 0.0, MOST_WAIT)
        processes = self.services.processes
        if seconds == 0:
            self.answer(await processes.get(id))
            return
        after = self.one("after")
        version = None if after is None else self.whole("after", 0, 0, (1 << 63) - 1)
        self.answer(await processes.wait(id, version, seconds))

    async def delete(self, id: str) -> None:
        await self.services.processes.delete(id)
        self.set_status(204)
        self.clear_header("Content-Type")
        self.finish()


class VerbHandler(BaseHandler):
    """`POST /v1/processes/{id}/pause`, `resume`, `cancel`, `kill`."""

    async def post(self, id: str, verb: str) -> None:
        self.only()
        processes = self.services.processes
        if verb == "kill":
            process = await processes.kill(id)
        elif verb == "pause":
            process = await processes.pause(id)
        elif verb == "resume":
            process = await processes.resume(id)
        else:
            process = await processes.cancel(id)
        self.answer(process)


class BulkHandler(ProcessHandler):
    """`POST /v1/processes/pause`, `resume`, `cancel`: all that match the filter in the body.

    `GET` and `DELETE` are for a process whose id is that word.
    """

    async def post(self, id: str) -> None:
        self.only()
        self.answer(await self.services.processes.ask_all(self.body_as(BulkRequest), Cause(id)))


class LogHandler(BaseHandler):
    """`GET /v1/processes/{id}/log`: what the work logged, after line number `after`, or the `last` so many lines."""

    async def get(self, id: str) -> None:
        self.only("after", "limit", "last")
        after = self.whole("after", 0, 0, (1 << 63) - 1)
        limit = self.whole("limit", MOST_A_PAGE, 1, 10 * MOST_A_PAGE)
        last = self.whole("last", 0, 0, 10 * MOST_A_PAGE)
        self.answer(await self.services.processes.log(id, after, limit, last))
