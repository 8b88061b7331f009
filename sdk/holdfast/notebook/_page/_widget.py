"""Widget whose view asks its kernel for the way to the server, and whatever else a subclass answers."""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anywidget

from holdfast import calls, errors, plans
from holdfast._client.core import AnyCore
from holdfast._endpoints.call import Call, T
from holdfast.errors import APIError
from holdfast.notebook._feed._registry import driver_of
from holdfast.notebook._html._saved import SavedAsHTML
from holdfast.notebook._page._questions import Question, Response, start_thread
from holdfast.notebook._renderer import reset_reply_subshell
from holdfast.plans import Retries, Stop

_ONCE = Retries(attempts=0)  # the view repeats what may be repeated, and shows that it waits
_NONCE_BYTES = 24


class PageWidget(SavedAsHTML, anywidget.AnyWidget):
    """Base of the widgets. It answers questions about the route; a subclass answers its own ones in `_respond`."""

    def __init__(self, core: AnyCore, **traits: Any) -> None:
        super().__init__(**traits)
        self._core = core
        self._driver = driver_of(core)
        self.on_msg(_MessageHandler(self))
        reset_reply_subshell(self)

    def _handle(self, question: Question) -> None:
        """Response a question. Runs on any thread and must not block."""
        if self._core.closed.is_set():
            question.respond(error="the client of this box was closed. Make a new client and run the cell again")
        elif "route" in question.content:
            self._start(question, self._route)
        elif "diagnose" in question.content:
            self._start(question, lambda: self._diagnose(question.content["diagnose"], question.content["origin"]))
        else:
            self._respond(question)

    def _respond(self, question: Question) -> None:
        raise NotImplementedError

    def _start(self, question: Question, work: Callable[[], Response | tuple[Response, bytes]]) -> None:
        """Response with the result of `work`, which may block, on a thread of its own."""
        start_thread(question.run, work)

    def _request(self, call: Call[T], retries: Retries = _ONCE) -> T:
        with self._driver.session(Stop()) as driver:
            return driver.run(plans.request(call, retries))

    def _run(self, plan: plans.Plan[plans.T]) -> plans.T:
        with self._driver.session(Stop()) as driver:
            return driver.run(plan)

    # -- the route of the page

    def _route(self) -> Response:
        """Return a nonce with the proof of the server, the token, and where a browser may reach the server.

        Only the far side that gives the same proof for the nonce is this server: the view sends the token to no other.
        """
        connection = self._core.connection
        response: Response = {"shown": connection.shown_url}
        try:
            nonce = secrets.token_urlsafe(_NONCE_BYTES)
            proof = self._request(calls.identity(nonce)).proof
        except errors.NotFound:
            reason = f"the server at {connection.shown_url} is too old to prove its identity to a page. Update it"
            return response | {"unproven": reason}
        url = "" if connection.socket is not None or "@" in connection.base_url else f"{connection.base_url}/"
        page_url = self._core.page_url
        token = connection.current_token()
        return response | {"nonce": nonce, "proof": proof, "url": url, "page_url": page_url, "token": token}

    def _diagnose(self, host: str, origin: str) -> Response:
        """Ask the server what it would answer to a page of `origin` that calls it as `host`."""
        call = calls.identity(secrets.token_urlsafe(_NONCE_BYTES))
        return {"host": self._refusal(call, Host=host), "origin": self._refusal(call, Origin=origin)}

    def _refusal(self, call: Call[Any], **headers: str) -> str:
        try:
            self._request(replace(call, headers=call.headers | headers))
        except APIError as error:
            return error.detail or error.title
        return ""


class _MessageHandler:
    """Passes messages to a widget. It has a weak reference, so that an unused widget is collected."""

    def __init__(self, widget: PageWidget) -> None:
        self._widget = weakref.ref(widget)

    def __call__(self, _: Any, message: dict[str, Any], buffers: list[memoryview]) -> None:
        if (widget := self._widget()) is not None and isinstance(message, dict) and "ask" in message:
            widget._handle(Question(message, [bytes(each) for each in buffers], self._widget))
