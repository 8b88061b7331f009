"""The seed's endpoints for processes, for any HTTP client. They know the statuses 200, 400, 404 and 500."""

from __future__ import annotations

import html
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from holdfast.wire import Process, ProcessId, ResumeRequest, StartRequest
from tornado_app import problems
from tornado_app.handlers.bodies import JsonHandler
from tornado_app.handlers.openapi.operation import NoQuery, operation
from tornado_app.handlers.seed.base import SeedHandler
from tornado_app.identity.principal import WRITE
from tornado_app.protocols.accept import prefers
from tornado_app.server.guards import split_url


class SeedStartQuery(msgspec.Struct):
    """Parameters of a start."""

    FURTHER: ClassVar = "Every further parameter is one of the work type's."

    work_type: Annotated[str, Meta(description="What to run; the server's default when left out.")] | None = None


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Holdfast: start {id}?</title>
<link rel="icon" href="data:,">
<style nonce="{nonce}">
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem; overflow-wrap: anywhere; }}
dd {{ margin: 0; }}
button {{ font: inherit; padding: .3rem 1rem; }}
</style>
<h1>Start this process?</h1>
<p>A link led here. A link alone starts nothing, for any page or mail can hold one.</p>
<dl>
{rows}
</dl>
<form method="post"><button>Start it</button></form>
</html>
"""
_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_STARTS = (problems.UNKNOWN_WORK_TYPE, problems.ID_TAKEN, problems.UNAVAILABLE)


class SeedProcessHandler(SeedHandler):
    """`GET /{id}/process/`."""

    _is_by_link = False

    def _check_origin(self) -> None:
        """Note a request that follows a link in a page, mail or bookmark: it must be confirmed first.

        A request with the token, or from a page of this server or of an allowed origin, needs no confirmation.
        """
        headers = self.request.headers
        if self.request.method == "GET" and "Origin" not in headers:
            self._is_by_link = self._site() not in (None, "same-origin") and not self.services.admission.is_by_program(
                headers.get("Authorization", "")
            )
        else:
            super()._check_origin()

    def _site(self) -> str | None:
        """Return the Sec-Fetch-Site of a browser, from Referer if it has none; None for other clients."""
        site = self.request.headers.get("Sec-Fetch-Site")
        referrer = self.request.headers.get("Referer")
        if site is None and referrer is not None:  # a browser from before that header
            is_own = split_url(referrer).netloc.lower() == self.external_host.lower()
            return "same-origin" if is_own else "cross-site"
        return site

    def on_admitted(self) -> None:
        # A cookie goes along with what another site's page asks for, and an old browser does not say who asks.
        by_cookie = self.principal.name and not self.services.admission.is_by_program(
            self.request.headers.get("Authorization", "")
        )
        if by_cookie and self.request.method == "GET" and self._site() is None:
            self._is_by_link = True

    def needed_scopes(self) -> Sequence[str]:
        return (WRITE,)

    @operation("seed_start", Process, *_STARTS)
    async def get(self, id: ProcessId, query: SeedStartQuery) -> None:
        """Start a process, or show it as it stands.

        The parameters of the work type follow in the query. The same id with another request is refused.
        """
        if not self._is_by_link:
            await self._start(id, query)
        elif self._site() != "none" or self.request.query or not await self._answer_existing(id):
            self._ask(id, query)

    @operation("seed_start_post", Process, *_STARTS)
    async def post(self, id: ProcessId, query: SeedStartQuery) -> None:
        """Start a process as GET does. The page that a followed link shows sends this request."""
        await self._start(id, query)

    def _ask(self, id: str, query: SeedStartQuery) -> None:
        """Refuse a followed link with 403; show a person a page that sends the same as a POST."""
        is_read = prefers(self.request.headers.get("Accept", ""), "text/html", "application/json")
        if not is_read and self._site() != "none":
            raise problems.CROSS_SITE("a followed link starts nothing; POST the same URL, or send the server's token")
        nonce = secrets.token_urlsafe(16)
        work_type = query.work_type or self.services.settings.default_work_type
        rows = {"id": id, "work type": work_type, **self._params()}
        self.set_status(403)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", _POLICY.format(nonce=nonce))
        self.set_header("Referrer-Policy", "same-origin")  # without it the origin of the form would be "null"
        texts = {html.escape(name): html.escape(str(value)) for name, value in rows.items()}
        listed = "\n".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in texts.items())
        self.finish(_PAGE.format(id=html.escape(id), nonce=nonce, rows=listed))

    async def _start(self, id: str, query: SeedStartQuery) -> None:
        params = self._params()
        processes = self.services.processes
        # A request with nothing but the id means the process that has it.
        if query.work_type is None and not params and await self._answer_existing(id):
            return
        work_type = query.work_type or self.services.settings.default_work_type
        process, _ = await processes.start(StartRequest(work_type=work_type, params=params, id=id), strict=False)
        self.respond(process)

    async def _answer_existing(self, id: str) -> bool:
        """Answer with a process as it stands, and return whether there is one."""
        try:
            process = await self.services.processes.get(id)
        except problems.ProblemError as error:
            if error.kind is not problems.NO_SUCH_PROCESS:
                raise
            return False
        self.respond(process)
        return True

    def _params(self) -> dict[str, Any]:
        params = {}
        for name, values in self.query_texts().items():
            if len(values) > 1:
                raise problems.BAD_PARAMETERS(f"{name} is given {len(values)} times. Give it once", field=name)
            params[name] = values[0]
        params.pop("work_type", None)
        return params


class SeedVerbHandler(SeedHandler):
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

        Pause stops it at its next checkpoint and keeps that. Cancel stops it there and rolls it back.
        """
        ask = self.services.processes.pause if verb == "pause" else self.services.processes.cancel
        self.respond(await ask(id))


class SeedResumeHandler(JsonHandler, SeedHandler):
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
        self.respond(await self.services.processes.resume(id, body.work_types))
