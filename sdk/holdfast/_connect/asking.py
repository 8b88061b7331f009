"""One small GET request to an address that may belong to anybody: no proxy, no redirect, no token but a given one."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 5.0  # seconds; all who are asked are on this machine
_MOST_BYTES = 64 << 10


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(url: str, path: str, token: str = "", timeout: float = TIMEOUT) -> tuple[int, Any]:
    """Return the status and the JSON object of a response; 0 for no response, {} for a body that is no object.

    `path` is appended to `url`: `http://host:port/prefix/`, one of https, or `unix:/a/socket`. Certificates are not
    verified: the callers know by other means to whom they send a token.
    """
    headers = {"Accept": "application/json", "Connection": "close"}
    if token:
        headers["Authorization"] = f"token {token}"
    try:
        connection, prefix = _connection(url, timeout)
    except ValueError:
        return 0, {}
    try:
        connection.request("GET", f"{prefix}/{path.lstrip('/')}", headers=headers)
        response = connection.getresponse()
        data = response.read(_MOST_BYTES)
    except (OSError, ValueError, http.client.HTTPException):  # a ValueError for a token that is no header
        return 0, {}
    finally:
        connection.close()
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        body = {}
    return response.status, body if isinstance(body, dict) else {}


def _connection(url: str, timeout: float) -> tuple[http.client.HTTPConnection, str]:
    """Return a connection that is not open yet, and the prefix of paths. Raises `ValueError`."""
    if url.startswith("unix:"):
        return _UnixConnection(url.removeprefix("unix:"), timeout), ""
    parts = urlsplit(url)
    host, port, prefix = parts.hostname or "", parts.port, parts.path.rstrip("/")
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout), prefix
    if parts.scheme != "https":
        raise ValueError(f"{url!r} is no URL of a server")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context), prefix
