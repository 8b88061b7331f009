"""Admission of requests by a JupyterHub, whose answers are kept for a while."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Awaitable, Mapping
from typing import Any, NamedTuple

from tornado.httputil import HTTPServerRequest
from tornado.iostream import BaseIOStream

from tornado_app import problems
from tornado_app.clocks import steady
from tornado_app.identity import folders
from tornado_app.identity.hub.client import HubClient
from tornado_app.identity.hub.sessions import PendingLogin, Sessions
from tornado_app.identity.principal import EVERYBODY, Principal, in_force, missing
from tornado_app.problems import ProblemError
from tornado_app.protocols.accept import prefers

CACHE_S = 300.0
"""Seconds for which the hub's answer about a token is kept, as HubAuth itself keeps it."""
UNKNOWN_S = 10.0
"""Seconds for which a token that the hub does not know is refused without asking again."""

_MOST = 10_000
_TOKEN = re.compile(r"(?:token|bearer)\s+(\S+)\s*", re.IGNORECASE)
_SAFE = ("GET", "HEAD", "OPTIONS")

_Key = tuple[str, str]


class _Known(NamedTuple):
    """Answer of the hub, and until when it counts, by `steady`; None: nobody has this token."""

    until: float
    principal: Principal | None


class HubAdmission:
    """See `Admission`. Lives on the event loop; the hub is asked in a thread."""

    def __init__(self, hub: HubClient, sessions: Sessions, *, per_user: bool) -> None:
        """`per_user`: each principal has a folder of its own."""
        self.hub = hub
        self.sessions = sessions
        self._per_user = per_user
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._asking: dict[_Key, asyncio.Task[Principal | None]] = {}

    def of(self, request: HTTPServerRequest, further: str = "") -> Principal | Awaitable[Principal]:
        """See `Admission`."""
        token = _header_token(request.headers)
        if further and hmac.compare_digest(token.encode(), further.encode()):
            return EVERYBODY
        if not token:
            token = self.sessions.token(request.headers)
            if not token:
                raise self._refusal(request, "send a token of the hub as Authorization: Bearer TOKEN")
            self._check_page(request)
        key = _key(token, self.sessions.session_id(request.headers))
        known = self._known.get(key)
        if known is not None and known.until > steady():
            return self._admitted(known.principal, request)
        return self._ask(key, token, request)

    def at_once(self, headers: Mapping[str, str], stream: BaseIOStream) -> Principal | None:
        """See `Admission`; a session of a browser is for `of`."""
        token = _header_token(headers)
        known = self._known.get(_key(token, self.sessions.session_id(headers))) if token else None
        return known.principal if known is not None and known.until > steady() else None

    def close(self) -> None:
        """See `Admission`."""
        self.hub.close()

    def is_by_program(self, authorization: str) -> bool:
        """See `Admission`."""
        return _TOKEN.fullmatch(authorization.strip()) is not None

    @staticmethod
    def _check_page(request: HTTPServerRequest) -> None:
        """Refuse a change by cookie that does not say which page sent it: another site's could have. Raises CROSS_SITE.

        Those that say it were checked before.
        """
        if request.method in _SAFE or "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
            return
        raise problems.CROSS_SITE(
            "a change by cookie needs Origin or Sec-Fetch-Site, which browsers send. "
            "A program sends its token as Authorization: Bearer TOKEN"
        )

    async def _ask(self, key: _Key, token: str, request: HTTPServerRequest) -> Principal:
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._find(key, token))
            task.add_done_callback(lambda done: self._asking.pop(key, None))
        return self._admitted(await asyncio.shield(task), request)

    async def _find(self, key: _Key, token: str) -> Principal | None:
        model = await self.hub.model_of(token)
        found = None if model is None else self.principal_of(model)
        self._known[key] = _Known(steady() + (UNKNOWN_S if found is None else CACHE_S), found)
        self._known.move_to_end(key)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return found

    def principal_of(self, model: Mapping[str, Any]) -> Principal:
        """Return the principal of the hub's model of a user or a service. Raises FORBIDDEN_SCOPE without access."""
        lacking = self.hub.missing_access(model)
        if lacking:
            raise missing(lacking)
        name = str(model["name"])
        folder = folders.of_service(name) if model.get("kind") == "service" else folders.of_user(name)
        return Principal(
            name,
            frozenset(model.get("groups") or ()),
            in_force(model.get("scopes") or (), per_user=self._per_user),
            bool(model.get("admin")),
            folder if self._per_user else "",
        )

    def _admitted(self, found: Principal | None, request: HTTPServerRequest) -> Principal:
        if found is None:
            raise self._refusal(request, "the hub does not know this token. Ask for another in the hub's menu Token")
        return found

    def _refusal(self, request: HTTPServerRequest, why: str) -> ProblemError:
        """Return a refusal; a browser that opens a page is sent to log in."""
        if not _is_navigation(request):
            return problems.UNAUTHORIZED(why, headers={"WWW-Authenticate": 'Bearer realm="holdfast"'})
        state = self.sessions.new_state()
        login = self.hub.begin_login(state)
        pending = PendingLogin(state, login.verifier, self._page_of(request))
        cookie = self.sessions.begin_login(pending, secure=request.protocol == "https")
        return problems.LOGIN_NEEDED("log in at the hub", headers={"Location": login.url, "Set-Cookie": cookie})

    def _page_of(self, request: HTTPServerRequest) -> str:
        """Return the page to lead to after a login, which is never one of another site."""
        target = request.uri or "/"
        is_own = target.startswith(self.sessions.path) and target[1:2] not in ("/", "\\")
        return target if is_own else self.sessions.path


def _header_token(headers: Mapping[str, str]) -> str:
    found = _TOKEN.fullmatch(headers.get("Authorization", "").strip())
    return "" if found is None else found[1]


def _key(token: str, session: str) -> _Key:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest(), session


def _is_navigation(request: HTTPServerRequest) -> bool:
    """Return whether a browser opens a page, as far as its headers say."""
    if request.method != "GET" or "Authorization" in request.headers:
        return False
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate"
    return prefers(request.headers.get("Accept", ""), "text/html", "application/json")
