"""The way that a request takes: to an endpoint that answers it directly, or to the handlers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.web import Application

from tornado_app.files import metrics
from tornado_app.handlers.base import AppServices, log_answer, problem_of
from tornado_app.handlers.direct import endpoints
from tornado_app.handlers.direct.endpoints import Accepted, Request
from tornado_app.identity.principal import READ, WRITE
from tornado_app.problems import ProblemError
from tornado_app.server import addresses, guards, response
from tornado_app.server.response import Response

_Endpoint = Callable[[Request], Accepted | None]

_ROOM = r"(/v1/(?:files|uploads|processes)/)(?=.)"
_ENDPOINTS: dict[tuple[str, str], _Endpoint] = {
    ("GET", "/v1/files/"): endpoints.get_file,
    ("HEAD", "/v1/files/"): endpoints.get_file,
    ("HEAD", "/v1/uploads/"): endpoints.use_upload,
    ("PATCH", "/v1/uploads/"): endpoints.use_upload,
    ("GET", "/v1/processes/"): endpoints.get_process,
}
_MAY_BE_VISITED = (endpoints.get_file,)

_UNUSUAL = frozenset(
    (
        *("Content-Encoding", "Expect", "Transfer-Encoding", "X-Holdfast-Watch", "X-Http-Method-Override"),
        *("Upload-Complete", "Upload-Draft-Interop-Version", "Want-Repr-Digest"),
    )
)
"""Request headers that are for the handlers."""

_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class DirectAnswers(HTTPServerConnectionDelegate):
    """Takes requests in front of an application, and answers those that are small and plain."""

    def __init__(self, application: Application, services: AppServices) -> None:
        self.application = application
        self.services = services
        self._match_room = re.compile(re.escape(services.settings.base_url[:-1]) + _ROOM).match
        self._is_served = lru_cache(maxsize=64)(self._is_served)  # type: ignore[method-assign]

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        return DirectDelegate(self, server_conn, request_conn)

    def accept(self, start_line: RequestStartLine, headers: HTTPHeaders, connection: HTTPConnection) -> Accepted | None:
        """Return what answers a request; None if it is for the handlers. Nothing is changed by then."""
        method, target, version = start_line
        match = self._match_room(target)
        if match is None or version != "HTTP/1.1":
            return None
        endpoint = _ENDPOINTS.get((method, match[1]))
        if endpoint is None or "?" in target or not target.isascii() or not _UNUSUAL.isdisjoint(headers):
            return None
        if headers.get("Connection", "keep-alive").lower() not in ("keep-alive", "close"):
            return None
        if len(headers.get("Content-Length", "")) > endpoints.DIGITS:
            return None
        if not isinstance(connection, HTTP1Connection):
            return None
        services = self._admitted(method, headers, connection, endpoint)
        if services is None:
            return None
        try:
            return endpoint(Request(method, target[match.end() :], headers, connection, services))
        except ProblemError:
            return None  # the handlers find the same, and know how to say it

    def _admitted(
        self, method: str, headers: HTTPHeaders, connection: HTTP1Connection, endpoint: _Endpoint
    ) -> AppServices | None:
        """Return what the sender of a request may use; None if the guards refuse it: the handlers say why."""
        services = self.services
        host = headers.get("Host", "")
        if not self._is_served(host):
            return None
        external_host = addresses.host(services.settings, headers, host)
        try:
            other_origin = guards.check_origin(
                headers, external_host, services.settings.allow_origin, may_be_visited=endpoint in _MAY_BE_VISITED
            )
        except ProblemError:
            return None
        # For another origin the handlers have the headers of CORS.
        principal = services.admission.at_once(headers, connection.stream) if other_origin is None else None
        if principal is None or not principal.may(WRITE if method == "PATCH" else READ):
            return None
        return services.of_at_once(principal)

    def _is_served(self, host: str) -> bool:
        try:
            guards.check_host(host, self.services.hosts)
        except ProblemError:
            return False
        return _HOST.fullmatch(host) is not None


class DirectDelegate(HTTPMessageDelegate):
    """One request. It is decided at its head whether it goes to the handlers."""

    _handlers: HTTPMessageDelegate | None = None
    _accepted: Accepted
    _task: asyncio.Task[None] | None = None
    _is_lost = False

    def __init__(self, direct: DirectAnswers, server_conn: object, connection: HTTPConnection) -> None:
        self._direct = direct
        self._server_conn = server_conn
        self._connection = connection

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._began = time.time()
        self._start_line = cast(RequestStartLine, start_line)
        self._closes = "Connection" in headers and headers["Connection"].lower() == "close"
        accepted = self._direct.accept(self._start_line, headers, self._connection)
        if accepted is None:
            self._handlers = self._direct.application.start_request(self._server_conn, self._connection)
            self.data_received = self._handlers.data_received  # type: ignore[method-assign]  # each piece of a body
            return self._handlers.headers_received(start_line, headers)
        self._direct.services.in_flight.touch()
        self._accepted = accepted
        self._headers = headers
        self._body: list[bytes] = []
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self._body.append(chunk)
        return None

    def finish(self) -> None:
        if self._handlers is not None:
            self._handlers.finish()
        elif isinstance(self._accepted.response, Response):
            self._respond(self._accepted.response)
        else:
            self._direct.services.in_flight.add(self)
            self._connection.set_close_callback(self._on_lost)  # type: ignore[attr-defined]
            self._task = asyncio.ensure_future(self._respond_later(self._accepted.response(self._body)))

    def on_connection_close(self) -> None:
        if self._handlers is not None:
            self._handlers.on_connection_close()

    async def _respond_later(self, answer: Awaitable[Response]) -> None:
        try:
            made = await answer
        except Exception as error:
            problem = problem_of(error, self._start_line.method, self._start_line.path)
            translate = self._accepted.problem
            root = addresses.root(self._direct.services.settings, self._headers)
            made = response.of_problem(problem if translate is None else translate(problem), root)
            if self._start_line.method == "HEAD":
                made.headers = {**made.headers, "Content-Length": str(len(made.body))}
                made.body = b""
        finally:
            self._direct.services.in_flight.discard(self)
        if not self._is_lost:
            self._respond(made)

    def _respond(self, made: Response) -> None:
        if self._closes:
            made.headers = {**made.headers, "Connection": "close"}
        self._connection.write(made.head() + made.body)
        self._connection.finish()
        if self._accepted.completes_download:
            metrics.DOWNLOAD_COMPLETE.inc()
            metrics.DOWNLOAD_SECONDS.observe(time.time() - self._began)
        self._log(made.status)

    def _on_lost(self) -> None:
        if self._task is not None and not self._task.done():
            self._is_lost = True
            self._log(499)

    def _log(self, status: int) -> None:
        line = self._start_line
        remote = getattr(getattr(self._connection, "context", None), "remote_ip", None)
        log_answer(line.method, line.path, status, self._began, remote)
