"""URLs and addresses that a fetch may use, and the client that keeps to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from holdfast.work import WorkError
from tests.support.origin import Origin, held
from tornado_app.work_types.url_policy import (
    CONNECTION_ERRORS,
    StopRequested,
    UrlPolicy,
    allowed_url,
    is_public,
)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin(b"data" * 100_000) as made:
        yield made


@pytest.mark.parametrize(
    "url",
    [
        "https://data.example.evil.org/sets/a",
        "https://data.example@evil.org/sets/a",
        "https://user:word@data.example/sets/a",
        "http://data.example/sets/a",
        "https://data.example:8443/sets/a",
        "https://data.example/other",
        "https://data.example/sets/../other",
        "https://data.example/sets/%2e%2e/other",
        "https://data.example/sets/..%2fother",
        "https://data.example/sets/..\\other",
        "https://data.example\\@evil.org/sets/a",
        "ftp://data.example/sets/a",
        "//data.example/sets/a",
        "https:///sets/a",
        "data.example/sets/a",
        "https://data.example/sets/\na",
    ],
)
def test_only_what_begins_as_allowed_may_be_fetched(url: str) -> None:
    with pytest.raises(WorkError):
        allowed_url(url, ["https://data.example/sets/"])


@pytest.mark.parametrize(
    "url", ["https://data.example/sets/a", "HTTPS://DATA.example:443/sets/a?b=..", "https://data.example/sets/a#c"]
)
def test_what_begins_as_allowed_may_be_fetched(url: str) -> None:
    assert allowed_url(url, ["https://data.example", "http://x.example/"]).host == "data.example"
    assert allowed_url(url, ["https://data.example/sets/"]).fragment == ""


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        *((path, True) for path in ("", "/", "/a", "?b=c", "#d")),
        *((path, False) for path in ("ay-other", "ay/a", "%2Fa", ".zip", ";a")),
    ],
)
def test_a_beginning_is_of_whole_segments(path: str, allowed: bool) -> None:
    url = f"https://data.example/ok{path}"
    if allowed:
        assert allowed_url(url, ["https://data.example/ok"]).path.startswith("/ok")
    else:
        with pytest.raises(WorkError, match="may not be fetched"):
            allowed_url(url, ["https://data.example/ok"])


def test_without_the_setting_nothing_may_be_fetched() -> None:
    with pytest.raises(WorkError, match="This server fetches nothing: start it with --fetch-allow URL"):
        allowed_url("https://data.example/", [])


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d70e", True),
        ("2002:7f00:1::", False),
        ("::127.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("64:ff9b:1::7f00:1", False),
        ("fec0::1", False),
    ],
)
def test_addresses_that_are_not_public_are_known(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_an_allowed_url_is_fetched_with_the_headers_given(origin: Origin) -> None:
    with closing(UrlPolicy([origin.url], private=True, stopping=lambda: None)) as client:
        with client.get(origin.url + "/f", {"Range": "bytes=4-", "If-Range": '"v1"'}) as response:
            assert response.status == 206
            assert b"".join(response.pieces()) == origin.data[4:]
        assert response.headers["content-range"] == f"bytes 4-{len(origin.data) - 1}/{len(origin.data)}"
    assert origin.asked[0]["accept-encoding"] == "identity"


def test_each_redirect_is_checked(origin: Origin) -> None:
    origin.redirects = {"/open/a": "/open/f", "/open/b": "/closed/f"}
    with closing(UrlPolicy([origin.url + "/open/"], private=True, stopping=lambda: None)) as client:
        with client.get(origin.url + "/open/a", {}) as response:
            assert str(response.url) == origin.url + "/open/f"
        with pytest.raises(WorkError, match="/closed/f may not be fetched"), client.get(origin.url + "/open/b", {}):
            pass


def test_a_private_address_is_refused_before_it_is_connected_to(origin: Origin) -> None:
    with (
        closing(UrlPolicy([origin.url], private=False, stopping=lambda: None)) as client,
        pytest.raises(WorkError, match="which is not a public address"),
        client.get(origin.url + "/f", {}),
    ):
        pass
    assert origin.asked == []


def test_a_stop_request_ends_a_wait_for_bytes(origin: Origin) -> None:
    gate = threading.Event()
    origin.gate = held(gate, 131_072)
    try:
        with (
            closing(UrlPolicy([origin.url], private=True, stopping=lambda: "pause")) as client,
            pytest.raises(StopRequested),
            client.get(origin.url + "/f", {}) as response,
        ):
            b"".join(response.pieces())
    finally:
        gate.set()


def test_a_host_that_refuses_connections_is_a_connection_error() -> None:
    with (
        closing(UrlPolicy(["http://127.0.0.1:1/"], private=True, stopping=lambda: None)) as client,
        pytest.raises(CONNECTION_ERRORS),
        client.get("http://127.0.0.1:1/f", {}),
    ):
        pass
