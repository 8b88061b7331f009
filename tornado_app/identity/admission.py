"""Interface of admission: a request's head in, the principal out, or why it is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Protocol, cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPServerRequest
from tornado.iostream import BaseIOStream

from tornado_app import problems
from tornado_app.identity.principal import EVERYBODY, Principal
from tornado_app.server.access import Access


class Admission(Protocol):
    """Finds the principal of a request. Whoever calls it has checked its Host and Origin."""

    def of(self, request: HTTPServerRequest, further: str = "") -> Principal | Awaitable[Principal]:
        """Return the principal, or what finds it where somebody else has to be asked. `further`: one more valid token.

        Raises:
            ProblemError: UNAUTHORIZED, LOGIN_NEEDED for a page that a browser opens, CROSS_SITE, FORBIDDEN_SCOPE,
                UNAVAILABLE; the awaitable raises them, too.
        """

    def at_once(self, headers: Mapping[str, str], stream: BaseIOStream) -> Principal | None:
        """Return the principal if it is known already; None for everything else, a refusal included."""

    def close(self) -> None:
        """Release what it holds."""

    def is_by_program(self, authorization: str) -> bool:
        """Return whether this Authorization header can't come from a page of another site."""


class LocalAdmission:
    """Admission by the server's token, or as the user of this machine who runs it. There are no names."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def of(self, request: HTTPServerRequest, further: str = "") -> Principal:
        """See `Admission`."""
        stream = cast(HTTP1Connection, request.connection).stream
        why = self._access.refusal(request.headers.get("Authorization", ""), stream, further=further)
        if why:
            raise problems.UNAUTHORIZED(why, headers={"WWW-Authenticate": 'Bearer realm="holdfast"'})
        return EVERYBODY

    def at_once(self, headers: Mapping[str, str], stream: BaseIOStream) -> Principal | None:
        """See `Admission`."""
        return None if self._access.refusal(headers.get("Authorization", ""), stream) else EVERYBODY

    def close(self) -> None:
        """See `Admission`."""
        self._access.close()

    def is_by_program(self, authorization: str) -> bool:
        """See `Admission`."""
        return self._access.has_token(authorization)
