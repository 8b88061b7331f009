"""Base of every handler: access checks, problem details, headers, one log line a request."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import logging
import secrets
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

import msgspec
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders
from tornado.web import HTTPError, RequestHandler

from tornado_app import problems
from tornado_app.files.links import Links
from tornado_app.files.service import FileService
from tornado_app.handlers.openapi import query
from tornado_app.problems import Kind, ProblemError
from tornado_app.processes.service import Engine
from tornado_app.protocols import dates
from tornado_app.server.access import Access
from tornado_app.server.security_headers import SECURITY_HEADERS
from tornado_app.settings import Settings, is_loopback

access_log = logging.getLogger("holdfast.access")
error_log = logging.getLogger("holdfast.error")

T = TypeVar("T")

_MAX_HOST = 512  # characters of Host that are compared and cached; no host that is served has as many

_BY_STATUS: dict[int, Kind] = {
    400: problems.BAD_REQUEST,
    403: problems.FORBIDDEN,
    404: problems.NOT_FOUND,
    405: problems.METHOD_NOT_ALLOWED,
    413: problems.TOO_LARGE,
}


class InFlight:
    """Requests without a final response. A server that stops waits for them."""

    def __init__(self) -> None:
        self._handlers: set[RequestHandler] = set()
        self._none = asyncio.Event()
        self._none.set()

    def add(self, handler: RequestHandler) -> None:
        """Count a request that has arrived."""
        self._handlers.add(handler)
        self._none.clear()

    def discard(self, handler: RequestHandler) -> None:
        """Forget a request that is answered or whose connection is lost."""
        self._handlers.discard(handler)
        if not self._handlers:
            self._none.set()

    async def drained(self, timeout: float) -> None:
        """Wait until there are none, for at most `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._none.wait()


@dataclass
class AppServices:
    """Services that the composition root hands to every handler."""

    settings: Settings
    access: Access
    links: Links
    processes: Engine
    files: FileService
    in_flight: InFlight = field(default_factory=InFlight)
    hosts: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        own = {self.settings.address, *self.settings.allow_host}
        if is_loopback(self.settings.address):
            own |= {"localhost", "127.0.0.1", "::1"}
        self.hosts = frozenset(host.strip("[]").lower() for host in own)


class BaseHandler(RequestHandler):
    """Checks a request, answers with JSON, and turns every exception into problem details."""

    services: AppServices

    ONLY: ClassVar[tuple[str, ...]] = ()
    """The methods of this handler, if another handler has the rest of them on the same path."""

    EXPOSED: ClassVar[Sequence[str]] = ("Location", "Retry-After", "WWW-Authenticate")
    """Response headers that a page of an allowed origin may read."""

    ACCEPTED: ClassVar[Sequence[str]] = ("Content-Type", "Last-Event-ID")
    """Request headers that such a page may send, beside Authorization."""

    MAY_BE_VISITED = False
    """Whether another site may link here: a GET changes nothing, and that site can't read the response."""

    def initialize(self, services: AppServices) -> None:
        self.services = services
        self.lost = False
        self._allowed_origin: str | None = None

    def clear(self) -> None:
        """Reset the response as Tornado does, without its own headers and with a cached date."""
        self._headers = HTTPHeaders()
        self._headers["Date"] = dates.write(time.time())
        self.set_default_headers()
        self._write_buffer = []
        self.set_status(200)

    def set_default_headers(self) -> None:
        for name, value in SECURITY_HEADERS.items():
            self._headers[name] = value  # set_header would check constants for line breaks
        self._headers["Cache-Control"] = "no-store"

    # -- access

    def prepare(self) -> Awaitable[None] | None:
        self.services.in_flight.add(self)
        self._check_host()
        self._check_origin()
        self._check_token()
        return None

    def _check_host(self) -> None:
        host = _host_name(self.request.host[:_MAX_HOST])
        if host not in self.services.hosts:
            raise problems.MISDIRECTED(
                f"Host {host!r} is not served here. Start the server with --allow-host {host} to serve it"
            )

    def _check_origin(self) -> None:
        """Refuse pages of other sites (CSRF, DNS rebinding). Raises CROSS_SITE."""
        origin = self.request.headers.get("Origin")
        if origin is not None:
            parts = split_url(origin)
            if parts.netloc.lower() == self.request.host.lower() and parts.scheme in ("http", "https"):
                return
            if origin in self.services.settings.allow_origin:
                self._allowed_origin = origin
                self.allow_cross_origin(origin)
                return
            raise problems.CROSS_SITE(
                f"origin {origin} may not call this server. Start it with --allow-origin {origin} to allow it"
            )
        visit = self.MAY_BE_VISITED and self.request.headers.get("Sec-Fetch-Mode") == "navigate"
        if self.request.headers.get("Sec-Fetch-Site") not in (None, "same-origin", "none") and not visit:
            raise problems.CROSS_SITE(
                "a page of another site may not call this server. Start it with --allow-origin ORIGIN to allow it"
            )

    def allow_cross_origin(self, origin: str) -> None:
        """CORS headers for an origin that the settings allow (Fetch standard, section 3.3)."""
        self.set_header("Access-Control-Allow-Origin", origin)
        self.set_header("Access-Control-Expose-Headers", ", ".join(self.EXPOSED))
        self.set_header("Vary", "Origin")
        self.set_header("Cross-Origin-Resource-Policy", "cross-origin")

    def options(self, *args: str, **kwargs: str) -> None:
        """Answer with the allowed methods, and a preflight with the allowed headers."""
        methods = ", ".join(self.allowed_methods())
        self.set_status(204)
        self.clear_header("Content-Type")
        self.set_header("Allow", methods)
        if self.is_preflight:
            self.set_header("Access-Control-Allow-Methods", methods)
            self.set_header("Access-Control-Allow-Headers", ", ".join(("Authorization", *self.ACCEPTED)))
            self.set_header("Access-Control-Max-Age", "86400")
            if self.request.headers.get("Access-Control-Request-Private-Network") == "true":
                self.set_header("Access-Control-Allow-Private-Network", "true")

    def _check_token(self) -> None:
        if self.is_preflight or self.is_signed():
            return
        stream = cast(HTTP1Connection, self.request.connection).stream
        given = self.request.headers.get("Authorization", "")
        why = self.services.access.refusal(given, stream, further=self.further_token())
        if why:
            raise problems.UNAUTHORIZED(why, headers={"WWW-Authenticate": 'Bearer realm="holdfast"'})

    def further_token(self) -> str:
        """Return one more token that this endpoint accepts; "" for none."""
        return ""

    def is_signed(self) -> bool:
        """Return whether the URL carries a valid signature. Raises UNAUTHORIZED for an invalid one."""
        return False

    @property
    def is_preflight(self) -> bool:
        """Return whether this is a CORS preflight, which has no credentials (Fetch standard, section 3.3)."""
        return (
            self.request.method == "OPTIONS"
            and self._allowed_origin is not None
            and "Access-Control-Request-Method" in self.request.headers
        )

    # -- reading

    def query_as(self, type: type[T]) -> T:
        """Return the query as a struct of parameters. Raises BAD_PARAMETERS."""
        return query.read(type, self.query_texts())

    def query_texts(self) -> dict[str, list[str]]:
        """Return every query argument by name. Raises BAD_PARAMETERS for what is not UTF-8."""
        return query.texts(self.request.query_arguments)

    # -- answering

    def respond(self, value: Any, status: int = 200) -> None:
        """Send a wire struct as JSON and finish."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(msgspec.json.encode(value))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        self.send_problem(self.problem_of(error, status_code))

    def send_problem(self, problem: ProblemError) -> None:
        """Answer with problem details and finish."""
        if self._allowed_origin is not None:  # Tornado clears all headers before an error
            self.allow_cross_origin(self._allowed_origin)
        self.finish(self.render_problem(problem))

    def render_problem(self, problem: ProblemError) -> bytes:
        """Set status and headers for a problem, and return the body."""
        status = self.status_of(problem.kind)
        self.set_status(status, http.client.responses.get(status, problem.kind.title))
        for name, value in problem.headers.items():
            self.set_header(name, value)
        if status == 405:
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.set_header("Content-Type", "application/problem+json")
        return msgspec.json.encode(problem.body(status))

    @classmethod
    def status_of(cls, kind: Kind) -> int:
        """Return the status of a problem; the seed's endpoints use fewer."""
        return kind.status

    def allowed_methods(self) -> list[str]:
        """Return the methods that this handler defines."""
        return [
            method
            for method in self.SUPPORTED_METHODS
            if getattr(type(self), method.lower()) is not getattr(RequestHandler, method.lower())
        ]

    def problem_of(self, error: BaseException | None, status: int = 500) -> ProblemError:
        """Return the problem for an exception. A bug is logged under an id, and the client gets the id alone."""
        if isinstance(error, ProblemError):
            return error
        if isinstance(error, HTTPError) and status < 500:
            kind = _BY_STATUS.get(status, problems.BAD_REQUEST)
            return kind(error.log_message or f"{self.request.method} {self.request.path}: {kind.title.lower()}")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return problems.UNAVAILABLE(
                "the server has as many files and connections open as its system allows. Try again in a moment",
                headers={"Retry-After": "1"},
            )
        error_id = secrets.token_hex(6)
        error_log.error(
            "error %s in %s %s",
            error_id,
            self.request.method,
            self.request.path,
            exc_info=error,
            extra={"error_id": error_id},
        )
        return problems.INTERNAL(f"the server's log has it under error id {error_id}", error_id=error_id)

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Log nothing: `problem_of` logs bugs, and a refusal is in the access log."""

    def on_finish(self) -> None:
        self.services.in_flight.discard(self)
        if not self.lost:
            log_request(self)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.services.in_flight.discard(self)
        if not self.lost and not self._finished:
            self.lost = True
            self.on_lost()
            log_request(self)

    def on_lost(self) -> None:
        """Note that the client left before it got a final response."""
        self.set_status(499, "Client Closed Request")


def log_request(handler: RequestHandler) -> None:
    """Log one line for a request, without its query, which may hold secrets."""
    if not access_log.isEnabledFor(logging.INFO):
        return
    request = handler.request
    milliseconds = 1000 * (time.time() - request._start_time)
    access_log.info(
        "%s %s %d %.1fms",
        request.method,
        request.path,
        handler.get_status(),
        milliseconds,
        extra={
            "method": request.method,
            "path": request.path,
            "status": handler.get_status(),
            "ms": round(milliseconds, 1),
            "remote": request.remote_ip,
        },
    )


@lru_cache(maxsize=256)
def _host_name(host: str) -> str:
    return (split_url("//" + host).hostname or "").lower()


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL; empty ones if it is not a URL."""
    try:
        parts = urlsplit(url)
        parts.hostname  # noqa: B018 - raises for what is no address
    except ValueError:
        return SplitResult("", "", "", "", "")
    return parts


class HeadHandler(BaseHandler):
    """Answers HEAD as GET, for resources that monitors poll."""

    def head(self, *args: str, **kwargs: str) -> Awaitable[None] | None:
        """Answer with the headers of a GET; Tornado leaves the body out."""
        return self.get(*args, **kwargs)


class PublicHandler(HeadHandler):
    """Answers without a token, because the response holds no user data."""

    def _check_token(self) -> None:
        """Admit every request."""


class NotFoundHandler(BaseHandler):
    """Answers 404 for a path that no route matches, after the same checks."""

    def prepare(self) -> Awaitable[None] | None:
        super().prepare()
        raise problems.NOT_FOUND(f"there is nothing at {self.request.path}")
