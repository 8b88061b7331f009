"""What every handler shares: who may come in, problem details, headers, one log line a request."""

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

_MOST_HOST = 512  # characters that are looked at, and kept; none that is served has so many

_BY_STATUS: dict[int, Kind] = {
    400: problems.BAD_REQUEST,
    403: problems.FORBIDDEN,
    404: problems.NOT_FOUND,
    405: problems.METHOD_NOT_ALLOWED,
    413: problems.TOO_LARGE,
}


class InFlight:
    """Requests that are not answered yet: a server that stops finishes them."""

    def __init__(self) -> None:
        self._handlers: set[RequestHandler] = set()
        self._none = asyncio.Event()
        self._none.set()

    def add(self, handler: RequestHandler) -> None:
        """A request has come."""
        self._handlers.add(handler)
        self._none.clear()

    def discard(self, handler: RequestHandler) -> None:
        """It is answered, or its connection is gone."""
        self._handlers.discard(handler)
        if not self._handlers:
            self._none.set()

    async def drained(self, timeout: float) -> None:
        """Wait until there are none, `timeout` seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._none.wait()


@dataclass
class AppServices:
    """What the composition root hands to every handler."""

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
    """Guards a request, answers JSON, and turns every failure into problem details."""

    services: AppServices

    ONLY: ClassVar[tuple[str, ...]] = ()
    """The methods that come here, where another handler has the rest of them on the same path."""

    EXPOSED: ClassVar[Sequence[str]] = ("Location", "Retry-After", "WWW-Authenticate")
    """Headers of answers that a page of an allowed origin may read."""

    ACCEPTED: ClassVar[Sequence[str]] = ("Content-Type", "Last-Event-ID")
    """Headers of requests that such a page may send, beside Authorization."""

    MAY_BE_VISITED = False
    """A link on any page may lead here: a GET changes nothing, and the page that links gets nothing to read."""

    def initialize(self, services: AppServices) -> None:
        self.services = services
        self.lost = False
        self._allowed_origin: str | None = None

    def clear(self) -> None:
        """As Tornado's, without headers that are replaced at once, and with a date that is not made anew each time."""
        self._headers = HTTPHeaders()
        self._headers["Date"] = dates.write(time.time())
        self.set_default_headers()
        self._write_buffer = []
        self.set_status(200)

    def set_default_headers(self) -> None:
        for name, value in SECURITY_HEADERS.items():
            self._headers[name] = value  # set_header would look for what our own constants don't have
        self._headers["Cache-Control"] = "no-store"

    # -- who may come in

    def prepare(self) -> Awaitable[None] | None:
        self.services.in_flight.add(self)
        self._check_host()
        self._check_origin()
        self._check_token()
        return None

    def _check_host(self) -> None:
        host = _host_name(self.request.host[:_MOST_HOST])
        if host not in self.services.hosts:
            raise problems.MISDIRECTED(
                f"Host {host!r} is not served here; start the server with --allow-host {host} if it should be"
            )

    def _check_origin(self) -> None:
        """A page of another site must not start, stop or read anything (CSRF, DNS rebinding)."""
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
                f"origin {origin} may not call this server; --allow-origin {origin} would allow it"
            )
        visit = self.MAY_BE_VISITED and self.request.headers.get("Sec-Fetch-Mode") == "navigate"
        if self.request.headers.get("Sec-Fetch-Site") not in (None, "same-origin", "none") and not visit:
            raise problems.CROSS_SITE("a page of another site may not call this server; --allow-origin would allow it")

    def allow_cross_origin(self, origin: str) -> None:
        """CORS headers for an origin that the settings allow (Fetch standard, section 3.3)."""
        self.set_header("Access-Control-Allow-Origin", origin)
        self.set_header("Access-Control-Expose-Headers", ", ".join(self.EXPOSED))
        self.set_header("Vary", "Origin")
        self.set_header("Cross-Origin-Resource-Policy", "cross-origin")

    def options(self, *args: str, **kwargs: str) -> None:
        """Answer with what can be done here, and a preflight with what a page may do."""
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
        """One more token that opens this endpoint; "" for none."""
        return ""

    def is_signed(self) -> bool:
        """Whether the URL itself shows that someone with the token made it. Raises UNAUTHORIZED for a bad signature."""
        return False

    @property
    def is_preflight(self) -> bool:
        """A CORS preflight, which browsers send without credentials (Fetch standard, section 3.3)."""
        return (
            self.request.method == "OPTIONS"
            and self._allowed_origin is not None
            and "Access-Control-Request-Method" in self.request.headers
        )

    # -- reading

    def query_as(self, type: type[T]) -> T:
        """The query as a struct of parameters. Raises BAD_PARAMETERS."""
        return query.read(type, self.query_texts())

    def query_texts(self) -> dict[str, list[str]]:
        """Return every query argument by name. Raises BAD_PARAMETERS for what is not UTF-8."""
        return query.texts(self.request.query_arguments)

    # -- answering

    def answer(self, value: Any, status: int = 200) -> None:
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
        """Set status and headers for a problem; the body that goes with them."""
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
        """The status for a problem; the seed's face knows fewer."""
        return kind.status

    def allowed_methods(self) -> list[str]:
        """Methods that this handler defines itself."""
        return [
            method
            for method in self.SUPPORTED_METHODS
            if getattr(type(self), method.lower()) is not getattr(RequestHandler, method.lower())
        ]

    def problem_of(self, error: BaseException | None, status: int = 500) -> ProblemError:
        """What to tell about a failure; a bug is logged under an id, and the id is all that is told."""
        if isinstance(error, ProblemError):
            return error
        if isinstance(error, HTTPError) and status < 500:
            kind = _BY_STATUS.get(status, problems.BAD_REQUEST)
            return kind(error.log_message or f"{self.request.method} {self.request.path}: {kind.title.lower()}")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return problems.UNAVAILABLE(
                "the server has as many files and connections open as its system allows; try again in a moment",
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
        """`problem_of` logs what is a bug; refusals are no news."""

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
        """The client has gone before it had its answer."""
        self.set_status(499, "Client Closed Request")


def log_request(handler: RequestHandler) -> None:
    """One line a request. Queries are left out: they may carry what is private."""
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
    """The parts of a URL; none of what is no URL at all."""
    try:
        parts = urlsplit(url)
        parts.hostname  # noqa: B018 - raises for what is no address
    except ValueError:
        return SplitResult("", "", "", "", "")
    return parts


class HeadHandler(BaseHandler):
    """Answers a HEAD by what a GET does: for what is read by programs that only look, such as monitors."""

    def head(self, *args: str, **kwargs: str) -> Awaitable[None] | None:
        """Answer with the headers of a GET; Tornado leaves the body out."""
        return self.get(*args, **kwargs)


class PublicHandler(HeadHandler):
    """Answers without a token, for there is nothing of anybody's in the answer."""

    def _check_token(self) -> None:
        """Whoever may reach the server may ask."""


class NotFoundHandler(BaseHandler):
    """What no route matches, with the same guards and the same error shape."""

    def prepare(self) -> Awaitable[None] | None:
        super().prepare()
        raise problems.NOT_FOUND(f"there is nothing at {self.request.path}")
