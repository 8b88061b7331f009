"""Calls are built from the parts of a request, and read responses; nothing here sends anything."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from holdfast._endpoints.call import ENDPOINTS, Call, CallResponse, Parts, endpoint, read_nothing
from holdfast.errors import ProtocolError


class Point(msgspec.Struct):
    """A JSON body."""

    x: int


@pytest.fixture
def table() -> Iterator[dict[str, object]]:
    """The table of endpoints, which a test may add to."""
    before = dict(ENDPOINTS)
    yield ENDPOINTS  # type: ignore[misc]
    ENDPOINTS.clear()
    ENDPOINTS.update(before)


def call_of(parts: Parts, method: str = "GET", route: str = "/a/{id}/{name}", **options: object) -> Call[Point]:
    """The call of an endpoint that is declared for it."""

    @endpoint(method, route, Point, **options)  # type: ignore[arg-type]
    def declared_for_a_test() -> Parts:
        """Send these parts."""
        return parts

    return declared_for_a_test()


@pytest.mark.usefixtures("table")
def test_a_declaration_adds_a_line_to_the_table(table: dict[str, object]) -> None:
    call = call_of(Parts(path={"id": "i", "name": "n"}), "POST", takes=Point)
    assert table["declared_for_a_test"] is call.endpoint
    assert (call.method, call.endpoint.takes, call.endpoint.answers) == ("POST", Point, Point)


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("method", "declared", "repeatable"),
    [("GET", None, True), ("PUT", None, True), ("DELETE", None, True), ("POST", None, False), ("POST", True, True)],
)
def test_idempotent_methods_are_repeatable_unless_declared(
    method: str, declared: bool | None, repeatable: bool
) -> None:
    call = call_of(Parts(path={"id": "i", "name": "n"}), method, repeatable=declared)
    assert call.repeatable is repeatable


@pytest.mark.usefixtures("table")
def test_only_a_name_keeps_its_slashes_and_no_value_becomes_a_dot_segment() -> None:
    assert call_of(Parts(path={"id": "a/b", "name": "a/b c/ü"})).path == "/a/a%2Fb/a/b%20c/%C3%BC"
    assert call_of(Parts(path={"id": "..", "name": "a/../b/."})).path == "/a/%2E%2E/a/%2E%2E/b/%2E"
    assert call_of(Parts(path={"id": "%2E", "name": "?#"})).path == "/a/%252E/%3F%23"


@pytest.mark.usefixtures("table")
def test_a_query_has_text_and_leaves_none_out() -> None:
    call = call_of(Parts({"id": "i", "name": "n"}, {"a": None, "b": True, "c": 5, "d": ["x", "y"], "e": 0.5, "f": ""}))
    assert call.query == [("b", "true"), ("c", "5"), ("d", "x"), ("d", "y"), ("e", "0.5"), ("f", "")]


@pytest.mark.usefixtures("table")
def test_a_struct_becomes_json_and_headers_of_none_are_left_out() -> None:
    call = call_of(Parts({"id": "i", "name": "n"}, headers={"A": "a", "B": None}, body=Point(3), wait=2.0))
    assert call.content == b'{"x":3}'
    assert call.headers == {"A": "a", "Content-Type": "application/json"}
    assert call.wait == 2.0


@pytest.mark.usefixtures("table")
def test_a_response_is_read_into_its_type() -> None:
    call = call_of(Parts({"id": "i", "name": "n"}))
    assert call.read(CallResponse(200, {}, b'{"x": 3}')) == Point(3)
    read_nothing(CallResponse(204, {}))


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("headers", "body", "says"),
    [
        ({}, b'{"x": "text"}', "the response is not the Point that a Holdfast server sends"),
        ({}, b"\xff", "the response is not the Point"),
        ({"content-type": "text/html"}, b"<title>Sign in</title>", "web page titled 'Sign in'"),
        ({}, b"  <html>", "the response is a web page, sent by a proxy"),
    ],
)
def test_a_response_of_something_else_is_a_protocol_error(headers: dict[str, str], body: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        call_of(Parts({"id": "i", "name": "n"})).read(CallResponse(200, headers, body))
