"""A whole response as a value, and as the bytes of its head."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from tornado_app.problems import ProblemError
from tornado_app.protocols import dates

SECURITY_HEADERS = {
    "Server": "Holdfast",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers that every answer carries, also those that are written before a handler exists."""

_ALWAYS = "".join(f"{name}: {value}\r\n" for name, value in SECURITY_HEADERS.items())
_NO_STORE = "Cache-Control: no-store\r\n"
_WITHOUT_CONTENT = (204, 304)


@dataclass(slots=True)
class Response:
    """A final response; `headers` are those of its own."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    reason: str = ""

    def head(self) -> bytes:
        """Return the status line and all headers. Raises `ValueError` if one of them has a line break."""
        headers = self.headers
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        if "Cache-Control" not in headers:
            lines.append(_NO_STORE)
        if "Content-Length" not in headers and self.status not in _WITHOUT_CONTENT:
            lines.append(f"Content-Length: {len(self.body)}\r\n")
        own = "".join(lines)
        if not len(lines) == own.count("\n") == own.count("\r"):
            raise ValueError(f"a header has a line break: {own[:500]!r}")
        reason = self.reason or http.client.responses.get(self.status, "Unknown")
        return f"HTTP/1.1 {self.status} {reason}\r\nDate: {dates.write(time.time())}\r\n{_ALWAYS}{own}\r\n".encode(
            "latin-1"
        )


def of_problem(problem: ProblemError, root: str, status: int | None = None) -> Response:
    """Return the response with problem details (RFC 9457); `status` in place of the problem's own.

    `root` is the path before every address of the server.
    """
    status = problem.kind.status if status is None else status
    headers = {**problem.headers, "Content-Type": "application/problem+json"}
    reason = http.client.responses.get(status, problem.kind.title)
    return Response(status, headers, msgspec.json.encode(problem.body(root, status)), reason)
