"""Handlers under Jupyter's base URL: `holdfast/...` streams to the server, `holdfast-info` says where that is."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import http.client
import json
from typing import TYPE_CHECKING, Any, ClassVar, cast

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import ensure_async
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, ResponseStartLine
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, authenticated, stream_request_body

from holdfast.jupyter.backend import Backend, UnavailableError
from holdfast.jupyter.exchange import ANY_SIZE, BODY_METHODS, PIECE, Exchange, NoServerError
from holdfast.jupyter.headers import inner_uri, interim, inward, outward

if TYPE_CHECKING:
    from holdfast.jupyter.activity import Activity

_LINGER_S = 5.0
_SAFE = ("GET", "HEAD", "OPTIONS")
_JUPYTERS_OWN = ("Content-Type", "Date", "Server")


class GuardedHandler(JupyterHandler):
    """Admits whom Jupyter admits, and answers with problem details (RFC 9457) otherwise."""

    auth_resource = "holdfast"

    def initialize(self, backend: Backend, activity: Activity) -> None:
        self.backend = backend
        self.activity = activity

    async def prepare(self, *, _redirect_to_login: bool = True) -> None:
        """Check the user, and that no page of a foreign origin sends this. Raises `HTTPError`."""
        await super().prepare(_redirect_to_login=_redirect_to_login)
        if self._finished:
            return
        authenticated(lambda handler: None)(self)
        if self.current_user is None:
            return  # Tornado has sent the login page
        if not self.check_origin():
            raise HTTPError(403, f"pages of {self.request.headers.get('Origin')} may not call this Jupyter server")
        action = "read" if self.request.method in _SAFE else "write"
        allowed = self.authorizer.is_authorized(self, self.current_user, action, self.auth_resource)
        if not await ensure_async(allowed):
            raise HTTPError(403, f"Jupyter does not let you {action} here. Ask who runs it")

    def get_login_url(self) -> str:
        """Return the login page for a person. Raises `HTTPError` for a program, which can make nothing of it."""
        if "text/html" not in self.request.headers.get("Accept", ""):
            raise HTTPError(403, "this Jupyter server does not know you. Send its token as Authorization: token TOKEN")
        return super().get_login_url()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.set_header("Content-Type", "application/problem+json")
        self.finish(problem(status_code, detail_of(kwargs.get("exc_info", (None, None, None))[1])))


def detail_of(error: BaseException | None) -> str:
    """Return what was wrong and what to do."""
    if not isinstance(error, HTTPError):
        return "Jupyter's log says what went wrong"
    unknown = "this Jupyter server does not know you. Send its token as Authorization: token TOKEN"
    return error.log_message or (unknown if error.status_code == 403 else "Jupyter's log says what was wrong")


def problem(status: int, detail: str) -> bytes:
    """Return the body of a problem (RFC 9457)."""
    title = http.client.responses.get(status, "Unknown")
    return json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}).encode()


@stream_request_body
class ProxyHandler(GuardedHandler):
    """`{base_url}holdfast/...`, every method."""

    is_served: ClassVar[bool] = False
    """Whether the extension has been loaded into this process."""

    def initialize(self, backend: Backend, activity: Activity) -> None:
        super().initialize(backend, activity)
        # Taken away before Tornado chooses whether to compress: what the server sends goes out as it is.
        self._accepted = self.request.headers.get_list("Accept-Encoding")
        with contextlib.suppress(KeyError):
            del self.request.headers["Accept-Encoding"]
        self._exchange: Exchange | None = None
        self._serving: asyncio.Task[None] | None = None
        self._answers = False
        self._is_lost = False
        self._is_body_read = False
        self._linger: asyncio.TimerHandle | None = None
        self._usual_read_size = 0

    # -- the request, inward

    async def prepare(self, *, _redirect_to_login: bool = True) -> None:
        """Open the exchange, so that the server can refuse before the body is sent."""
        expects = self.request.headers.get("Expect", "").lower() == "100-continue"
        try:
            await super().prepare(_redirect_to_login=_redirect_to_login)
        except HTTPError as error:
            await self._refuse(error.status_code, detail_of(error))
            if expects:
                self._finish()
            return
        if self._finished:
            return
        if not self._is_lost:
            self.activity.begin(self)
        connection = cast(HTTP1Connection, self.request.connection)
        connection.set_max_body_size(ANY_SIZE)
        connection.params = copy.copy(connection.params)
        connection.params.chunk_size = PIECE
        self._usual_read_size = connection.stream.read_chunk_size
        connection.stream.read_chunk_size = PIECE
        if await self._open() and self._exchange is not None:
            self._serving = asyncio.create_task(self._serve())
            if expects:
                await self._exchange.admitted()
        if expects and (self._answers or (self._exchange is not None and self._exchange.is_over)):
            if self._serving is not None:
                await self._serving
            self._finish()  # else Tornado would say 100 behind the final response

    async def _open(self) -> bool:
        """Begin an exchange with the server; else answer with the reason, and return False."""
        try:
            stream = await self.backend.connect()
        except UnavailableError as error:
            await self._refuse(503, str(error))
            return False
        if self._is_lost:
            stream.close()
            return False
        self._exchange = Exchange(stream, self._on_head, self._on_piece, self._on_interim)
        method = self.request.method or "GET"
        self._exchange.begin(method, inner_uri(self.request.uri or "/", self._prefix), self._inward(method))
        return True

    @property
    def _prefix(self) -> str:
        return f"{self.base_url}holdfast"

    def _inward(self, method: str) -> HTTPHeaders:
        headers = self.request.headers
        origin = headers.get("Origin")
        passed = inward(
            headers,
            prefix=self._prefix,
            scheme=self.request.protocol,
            host=self.request.host,
            address=self.request.remote_ip or "",
            from_other_origin=origin is not None and origin.partition("://")[2].lower() != self.request.host.lower(),
        )
        for value in self._accepted:
            passed.add("Accept-Encoding", value)
        if method in BODY_METHODS and not self._has_chunked_body:
            passed["Content-Length"] = headers.get("Content-Length", "0")
        return passed

    @property
    def _has_chunked_body(self) -> bool:
        return "Transfer-Encoding" in self.request.headers

    async def data_received(self, chunk: bytes) -> None:
        """Pass a piece of the body on; after the final response it is dropped."""
        exchange = self._exchange
        if exchange is None or exchange.is_over:
            return
        if self._has_chunked_body and self.request.method not in BODY_METHODS:
            return  # it has no meaning there (RFC 9110, section 9.3)
        await exchange.send(chunk)

    async def _finish_exchange(self) -> None:
        self._is_body_read = True
        if self._exchange is not None:
            self._exchange.end_request()
        if self._serving is not None:
            await self._serving
        self._finish()

    def _finish(self) -> None:
        if not (self._finished or self._is_lost):
            self.finish()

    get = head = post = put = patch = delete = options = _finish_exchange

    # -- the response, outward

    async def _serve(self) -> None:
        """Wait for the response, and answer for a server that gives none."""
        repeated = False
        while self._exchange is not None:
            try:
                await self._exchange.response()
                break
            except NoServerError:
                if self._is_lost:
                    return
                if self._answers:
                    self._close_client()  # so that it sees that the response is not whole
                    return
                if not repeated and self._may_repeat():
                    repeated = True
                    if await self._open():
                        self._exchange.end_request()
                        continue
                if not self._answers:
                    await self._refuse(502, "the Holdfast server ended before it answered. Send the request again")
                break
        self._begin_to_linger()

    def _may_repeat(self) -> bool:
        """Return whether the request may go to the server that takes the place of one that ended."""
        return self.request.method in _SAFE and self.request.headers.get("Content-Length", "0") == "0"

    async def _on_head(self, start_line: ResponseStartLine, headers: HTTPHeaders) -> None:
        self._answers = True
        self.clear()
        for name in _JUPYTERS_OWN:
            self.clear_header(name)
        self.set_status(start_line.code, start_line.reason)
        for name, value in outward(headers):
            self.add_header(name, value)
        await self._flush()

    async def _on_piece(self, piece: bytes) -> None:
        if not self._is_lost:
            self.write(piece)
            await self._flush()

    def _on_interim(self, head: bytes) -> None:
        if self.request.version == "HTTP/1.1" and not (self._answers or self._is_lost):
            stream = cast(HTTP1Connection, self.request.connection).stream
            with contextlib.suppress(StreamClosedError):
                stream.write(interim(head))

    async def _flush(self) -> None:
        if not self._is_body_read and not self._headers_written:
            self.set_header("Connection", "close")
        try:
            await self.flush()
        except StreamClosedError:
            self._lose()

    async def _refuse(self, status: int, detail: str) -> None:
        """Answer with a problem. What comes of the body is dropped meanwhile."""
        self._answers = True
        self.clear()
        body = problem(status, detail)
        self.set_status(status)
        self.set_header("Content-Type", "application/problem+json")
        self.set_header("Content-Length", str(len(body)))
        self.set_header("Cache-Control", "no-store")
        if status >= 500:
            self.set_header("Retry-After", "1")
        self.write(body)
        await self._flush()
        self._begin_to_linger()

    def set_default_headers(self) -> None:
        """Set Jupyter's own headers, unless the response is the server's."""
        if not getattr(self, "_answers", False):
            super().set_default_headers()

    # -- the end

    def _begin_to_linger(self) -> None:
        """Let a client that still sends read the response: closing with unread bytes would reset the connection."""
        if not (self._is_body_read or self._finished or self._is_lost) and self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(_LINGER_S, self._finish)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._lose()

    def _lose(self) -> None:
        """End the exchange when the client is gone: what it has sent reaches the server."""
        if self._is_lost or self._finished:
            return
        self._is_lost = True
        self.activity.end(self)  # Tornado calls no on_finish when a body was cut
        if self._exchange is None:
            return
        if self._is_body_read:
            self._exchange.close()
        else:
            self.activity.keep(self._exchange.cut())

    def _close_client(self) -> None:
        cast(HTTP1Connection, self.request.connection).stream.close()

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Answer with an error; for a client that is gone only the log's line is written."""
        if self._is_lost:
            self.set_status(499, "Client Closed Request")
            self.finish()
        else:
            super().send_error(status_code, **kwargs)

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Log what is no cut connection."""
        if not isinstance(value, StreamClosedError):
            super().log_exception(typ, value, tb)

    def on_finish(self) -> None:
        super().on_finish()
        self.activity.end(self)
        if self._linger is not None:
            self._linger.cancel()
        if self._exchange is not None and not self._is_lost:
            self._exchange.close()
        stream = cast(HTTP1Connection, self.request.connection).stream
        if self._usual_read_size and stream is not None:
            stream.read_chunk_size = self._usual_read_size


class SlashHandler(GuardedHandler):
    """`{base_url}holdfast`: the page is one step below."""

    def get(self) -> None:
        """Redirect to it."""
        self.redirect(f"{self.base_url}holdfast/")


class InfoHandler(GuardedHandler):
    """`GET {base_url}holdfast-info`."""

    async def get(self) -> None:
        """Answer with the server's URL, instance and proof of identity; start it if it does not run."""
        try:
            info = await self.backend.info(self.get_query_argument("nonce", ""))
        except UnavailableError as error:
            raise HTTPError(503, str(error).replace("%", "%%")) from error
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(info))
