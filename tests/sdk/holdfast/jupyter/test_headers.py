"""Headers and targets of requests between Jupyter and the server."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders

from holdfast.jupyter import headers

SECRETS = {
    "Authorization": "token secret",
    "Cookie": "_xsrf=secret; username=secret",
    "X-XSRFToken": "secret",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-User": "root",
    "X-Real-Ip": "203.0.113.9",
    "Forwarded": "for=203.0.113.9",
    "Origin": "https://hub.example",
    "Referer": "https://hub.example/?token=secret",
}


def inward(given: dict[str, str], *, from_other_origin: bool = False) -> dict[str, str]:
    passed = headers.inward(
        HTTPHeaders(given),
        prefix="/user/ada/holdfast",
        scheme="https",
        host="hub.example",
        address="192.0.2.7",
        from_other_origin=from_other_origin,
    )
    return dict(passed.get_all())


ADDED = {
    "Host": "localhost",
    "Connection": "close",
    "X-Forwarded-Prefix": "/user/ada/holdfast",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "hub.example",
    "X-Forwarded-For": "192.0.2.7",
}


def test_nothing_by_which_jupyter_knows_its_user_goes_in() -> None:
    assert inward(SECRETS) == ADDED


def test_what_a_transfer_needs_goes_in() -> None:
    needed = {"Range": "bytes=1-", "If-None-Match": '"a"', "Expect": "100-continue", "Tus-Resumable": "1.0.0"}
    assert inward(needed) == ADDED | needed


def test_headers_of_one_hop_end_there() -> None:
    given = {"Connection": "keep-alive, x-mine", "X-Mine": "1", "Keep-Alive": "5", "Te": "trailers", "Upgrade": "x"}
    assert inward(given) == ADDED
    answer = HTTPHeaders({**given, "Transfer-Encoding": "chunked", "Set-Cookie": "a=b", "Server": "x", "Etag": '"e"'})
    assert dict(headers.outward(answer)) == {"Etag": '"e"'}


def test_the_length_of_a_body_is_kept_whatever_connection_names() -> None:
    given = {"Connection": "Content-Length, Expect", "Content-Length": "5", "Expect": "100-continue"}
    assert inward(given) == ADDED | {"Content-Length": "5", "Expect": "100-continue"}


def test_a_page_of_another_origin_that_jupyter_admits_is_not_judged_again() -> None:
    given = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    assert inward(given) == ADDED | given
    assert inward(given, from_other_origin=True) == ADDED


@pytest.mark.parametrize(
    ("uri", "inner"),
    [
        ("/user/ada/holdfast/", "/"),
        ("/user/ada/holdfast", "/"),
        ("/user/ada/holdfast/?token=secret", "/"),
        ("/user/ada/holdfast/v1/files?limit=2&_xsrf=secret&after=%C3%A4", "/v1/files?limit=2&after=%C3%A4"),
        ("/user/ada/holdfast/v1/files/a%2Fb%20c?%74oken=secret&sig=x=", "/v1/files/a%2Fb%20c?sig=x="),
    ],
)
def test_the_target_loses_the_prefix_and_tokens_of_jupyter(uri: str, inner: str) -> None:
    assert headers.inner_uri(uri, "/user/ada/holdfast") == inner
