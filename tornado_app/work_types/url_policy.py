"""Policy of URLs that a fetch may use: allowed by the settings, at addresses that are checked before connecting."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import unquote

import httpcore
import httpx

from holdfast.work import WorkError

MOST_REDIRECTS = 10
CONNECTION_ERRORS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)
"""Errors that `UrlPolicy.get` and the pieces of its response raise when a connection fails."""

_REDIRECTS = (301, 302, 303, 307, 308)
_TIMEOUTS = {"connect": 10.0, "read": 30.0, "write": 30.0, "pool": 10.0}
_HEADERS = ((b"Accept-Encoding", b"identity"), (b"User-Agent", b"holdfast"))
_POLL = 0.2  # seconds between checks for a stop request, while nothing arrives
_NAT64 = IPv6Network("64:ff9b::/96")
_UNICAST = IPv6Network("2000::/3")  # IANA assigns global unicast addresses from this block only


class StopRequested(Exception):
    """A stop of the work was requested while it waited for bytes."""


class FetchedResponse:
    """Head of a response, and its body as it arrives."""

    def __init__(self, url: httpx.URL, response: httpcore.Response) -> None:
        self.url = url
        self.status = response.status
        self.headers: dict[str, str] = {}
        for octets, field in response.headers:  # a field that occurs twice is a list (RFC 9110, section 5.3)
            name, value = octets.decode("latin-1").lower(), field.decode("latin-1")
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        self._response = response

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the body as it was sent. Raises one of `CONNECTION_ERRORS` when it ends too early."""
        return self._response.iter_stream()


class UrlPolicy:
    """HTTP client for one attempt. It uses no proxy, because a proxy would resolve names itself."""

    def __init__(self, allowed: Sequence[str], *, private: bool, stopping: Callable[[], object]) -> None:
        self._allowed = allowed
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(), network_backend=_CheckedBackend(private, stopping)
        )

    @contextmanager
    def get(self, url: str, headers: dict[str, str]) -> Iterator[FetchedResponse]:
        """Send a GET request and follow redirects; every URL on the way must be allowed.

        Raises:
            WorkError: a URL or an address that is not allowed, or too many redirects.
            StopRequested: a stop was requested while nothing arrived.
        """
        target = allowed_url(url, self._allowed)
        for _ in range(MOST_REDIRECTS + 1):
            with self._pool.stream(
                "GET",
                httpcore.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path),
                headers=[*_HEADERS, *((name.encode(), value.encode("latin-1")) for name, value in headers.items())],
                extensions={"timeout": _TIMEOUTS},
            ) as response:
                fetched = FetchedResponse(target, response)
                location = fetched.headers.get("location")
                if fetched.status not in _REDIRECTS or location is None:
                    yield fetched
                    return
            target = allowed_url(_joined(target, location), self._allowed)
        raise WorkError(f"{url} redirects more than {MOST_REDIRECTS} times")

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


def allowed_url(url: str, allowed: Sequence[str]) -> httpx.URL:
    """Return the URL if the settings allow it. Raises `WorkError`, which says what they allow, if not."""
    wanted = _url(url)
    if any(_matches_prefix(_url(prefix), wanted) for prefix in allowed):
        return wanted
    may = f"URLs that begin with {', '.join(allowed)}" if allowed else "nothing: start it with --fetch-allow URL"
    raise WorkError(f"{wanted} may not be fetched. This server fetches {may}")


def _joined(url: httpx.URL, location: str) -> str:
    try:
        return str(url.join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise WorkError(f"{url} redirects to {location!r}, which is not a URL: {error}") from None


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise WorkError(f"{text!r} is not a URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise WorkError(f"{text!r} is not a URL that can be fetched. Begin it with https:// or http://")
    if url.userinfo:
        raise WorkError(
            "a URL with a user name or password is not fetched: it would be stored and shown. Leave them out"
        )
    segments = unquote(url.path).replace("\\", "/").split("/")
    if "." in segments or ".." in segments:
        raise WorkError(f"{text!r} has the segment . or .. in its path. Give the path without it")
    return url.copy_with(fragment=None)


def _matches_prefix(prefix: httpx.URL, url: httpx.URL) -> bool:
    """Return whether scheme, host and port are equal and the path begins with the whole segments of the prefix."""
    same = (prefix.scheme, prefix.raw_host, prefix.port) == (url.scheme, url.raw_host, url.port)
    start, path = prefix.raw_path, url.raw_path
    ends = start.endswith(b"/") or path[len(start) : len(start) + 1] in (b"", b"/", b"?")
    return same and path.startswith(start) and ends


def is_public(address: str) -> bool:
    """Return whether an address is public. An IPv4 address inside an IPv6 one decides."""
    ip = ip_address(address.partition("%")[0])
    inner: IPv4Address | None = None
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is None and ip not in _UNICAST:  # is_global misses site-local addresses and some forms that carry IPv4
            return False
    reached = inner if inner is not None else ip
    return reached.is_global and not reached.is_multicast


class _CheckedBackend(httpcore.NetworkBackend):
    """Resolves a name once, checks its addresses, and connects to one of those."""

    def __init__(self, private: bool, stopping: Callable[[], object]) -> None:
        self._private = private
        self._stopping = stopping
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception | None = None
        for address in self._resolve(host, port):
            try:
                stream = self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
                return _StoppableStream(stream, self._stopping)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")

    def _resolve(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} can't be resolved: {error}") from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        public = [address for address in addresses if self._private or is_public(address)]
        if not public:
            raise WorkError(
                f"{host} is at {', '.join(addresses)}, which is not a public address; "
                "this server fetches from those only with --fetch-private"
            )
        return public


class _StoppableStream(httpcore.NetworkStream):
    """Connection whose reads end when a stop is requested."""

    def __init__(self, inner: httpcore.NetworkStream, stopping: Callable[[], object]) -> None:
        self._inner = inner
        self._stopping = stopping

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._inner.read(max_bytes, _POLL)
            except httpcore.ReadTimeout:
                if self._stopping():
                    raise StopRequested from None
                if until is not None and time.monotonic() > until:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _StoppableStream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._stopping)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
