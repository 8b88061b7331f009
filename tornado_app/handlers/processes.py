"""Processes: start, list, watch, pause, resume, cancel, kill."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from holdfast.wire import (
    BulkAnswer,
    BulkRequest,
    LogPage,
    Number,
    Process,
    ProcessId,
    ProcessPage,
    StartRequest,
    State,
    WorkTypeList,
)
from tornado_app import problems
from tornado_app.handlers.base import BaseHandler
from tornado_app.handlers.bodies import JsonHandler
from tornado_app.handlers.openapi.operation import Content, NoQuery, operation
from tornado_app.processes.states import Cause

MAX_PAGE = 1000
MAX_WAIT = 60.0


class FilterQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filter of processes."""

    work_type: Annotated[str, Meta(description="Of this work type.")] | None = None
    label: Annotated[
        list[Annotated[str, Meta(pattern="^[^=]+=", description="KEY=VALUE")]], Meta(description="With all of these.")
    ] = []

    def filter(self) -> BulkRequest:
        """Return the filter as the service takes it."""
        label = dict(text.split("=", 1) for text in self.label)
        return BulkRequest(work_type=self.work_type, label=label or None)


class ListQuery(FilterQuery):
    """Filter and page of a listing of processes."""

    state: Annotated[list[State], Meta(description="In any of these states.")] = []
    cursor: Annotated[str, Meta(description="`next` of the page before.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE, description="Most processes in a page.")] = 100

    def filter(self) -> BulkRequest:
        return msgspec.structs.replace(super().filter(), state=self.state or None)


class StartQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters of a start."""

    wait: Annotated[float, Meta(ge=0, le=MAX_WAIT, description="Seconds to wait for the end at most.")] = 0.0


class WaitQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters of a long poll."""

    wait: Annotated[float, Meta(ge=0, le=MAX_WAIT, description="Seconds to wait for a change at most.")] = 0.0
    after: (
        Annotated[Number, Meta(description="Answer when `version` is another; its version now when left out.")] | None
    ) = None


class LogQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Page of a log."""

    after: Annotated[Number, Meta(description="`seq` of the last line that is known.")] = 0
    limit: Annotated[int, Meta(ge=1, le=10 * MAX_PAGE, description="Most lines in a page.")] = MAX_PAGE
    last: Annotated[int, Meta(ge=0, le=10 * MAX_PAGE, description="In place of both: so many lines of the end.")] = 0


class WorkTypesHandler(BaseHandler):
    """`GET /v1/work-types`."""

    @operation("list_work_types", WorkTypeList)
    def get(self) -> None:
        """List what this server can run, with the JSON Schema of the parameters."""
        self.respond(WorkTypeList(self.services.processes.work_types(), self.services.settings.default_work_type))


class ProcessesHandler(JsonHandler):
    """`/v1/processes`."""

    @operation(
        "start_process",
        {200: Process, 201: Content(type=Process, headers=("Location",))},
        problems.UNKNOWN_WORK_TYPE,
        problems.FORBIDDEN,
        problems.ID_TAKEN,
        problems.UNAVAILABLE,
    )
    async def post(self, query: StartQuery, body: StartRequest) -> None:
        """Start a process; with `wait`, answer once it has ended.

        The same id with the same request again is answered with 200 and the process as it stands; nothing starts twice.
        """
        process, created = await self.services.processes.start(body)
        if query.wait:
            process = await self.services.processes.wait_ended(process, query.wait)
        self.set_header("Location", self.address(f"/v1/processes/{process.id}"))
        self.respond(process, 201 if created else 200)

    @operation("list_processes", ProcessPage, problems.UNAVAILABLE)
    async def get(self, query: ListQuery) -> None:
        """List processes, newest first. The cursor stays right while processes come and go."""
        self.respond(await self.services.processes.page(query.filter(), query.cursor, query.limit))


class ProcessHandler(BaseHandler):
    """`/v1/processes/{id}`."""

    @operation("get_process", Process, problems.NO_SUCH_PROCESS, problems.UNAVAILABLE)
    async def get(self, id: ProcessId, query: WaitQuery) -> None:
        """Show a process as it stands; with `wait`, as soon as anything of it has changed."""
        processes = self.services.processes
        if query.wait == 0:
            self.respond(await processes.get(id))
        else:
            self.respond(await processes.wait(id, query.after, query.wait))

    @operation("forget_process", None, problems.NO_SUCH_PROCESS, problems.ILLEGAL_STATE, problems.UNAVAILABLE)
    async def delete(self, id: ProcessId) -> None:
        """Forget a process that has ended."""
        await self.services.processes.delete(id)
        self.set_status(204)
        self.clear_header("Content-Type")
        self.finish()


class VerbHandler(BaseHandler):
    """`POST /v1/processes/{id}/pause`, `resume`, `cancel`, `kill`."""

    @operation(
        "{verb}_process",
        Process,
        problems.NO_SUCH_PROCESS,
        problems.ILLEGAL_STATE,
        problems.CONFLICT,
        problems.UNAVAILABLE,
    )
    async def post(self, id: ProcessId, verb: str, query: NoQuery) -> None:
        """{Verb} a process.

        Pause stops it at its next yield and keeps the checkpoint. Resume goes on from there; a failed process tries
        again. Cancel stops it and rolls back. Kill ends what does not yield, where its place can do that.
        """
        processes = self.services.processes
        if verb == "kill":
            process = await processes.kill(id)
        elif verb == "pause":
            process = await processes.pause(id)
        elif verb == "resume":
            process = await processes.resume(id)
        else:
            process = await processes.cancel(id)
        self.respond(process)


class BulkHandler(JsonHandler, ProcessHandler):
    """`POST /v1/processes/pause`, `resume`, `cancel`, `kill`. `GET` and `DELETE` are for a process with that id."""

    @operation("{id}_processes", BulkAnswer, problems.UNAVAILABLE)
    async def post(self, id: str, query: NoQuery, body: BulkRequest) -> None:
        """{Id} all processes that match the filter; the response names those for which it is not possible."""
        self.respond(await self.services.processes.ask_all(body, Cause(id)))


class LogHandler(BaseHandler):
    """`GET /v1/processes/{id}/log`."""

    @operation("process_log", LogPage, problems.NO_SUCH_PROCESS, problems.UNAVAILABLE)
    async def get(self, id: ProcessId, query: LogQuery) -> None:
        """Show what the work logged, in order."""
        self.respond(await self.services.processes.log(id, query.after, query.limit, query.last))
