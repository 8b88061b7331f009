"""Code that both drivers share: the connection, requests from calls, and errors from responses."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar
from urllib.parse import unquote, urlsplit

import httpx

from holdfast import errors
from holdfast._endpoints.call import Call, CallResponse
from holdfast._environment import known_servers
from holdfast._plans.python_terms import in_python
from holdfast.plans import PERSISTENT, Retries, Sleep

T = TypeVar("T")

BUFFER = 1 << 20
BYPASS_MIN = 256 << 10  # bytes; reading so many through h11 costs about as much as a new connection
CONNECT = 10.0  # seconds; a server that has not accepted a connection by then will not accept it at all
NEW_CONNECTION = frozenset(
    {"connection.connect_tcp.complete", "connection.connect_unix_socket.complete", "connection.start_tls.complete"}
)
DEFAULT_URL = "http://127.0.0.1:8000"
_UNIX = "unix:"
_UNIX_SCHEMES = ("unix", "http+unix")
_CACHE_S = 1.0
SyncTransport = httpx.BaseTransport
AsyncTransport = httpx.AsyncBaseTransport
Token = str | Callable[[], str | None] | None


@dataclass
class Connection:
    """URL, token, timeout and retry policies of a client.

    `token` can be changed at any time, or be a function that returns it. `patience` is the retry policy of transfers,
    waits and event streams; `retries` is that of all other requests.
    """

    base_url: str
    token: Token = field(default=None, repr=False)
    timeout: float = 30.0
    retries: Retries = field(default_factory=Retries)
    patience: Retries = PERSISTENT
    reached: bool = field(default=False, init=False)
    """True once a server has responded. An error page of a proxy does not count."""
    on_retry: Callable[[errors.HoldfastError, float], None] | None = field(default=None, init=False)
    """Called before a retry with the failure and the seconds to wait. If it raises, there are no more attempts."""
    _cached_token: tuple[float, str] = field(default=(-_CACHE_S, ""), repr=False)

    def report_retry(self, effect: Sleep) -> None:
        """Call `on_retry` if this sleep comes before a retry."""
        if effect.because is not None and self.on_retry is not None:
            self.on_retry(effect.because, effect.seconds)

    @classmethod
    def of(cls, base_url: str | None, token: Token, timeout: float, retries: int | Retries | None) -> Connection:
        """Make a connection from arguments, else `HOLDFAST_URL` and `HOLDFAST_TOKEN`. Raises `ValueError`."""
        url = base_url or os.environ.get("HOLDFAST_URL") or DEFAULT_URL
        if not _is_of_a_server(url):
            raise ValueError(
                f"{_masked(url)!r} is not the URL of a server. It should look like {DEFAULT_URL} or unix:/a/socket"
            )
        if token is None:
            token = os.environ.get("HOLDFAST_TOKEN") or None
        policies = Retries.of(retries, Retries()), Retries.of(retries, PERSISTENT)
        return cls(_canonical(url), token, timeout, *policies)

    @property
    def shown_url(self) -> str:
        """`base_url` without a password, for display."""
        return _masked(self.base_url)

    @property
    def socket(self) -> str | None:
        """Path of the Unix socket of the server, or None."""
        return self._unix_parts()[0] if self.base_url.startswith(_UNIX) else None

    @property
    def root(self) -> str:
        """Prefix of request paths."""
        return f"http://localhost{self._unix_parts()[1]}" if self.base_url.startswith(_UNIX) else self.base_url

    def _unix_parts(self) -> tuple[str, str]:
        """Return the path of the Unix socket, and that of the server on it: `unix:/a/socket:/holdfast`."""
        socket, separator, below = self.base_url.removeprefix(_UNIX).partition(":/")
        return socket, separator and f"/{below}"

    def current_token(self) -> str:
        """Return the token without surrounding blanks; "" for none. Raises `ValueError` if it can't be sent.

        httpx would report a header that can't be sent as a broken connection, and show the token.
        """
        token = ((self.token() if callable(self.token) else self.token) or self._local_token()).strip()
        if not token.isprintable():
            raise ValueError("the token is not one line of printable characters")
        return token

    def _local_token(self) -> str:
        """Return the token that a local server of the same user has written, cached for a second; "" for none."""
        if self._is_old():
            self.read_local_token()
        return self._cached_token[1]

    def _is_old(self) -> bool:
        return time.monotonic() - self._cached_token[0] >= _CACHE_S

    @property
    def must_read_token(self) -> bool:
        """True if the next request may have to read the token of a local server from disk."""
        return (not self.token or callable(self.token)) and self._is_old()

    def read_local_token(self) -> None:
        """Read the token of a local server from disk. Blocks; `headers` does it too if the cached one is old."""
        self._cached_token = (time.monotonic(), known_servers.token_of(self.base_url) or "")

    def headers(self) -> dict[str, str]:
        """Return the headers of every request. Raises `ValueError` for a token that can't be sent."""
        token = self.current_token()
        # identity: offsets and length of a compressed body differ from those of the file.
        headers = {"Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def tls(self) -> ssl.SSLContext | bool:
        """Return the TLS context; False for plain http, since loading the certificates takes longer than a request."""
        return httpx.create_ssl_context() if self.base_url.startswith("https:") else False


def _is_of_a_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        if parts.scheme in _UNIX_SCHEMES:
            return len(_socket_path(url)) > 1 and "\0" not in _socket_path(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False


def _socket_path(url: str) -> str:
    """The path of `unix:/a/socket`, `unix:///a/socket` and `http+unix://%2Fa%2Fsocket`; "" for no absolute one."""
    scheme, _, rest = url.partition(":")
    path = unquote(rest.removeprefix("//")) if scheme.lower() == "http+unix" else rest
    path = "/" + path.lstrip("/") if path.startswith("/") else ""
    return path.rstrip("/")


def _canonical(url: str) -> str:
    """Return one form for equal URLs: resume records are found by it."""
    if urlsplit(url).scheme in _UNIX_SCHEMES:
        return _UNIX + _socket_path(url)
    return url.rstrip("/")


def _masked(url: str) -> str:
    """Return a URL without user name and password."""
    return re.sub(r"(?<=//)[^/?#]*@", "", url)


def plain_client() -> httpx.Client:
    """Return an httpx client for work that runs on a server."""
    return httpx.Client(timeout=30.0)


@contextmanager
def translated() -> Iterator[None]:
    """Translate httpx's exceptions into those of `holdfast.errors`."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
        _raise(errors.ConnectFailed, error)
    except httpx.TimeoutException as error:
        _raise(errors.RequestTimeout, error)
    except httpx.TransportError as error:
        _raise(errors.ConnectionBroken, error)


def _raise(cls: type[errors.TransportError], error: httpx.HTTPError) -> NoReturn:
    request = error._request  # the property raises when there is none
    where = f"{request.method} {request.url.copy_with(query=None, userinfo=b'')}: " if request is not None else ""
    raise cls(f"{where}{error or type(error).__name__}") from error


def answer_of(response: httpx.Response, body: bytes = b"") -> CallResponse:
    return CallResponse(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def read_answer(call: Call[T], response: httpx.Response) -> T:
    answer = answer_of(response, response.content)
    if answer.status >= 400:
        raise errors.from_answer(answer.status, answer.headers, answer.body, in_python)
    if answer.status >= 300 and answer.status != 304:
        raise errors.ProtocolError(
            f"the server redirects to {answer.headers.get('location')}. If you trust it, use that as base_url"
        )
    return call.read(answer)


class Requests:
    """Requests and options that both drivers build from a call."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def _options(self, call: Call[Any]) -> dict[str, Any]:
        headers = self.connection.headers() | call.headers
        if call.content is not None and not isinstance(call.content, bytes) and call.content.length is not None:
            headers["Content-Length"] = str(call.content.length)
        seconds = self.connection.timeout
        timeout = httpx.Timeout(seconds, read=seconds + call.wait, connect=min(seconds, CONNECT))
        # A token may contain any characters; the server reads them as UTF-8.
        return {"params": call.query, "headers": httpx.Headers(headers, encoding="utf-8"), "timeout": timeout}

    def _client_options(self) -> dict[str, Any]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=15.0)
        options = {"limits": limits, "verify": self.connection.tls(), "follow_redirects": False}
        # A proxy of the environment does not apply to a socket.
        return options if self.connection.socket is None else {**options, "trust_env": False}

    def _note_reached(self, response: httpx.Response) -> httpx.Response:
        """Note that the server has responded; an error of a gateway does not count. Return the response."""
        if response.status_code < 500 or response.headers.get("Content-Type") == "application/problem+json":
            self.connection.reached = True
        return response

    def _url(self, call: Call[Any]) -> str:
        return self.connection.root + call.path


class ResponseBody:
    """Remaining length of a response body, and whether the rest can be read without h11.

    h11 returns everything that it has buffered with the first piece of a body (`h11._readers.ContentLengthReader`), so
    the rest of a long body can be read from the socket directly. The connection can't be used again afterwards.
    """

    def __init__(self, response: httpx.Response) -> None:
        length = response.headers.get("content-length")
        self.left = int(length) if length is not None and length.isdigit() else None
        self._plain = response.http_version == "HTTP/1.1" and "transfer-encoding" not in response.headers

    def consumed(self, data: bytes | memoryview) -> None:
        """Count bytes that were read."""
        if self.left is not None:
            self.left -= len(data)

    def may_bypass_h11(self) -> bool:
        """Return whether the rest is long enough to pay for a new connection later."""
        return self._plain and self.left is not None and self.left >= BYPASS_MIN
