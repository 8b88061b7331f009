"""Headers and URLs as they pass between Jupyter and the Holdfast server: values in, values out.

Nothing by which Jupyter knows its user goes in, and nothing by which the server would set cookies comes out.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote_plus

from tornado.httputil import HTTPHeaders

INNER_HOST = "localhost"

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
_OF_JUPYTER = frozenset({"authorization", "cookie", "x-xsrftoken", "x-csrftoken", "host", "origin", "referer"})
_SET_BY_PROXIES = frozenset({"forwarded", "x-real-ip", "x-scheme"})
_FETCH_METADATA = "sec-fetch-"
_OF_JUPYTER_QUERY = frozenset({"token", "_xsrf"})
_OF_THE_BODY = frozenset({"content-length", "content-type", "expect"})  # RFC 9110, 7.6.1: not connection options
_NOT_OUTWARD = frozenset({"set-cookie", "server"})


def inward(
    headers: HTTPHeaders, *, prefix: str, scheme: str, host: str, address: str, from_other_origin: bool
) -> HTTPHeaders:
    """Return the headers of a request for the server.

    `from_other_origin`: Jupyter has admitted a page of another origin, so the server need not judge it again.
    """
    dropped = _HOP_BY_HOP | _OF_JUPYTER | _SET_BY_PROXIES | _named_by_connection(headers.get_list("Connection"))
    passed = HTTPHeaders()
    for name, value in headers.get_all():
        lower = name.lower()
        if lower in dropped or lower.startswith("x-forwarded-"):
            continue
        if from_other_origin and lower.startswith(_FETCH_METADATA):
            continue
        passed.add(name, value)
    passed["Host"] = INNER_HOST
    passed["Connection"] = "close"  # each exchange has a connection of its own
    passed["X-Forwarded-Prefix"] = prefix
    passed["X-Forwarded-Proto"] = scheme
    passed["X-Forwarded-Host"] = host
    passed["X-Forwarded-For"] = address
    return passed


def outward(headers: HTTPHeaders) -> Iterable[tuple[str, str]]:
    """Iterate over the headers of a response for the client."""
    dropped = _HOP_BY_HOP | _NOT_OUTWARD | _named_by_connection(headers.get_list("Connection"))
    return ((name, value) for name, value in headers.get_all() if name.lower() not in dropped)


def inner_uri(uri: str, prefix: str) -> str:
    """Return the target of a request for the server: without the prefix, and without Jupyter's token in the query."""
    path, _, query = uri[len(prefix) :].partition("?")
    kept = [pair for pair in query.split("&") if pair and unquote_plus(pair.split("=")[0]) not in _OF_JUPYTER_QUERY]
    return (path or "/") + ("?" + "&".join(kept) if kept else "")


def interim(head: bytes) -> bytes:
    """Return the head of a 1xx response as one that may be sent to a client of HTTP/1.1."""
    return head if head.endswith(b"\r\n\r\n") else head.rstrip(b"\r\n") + b"\r\n\r\n"


def _named_by_connection(values: Iterable[str]) -> set[str]:
    """Return the headers of one hop that a message names, but never those that say where its body ends."""
    return {name.strip().lower() for value in values for name in value.split(",")} - _OF_THE_BODY
