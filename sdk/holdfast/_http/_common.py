"""What both drivers share: where the server is, what a call becomes, what an answer means."""

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
from holdfast._endpoints.call import Answer, Call
from holdfast._environment import known_servers
from holdfast.plans import STUBBORN, Retries, Sleep

T = TypeVar("T")

BUFFER = 1 << 20
WORTH_IT = 256 << 10  # bytes; a new connection costs about as much as reading so many through h11
CONNECT = 10.0  # seconds: who does not take a connection within so many won't take it at all
NEW_WIRE = frozenset(
    {"connection.connect_tcp.complete", "connection.connect_unix_socket.complete", "connection.start_tls.complete"}
)
DEFAULT_URL = "http://127.0.0.1:8000"
_UNIX = "unix:"
_UNIX_SCHEMES = ("unix", "http+unix")
_NOTED_S = 1.0
SyncTransport = httpx.BaseTransport
AsyncTransport = httpx.AsyncBaseTransport
Token = str | Callable[[], str | None] | None


@dataclass
class Connection:
    """Where the server is and how to talk to it.

    `token` may be changed at any time, or be a function that gives it. `patience` is the policy of what runs on for
    itself, transfers and event streams; `retries` is that of everything else.
    """

    base_url: str
    token: Token = field(default=None, repr=False)
    timeout: float = 30.0
    retries: Retries = field(default_factory=Retries)
    patience: Retries = STUBBORN
    reached: bool = field(default=False, init=False)
    """Whether a server has answered; a proxy that has none behind it is not one."""
    on_retry: Callable[[errors.HoldfastError, float], None] | None = field(default=None, init=False)
    """Called with a failure and the seconds after which something is tried again; what it raises ends the attempts."""
    _noted: tuple[float, str] = field(default=(-_NOTED_S, ""), repr=False)

    def waits(self, effect: Sleep) -> None:
        """Report that something failed and is tried again."""
        if effect.because is not None and self.on_retry is not None:
            self.on_retry(effect.because, effect.seconds)

    @classmethod
    def of(cls, base_url: str | None, token: Token, timeout: float, retries: int | Retries | None) -> Connection:
        """From arguments, then `HOLDFAST_URL` and `HOLDFAST_TOKEN`. Raises `ValueError` for what is no http(s) URL."""
        url = base_url or os.environ.get("HOLDFAST_URL") or DEFAULT_URL
        if not _is_of_a_server(url):
            raise ValueError(
                f"{_masked(url)!r} is not the URL of a server; it should look like {DEFAULT_URL} or unix:/a/socket"
            )
        if token is None:
            token = os.environ.get("HOLDFAST_TOKEN") or None
        policies = Retries.of(retries, Retries()), Retries.of(retries, STUBBORN)
        return cls(_canonical(url), token, timeout, *policies)

    @property
    def shown_url(self) -> str:
        """`base_url` as it may be shown: without a password."""
        return _masked(self.base_url)

    @property
    def socket(self) -> str | None:
        """The path of the Unix socket on which the server listens, where it does."""
        return self.base_url.removeprefix(_UNIX) if self.base_url.startswith(_UNIX) else None

    @property
    def root(self) -> str:
        """Prefix of the paths of requests."""
        return self.base_url if self.socket is None else "http://localhost"

    def current_token(self) -> str:
        """The token as it is now, without the blanks around it; "" for none. Raises `ValueError` for what can't be one.

        A header that can't be sent would look like a connection that breaks, and be told with the token.
        """
        token = ((self.token() if callable(self.token) else self.token) or self._noted_token()).strip()
        if not token.isprintable():
            raise ValueError("the token is not one line of printable characters")
        return token

    def _noted_token(self) -> str:
        """Token that a server of the same user has noted for its programs, looked up now and then; "" for none."""
        if self._is_old():
            self.look_up_token()
        return self._noted[1]

    def _is_old(self) -> bool:
        return time.monotonic() - self._noted[0] >= _NOTED_S

    @property
    def wants_look_up(self) -> bool:
        """Whether the next request may have to read what the server has noted."""
        return (not self.token or callable(self.token)) and self._is_old()

    def look_up_token(self) -> None:
        """Read what a server of the same user has noted. Blocks; `headers` does it too, when it is due."""
        self._noted = (time.monotonic(), known_servers.token_of(self.base_url) or "")

    def headers(self) -> dict[str, str]:
        """What every request carries. Raises `ValueError` for a token that no header can carry, without showing it."""
        token = self.current_token()
        # identity: a compressed body has other offsets and another length than the file.
        headers = {"Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def tls(self) -> ssl.SSLContext | bool:
        """Loading the authorities' certificates takes longer than a request: not for plain http."""
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
    """One form of each URL: what is kept of a transfer is found by it."""
    if urlsplit(url).scheme in _UNIX_SCHEMES:
        return _UNIX + _socket_path(url)
    return url.rstrip("/")


def _masked(url: str) -> str:
    """A URL without the name and password that it may have."""
    return re.sub(r"(?<=//)[^/?#]*@", "", url)


def plain_client() -> httpx.Client:
    """A client as a server lends it to work."""
    return httpx.Client(timeout=30.0)


@contextmanager
def translated() -> Iterator[None]:
    """httpx's exceptions as ours, so that no caller has to import httpx."""
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


def answer_of(response: httpx.Response, body: bytes = b"") -> Answer:
    return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def read_answer(call: Call[T], response: httpx.Response) -> T:
    answer = answer_of(response, response.content)
    if answer.status >= 400:
        raise errors.from_answer(answer.status, answer.headers, answer.body)
    if answer.status >= 300 and answer.status != 304:
        raise errors.ProtocolError(
            f"redirected to {answer.headers.get('location')}: use that as base_url if it is yours"
        )
    return call.read(answer)


class Requests:
    """What both drivers make of a call."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def _options(self, call: Call[Any]) -> dict[str, Any]:
        headers = self.connection.headers() | call.headers
        if call.content is not None and not isinstance(call.content, bytes) and call.content.length is not None:
            headers["Content-Length"] = str(call.content.length)
        seconds = self.connection.timeout
        timeout = httpx.Timeout(seconds, read=seconds + call.wait, connect=min(seconds, CONNECT))
        # A token may have any letters; the server takes them as UTF-8.
        return {"params": call.query, "headers": httpx.Headers(headers, encoding="utf-8"), "timeout": timeout}

    def _client_options(self) -> dict[str, Any]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=15.0)
        options = {"limits": limits, "verify": self.connection.tls(), "follow_redirects": False}
        # No proxy of the environment is asked for a socket.
        return options if self.connection.socket is None else {**options, "trust_env": False}

    def _came(self, response: httpx.Response) -> httpx.Response:
        """An answer; errors of a gateway are not the server's own."""
        if response.status_code < 500 or response.headers.get("Content-Type") == "application/problem+json":
            self.connection.reached = True
        return response

    def _url(self, call: Call[Any]) -> str:
        return self.connection.root + call.path


class RequestBody:
    """How much of a body of known length is still to come, and whether it may be read past h11.

    h11 hands out all that it holds with the first piece of a body (`h11._readers.ContentLengthReader`), so after it the
    rest of a long body can be taken from the socket as it is. The connection can't be used again afterwards.
    """

    def __init__(self, response: httpx.Response) -> None:
        length = response.headers.get("content-length")
        self.left = int(length) if length is not None and length.isdigit() else None
        self._plain = response.http_version == "HTTP/1.1" and "transfer-encoding" not in response.headers

    def took(self, data: bytes | memoryview) -> None:
        """So much more has come."""
        if self.left is not None:
            self.left -= len(data)

    def worth_it(self) -> bool:
        """Whether the rest is long enough to pay for another connection later."""
        return self._plain and self.left is not None and self.left >= WORTH_IT
