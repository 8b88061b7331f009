"""The seed's endpoints for processes, for any HTTP client. They know the statuses 200, 400, 404 and 500."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from holdfast.wire import Process, ProcessId, ResumeRequest, StartRequest
from tornado_app import problems
from tornado_app.handlers.operations import NoQuery, operation
from tornado_app.handlers.seed import SeedHandler


class StartQuery(msgspec.Struct):
    """What to start."""

    FURTHER: ClassVar = "Every further parameter is one of the work type's."

    work_type: Annotated[str, Meta(description="What to run; the server's default when left out.")] | None = None


class ProcessHandler(SeedHandler):
    """`GET /{id}/process/`."""

    @operation(
        "seed_start",
        Process,
        problems.UNKNOWN_WORK_TYPE,
        problems.ID_TAKEN,
        problems.UNAVAILABLE,
    )
    async def get(self, id: ProcessId, query: StartQuery) -> None:
        """Start a process, or show it as it stands.

        The parameters of the work type follow in the query. The same id with another request is refused.
        """
        params = self._params()
        processes = self.services.processes
        if query.work_type is None and not params:
            try:  # asks for nothing but the id: whatever runs under it is meant
                self.answer(await processes.get(id))
                return
            except problems.ProblemError as error:
                if error.kind is not problems.NO_SUCH_PROCESS:
                    raise
        work_type = query.work_type or self.services.settings.default_work_type
        process, _ = await processes.start(StartRequest(work_type=work_type, params=params, id=id), strict=False)
        self.answer(process)

    def _params(self) -> dict[str, Any]:
        params = {}
        for name, values in self.query_texts().items():
            if len(values) > 1:
                raise problems.BAD_PARAMETERS(f"{name} is given {len(values)} times; give it once", field=name)
            params[name] = values[0]
        params.pop("work_type", None)
        return params


class VerbHandler(SeedHandler):
    """`POST /{id}/process/pause/`, `cancel/`."""

    @operation(
        "seed_{verb}",
        Process,
        problems.NO_SUCH_PROCESS,
        problems.ILLEGAL_STATE,
        problems.CONFLICT,
        problems.UNAVAILABLE,
    )
    async def post(self, id: ProcessId, verb: str, query: NoQuery) -> None:
        """{Verb} a process.

        Pause stops it at its next checkpoint and keeps that. Cancel stops it there and undoes what it did.
        """
        ask = self.services.processes.pause if verb == "pause" else self.services.processes.cancel
        self.answer(await ask(id))


class ResumeHandler(SeedHandler):
    """`POST /{id}/process/resume/`."""

    @operation(
        "seed_resume",
        Process,
        problems.NO_SUCH_PROCESS,
        problems.UNKNOWN_WORK_TYPE,
        problems.ILLEGAL_STATE,
        problems.CONFLICT,
        problems.UNAVAILABLE,
    )
    async def post(self, id: ProcessId, query: NoQuery, body: ResumeRequest) -> None:
        """Go on from the checkpoint; with `work_types`, only if the process's own is one of them."""
        self.answer(await self.services.processes.resume(id, body.work_types))
