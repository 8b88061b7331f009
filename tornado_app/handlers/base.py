"""Base of every handler: access checks, problem details, headers, one log line a request."""

from __future__ import annotations

import copy
import errno
import functools
import logging
import secrets
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar, cast

import msgspec
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import HTTPError, RequestHandler

from tornado_app import problems
from tornado_app.files.links import Links
from tornado_app.files.service import FileService
from tornado_app.handlers.openapi import query
from tornado_app.identity.admission import Admission
from tornado_app.identity.principal import EVERYBODY, NOBODY, READ, RUN_CODE, WRITE, Principal
from tornado_app.identity.users.services import Users
from tornado_app.problems import Kind, ProblemError
from tornado_app.processes.service import Engine
from tornado_app.processes.user_processes import UserProcesses
from tornado_app.protocols import dates
from tornado_app.server import addresses, guards, response
from tornado_app.server.access import Access
from tornado_app.server.identity import ServerIdentity
from tornado_app.server.idle import InFlight
from tornado_app.server.response import SECURITY_HEADERS
from tornado_app.settings import Settings, is_loopback

access_log = logging.getLogger("holdfast.access")
error_log = logging.getLogger("holdfast.error")

T = TypeVar("T")

_BY_STATUS: dict[int, Kind] = {
    400: problems.BAD_REQUEST,
    403: problems.FORBIDDEN,
    404: problems.NOT_FOUND,
    405: problems.METHOD_NOT_ALLOWED,
    413: problems.TOO_LARGE,
}


@dataclass
class AppServices:
    """Services that the composition root hands to every handler."""

    settings: Settings
    access: Access
    links: Links
    engine: Engine
    processes: Engine | UserProcesses
    files: FileService
    identity: ServerIdentity
    admission: Admission
    users: Users | None = None
    in_flight: InFlight = field(default_factory=InFlight)
    hosts: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        own = {self.settings.address, *self.settings.allow_host}
        if is_loopback(self.settings.address):
            own |= {"localhost", "127.0.0.1", "::1"}
        self.hosts = frozenset(host.strip("[]").lower() for host in own)

    def of_at_once(self, principal: Principal) -> AppServices | None:
        """Return the services as a principal may use them; None while those of a user are not open."""
        if principal is EVERYBODY:
            return self
        own = copy.copy(self)
        if self.users is not None:
            found = self.users.at_once(principal.folder)
            if found is None:
                return None
            own.files, own.links = found
        labels = {"owner": principal.name} if self.users is None else None
        forbid_code = None if principal.may(RUN_CODE) else functools.partial(principal.check, RUN_CODE)
        own.processes = UserProcesses(self.engine, principal.folder, labels, forbid_code)
        return own

    async def of(self, principal: Principal) -> AppServices:
        """Return the services as a principal may use them, open."""
        if self.users is not None:
            await self.users.get(principal.folder)
        return cast(AppServices, self.of_at_once(principal))


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

    IS_PROBE = False
    """Whether monitors poll this, so that it is no use of the server (`--idle-stop`)."""

    def initialize(self, services: AppServices) -> None:
        self.services = services
        self.principal = NOBODY
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
        is_probe = self.IS_PROBE or (self.request.method == "GET" and "X-Holdfast-Watch" in self.request.headers)
        self.services.in_flight.add(self, is_probe=is_probe)
        self._check_host()
        self._check_origin()
        return self._admit()

    def _check_host(self) -> None:
        guards.check_host(self.request.host, self.services.hosts)

    def _check_origin(self) -> None:
        """Refuse pages of other sites (CSRF, DNS rebinding). Raises CROSS_SITE."""
        request, allowed = self.request, self.services.settings.allow_origin
        self._allowed_origin = guards.check_origin(
            request.headers, self.external_host, allowed, may_be_visited=self.MAY_BE_VISITED
        )
        if self._allowed_origin is not None:
            self.allow_cross_origin(self._allowed_origin)

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

    def _admit(self) -> Awaitable[None] | None:
        """Find the principal of the request, before a byte of its body is kept, and use what that one may use.

        Raises UNAUTHORIZED, LOGIN_NEEDED, FORBIDDEN_SCOPE.
        """
        if self.request.method == "OPTIONS" and self.is_preflight:
            return None
        if self.services.users is not None and (owner := self.link_owner()) is not None:
            return self._admit_link(self.services.users, owner)
        if self.is_signed():
            return None
        found = self.services.admission.of(self.request, self.further_token())
        if found is EVERYBODY:
            self.principal = EVERYBODY
            return None
        if not isinstance(found, Principal):
            return self._admit_later(found)
        services = self._services_of(found)
        if services is None:
            return self._admit_later(found)
        self._use(found, services)
        return None

    async def _admit_later(self, found: Principal | Awaitable[Principal]) -> None:
        principal = found if isinstance(found, Principal) else await found
        services = self._services_of(principal)
        self._use(principal, await self.services.of(principal) if services is None else services)

    def _services_of(self, principal: Principal) -> AppServices | None:
        principal.check(*self.needed_scopes())
        return self.services.of_at_once(principal)

    async def _admit_link(self, users: Users, owner: str) -> None:
        """Admit whoever has a link to a file of one user, to that file."""
        found = await users.existing(owner)
        self.services = copy.copy(self.services)
        self.services.files, self.services.links = users.nobody if found is None else found
        if not self.is_signed():
            raise problems.UNAUTHORIZED("the link has no signature. Ask for a new one")

    def _use(self, principal: Principal, services: AppServices) -> None:
        self.principal, self.services = principal, services
        self.on_admitted()

    def on_admitted(self) -> None:
        """Take what depends on who sends the request, once that is known."""

    def needed_scopes(self) -> Sequence[str]:
        """Return the scopes of which a principal needs one for this request."""
        return (READ,) if self.request.method in ("GET", "HEAD", "OPTIONS") else (WRITE,)

    def link_owner(self) -> str | None:
        """Return the folder of the user whose file a signed URL is for, if it names one."""
        return None

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

    # -- addresses

    def address(self, path: str) -> str:
        """Return a path of this server, such as `/v1/files`, as the client has to write it."""
        return addresses.root(self.services.settings, self.request.headers) + path

    @property
    def external_host(self) -> str:
        """Return the host and port that the client wrote."""
        return addresses.host(self.services.settings, self.request.headers, self.request.host)

    # -- reading

    def query_as(self, type: type[T]) -> T:
        """Return the query as a struct of parameters. Raises BAD_PARAMETERS."""
        return query.read(type, self.query_texts())

    def query_texts(self) -> dict[str, list[str]]:
        """Return every query argument by name. Raises BAD_PARAMETERS for what is not UTF-8."""
        given = self.request.query_arguments
        return query.texts(given) if given else {}

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
        answer = response.of_problem(problem, self.address(""), self.status_of(problem.kind))
        self.set_status(answer.status, answer.reason)
        for name, value in answer.headers.items():
            self.set_header(name, value)
        if answer.status == 405:
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        return answer.body

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
        """Return the problem for an exception; see the function of this name."""
        if isinstance(error, HTTPError) and status < 500:
            kind = _BY_STATUS.get(status, problems.BAD_REQUEST)
            return kind(error.log_message or f"{self.request.method} {self.request.path}: {kind.title.lower()}")
        return problem_of(error, self.request.method or "", self.request.path)

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Log nothing: `problem_of` logs bugs, and a refusal is in the access log."""

    def on_finish(self) -> None:
        self.services.in_flight.discard(self)
        if not self.lost:
            log_request(self.request, self.get_status())

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.services.in_flight.discard(self)
        if not self.lost and not self._finished:
            self.lost = True
            self.on_lost()
            log_request(self.request, self.get_status())

    def on_lost(self) -> None:
        """Note that the client left before it got a final response."""
        self.set_status(499, "Client Closed Request")


def problem_of(error: BaseException | None, method: str, path: str) -> ProblemError:
    """Return the problem for an exception. A bug is logged under an id, and the client gets the id alone."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return problems.UNAVAILABLE(
            "the server has as many files and connections open as its system allows. Try again in a moment",
            headers={"Retry-After": "1"},
        )
    error_id = secrets.token_hex(6)
    error_log.error("error %s in %s %s", error_id, method, path, exc_info=error, extra={"error_id": error_id})
    return problems.INTERNAL(f"the server's log has it under error id {error_id}", error_id=error_id)


def log_request(request: HTTPServerRequest, status: int) -> None:
    """Log one line for a request, without its query, which may hold secrets."""
    if access_log.isEnabledFor(logging.INFO):
        log_answer(request.method or "", request.path, status, request._start_time, request.remote_ip)


def log_answer(method: str, path: str, status: int, began: float, remote: str | None) -> None:
    """Log one line for a request that arrived at `began`."""
    if not access_log.isEnabledFor(logging.INFO):
        return
    milliseconds = 1000 * (time.time() - began)
    access_log.info(
        "%s %s %d %.1fms",
        method,
        path,
        status,
        milliseconds,
        extra={"method": method, "path": path, "status": status, "ms": round(milliseconds, 1), "remote": remote},
    )


class HeadHandler(BaseHandler):
    """Answers HEAD as GET, for resources that monitors poll."""

    def head(self, *args: str, **kwargs: str) -> Awaitable[None] | None:
        """Answer with the headers of a GET; Tornado leaves the body out."""
        return self.get(*args, **kwargs)


class PublicHandler(HeadHandler):
    """Answers without a token, because the response holds no user data."""

    def _admit(self) -> Awaitable[None] | None:
        """Admit every request."""
        return None


class NotFoundHandler(BaseHandler):
    """Answers 404 for a path that no route matches, after the same checks."""

    async def prepare(self) -> None:
        checked = super().prepare()
        if checked is not None:
            await checked
        is_below = self.request.path.startswith(self.services.settings.base_url)
        where = "" if is_below else f". This server is at {self.address('/')}"
        raise problems.NOT_FOUND(f"there is nothing at {self.request.path}{where}")


class BaseUrlHandler(PublicHandler):
    """Redirects the base URL without its last slash."""

    MAY_BE_VISITED = True

    def get(self) -> None:
        """Redirect to the index."""
        query = f"?{self.request.query}" if self.request.query else ""
        self.set_status(308)
        self.clear_header("Content-Type")
        self.set_header("Location", self.address("/") + query)
        self.finish()
