"""The seed's process endpoints: a thin face on the process service (design, section 5)."""

from __future__ import annotations

from holdfast.wire import Process, ResumeRequest, StartRequest
from tornado_app import problems
from tornado_app.handlers.seed import SeedHandler


class ProcessHandler(SeedHandler):
    """`GET /{id}/process/`: start it, or show it as it stands."""

    async def get(self, id: str) -> None:
        params = self.seed_arguments()
        work_type = params.pop("work_type", None)
        processes = self.services.processes
        if work_type is None and not params:
            try:  # asks for nothing but the id: whatever runs under it is meant
                self.answer(await processes.get(id))
                return
            except problems.ProblemError as error:
                if error.kind is not problems.NO_SUCH_PROCESS:
                    raise
        request = StartRequest(work_type=work_type or self.services.settings.default_work_type, params=params, id=id)
        process, _ = await processes.start(request, strict=False)
        self.answer(process)


class VerbHandler(SeedHandler):
    """`POST /{id}/process/pause/`, `resume/`, `cancel/`."""

    async def post(self, id: str, verb: str) -> None:
        self.seed_arguments(())
        self.answer(await self._do(id, verb))

    async def _do(self, id: str, verb: str) -> Process:
        processes = self.services.processes
        if verb == "pause":
            return await processes.pause(id)
        if verb == "cancel":
            return await processes.cancel(id)
        return await processes.resume(id, self.body_as(ResumeRequest).work_types)
