"""A response as a value: its head has what every answer carries, and no header splits it."""

from __future__ import annotations

import pytest

from tornado_app import problems
from tornado_app.server import response
from tornado_app.server.response import SECURITY_HEADERS, Response


def test_a_head_has_the_headers_of_every_answer_and_its_own() -> None:
    lines = Response(200, {"ETag": '"x"'}, b"12345").head().decode().split("\r\n")
    assert (lines[0], lines[-2:]) == ("HTTP/1.1 200 OK", ["", ""])
    assert {'ETag: "x"', "Content-Length: 5", "Cache-Control: no-store"} <= set(lines)
    assert {f"{name}: {value}" for name, value in SECURITY_HEADERS.items()} <= set(lines)


def test_what_has_no_content_has_no_length() -> None:
    for status in (204, 304):
        assert b"Content-Length" not in Response(status).head()


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb"])
def test_a_header_with_a_line_break_is_never_sent(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        Response(200, {"X": value}).head()


def test_a_problem_has_its_own_status_reason_and_headers() -> None:
    made = response.of_problem(problems.CHECKSUM_MISMATCH("it is another", headers={"Upload-Offset": "3"}), "/below")
    assert (made.status, made.headers["Upload-Offset"]) == (460, "3")
    assert made.headers["Content-Type"] == "application/problem+json"
    assert made.head().startswith(f"HTTP/1.1 460 {problems.CHECKSUM_MISMATCH.title}".encode())
