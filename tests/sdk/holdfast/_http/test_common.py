"""Connections: the URL, the token and the policies of a client; and errors from responses."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

import holdfast
from holdfast import calls, errors
from holdfast._http._common import BYPASS_MIN, Connection, ResponseBody, read_answer, translated
from holdfast.plans import PERSISTENT, Retries, Sleep
from tests.support.servers import ServerProcess

TOKEN = "s3cret ünïcode"


@pytest.mark.slow
async def test_any_text_of_one_line_comes_in_with_or_without_its_line_end(
    spawn_server: Callable[..., ServerProcess],
) -> None:
    url = spawn_server(HOLDFAST_TOKEN=TOKEN).url
    for token in (TOKEN, f"{TOKEN}\n", lambda: f" {TOKEN}\r\n"):
        with holdfast.Client(url, token=token) as client:
            assert client.work_types()
            client.files.write("a", b"abc", overwrite=True)
            link = client.files.download_link("a").url
        async with holdfast.AsyncClient(url, token=token) as aclient:
            assert await aclient.files.read("a") == b"abc"
        async with httpx.AsyncClient() as browser:
            assert (await browser.get(link)).content == b"abc"


def test_what_no_header_can_carry_is_refused_and_not_told() -> None:
    with holdfast.Client("http://127.0.0.1:9", token="s3cret\nsecond line") as client:
        with pytest.raises(ValueError, match="not one line") as refused:
            client.work_types()
        assert "s3cret" not in str(refused.value)


def connection(url: str | None = None, token: str | None = None, retries: int | Retries | None = None) -> Connection:
    return Connection.of(url, token, 30.0, retries)


def test_arguments_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (connection().base_url, connection().token) == ("http://127.0.0.1:8000", None)
    monkeypatch.setenv("HOLDFAST_URL", "http://host:1/")
    monkeypatch.setenv("HOLDFAST_TOKEN", "t")
    assert (connection().base_url, connection().token) == ("http://host:1", "t")
    assert (connection("http://b:2").base_url, connection(token="u").token) == ("http://b:2", "u")


def test_one_number_of_retries_is_for_requests_and_for_transfers() -> None:
    assert (connection().retries, connection().patience) == (Retries(), PERSISTENT)
    assert connection(retries=3).retries == connection(retries=3).patience == Retries(attempts=3)


@pytest.mark.parametrize(
    ("url", "base_url", "socket", "root"),
    [
        ("http://host:8000/prefix/", "http://host:8000/prefix", None, "http://host:8000/prefix"),
        ("unix:/run/a.sock", "unix:/run/a.sock", "/run/a.sock", "http://localhost"),
        ("unix:/run/a.sock:/holdfast/", "unix:/run/a.sock:/holdfast", "/run/a.sock", "http://localhost/holdfast"),
        ("unix:///run/a.sock", "unix:/run/a.sock", "/run/a.sock", "http://localhost"),
        ("http+unix://%2Frun%2Fa.sock", "unix:/run/a.sock", "/run/a.sock", "http://localhost"),
    ],
)
def test_a_url_has_one_form(url: str, base_url: str, socket: str | None, root: str) -> None:
    found = connection(url)
    assert (found.base_url, found.socket, found.root) == (base_url, socket, root)


def test_no_password_and_no_token_is_displayed() -> None:
    found = connection("http://me:secret@host:1", "t0ken")
    assert found.shown_url == "http://host:1"
    assert "t0ken" not in repr(found)
    with pytest.raises(ValueError, match=r"^'ftp://host' is not the URL") as refused:
        connection("ftp://me:secret@host")
    assert "secret" not in str(refused.value)


def test_a_token_is_sent_without_blanks_and_asked_for_each_time() -> None:
    tokens = iter([" one\n", None])
    found = Connection("http://host:1", lambda: next(tokens))
    assert found.headers()["Authorization"] == "Bearer one"
    assert "Authorization" not in found.headers()


def test_only_a_sleep_before_a_retry_is_reported() -> None:
    found, reported = connection(), []
    found.report_retry(Sleep(1.0, errors.ConnectFailed("refused")))
    found.on_retry = lambda error, seconds: reported.append((str(error), seconds))
    found.report_retry(Sleep(1.0))
    found.report_retry(Sleep(2.0, errors.ConnectFailed("refused")))
    assert reported == [("refused", 2.0)]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (httpx.ConnectError("no"), errors.ConnectFailed),
        (httpx.ConnectTimeout("no"), errors.ConnectFailed),
        (httpx.ReadTimeout("no"), errors.RequestTimeout),
        (httpx.ReadError("no"), errors.ConnectionBroken),
        (httpx.RemoteProtocolError(""), errors.ConnectionBroken),
    ],
)
def test_errors_of_httpx_become_our_own_without_the_query(raised: httpx.HTTPError, expected: type[Exception]) -> None:
    raised.request = httpx.Request("GET", "http://me:secret@host/a?signature=secret")
    with pytest.raises(expected, match="GET http://host/a: ") as caught, translated():
        raise raised
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is raised


def test_a_response_is_read_or_raised() -> None:
    call = calls.live()
    assert read_answer(call, httpx.Response(200, json={"status": "live"})).status == "live"
    with pytest.raises(errors.NotFound, match="No such thing"):
        read_answer(call, httpx.Response(404, json={"title": "No such thing"}))
    with pytest.raises(errors.ProtocolError, match=r"the server redirects to http://other/\. If you trust it"):
        read_answer(call, httpx.Response(302, headers={"location": "http://other/"}))


@pytest.mark.parametrize(
    ("headers", "may_bypass"),
    [
        ({"content-length": str(BYPASS_MIN)}, True),
        ({"content-length": str(BYPASS_MIN - 1)}, False),
        ({"content-length": "many"}, False),
        ({"transfer-encoding": "chunked"}, False),
    ],
)
def test_only_a_long_body_of_known_length_is_read_without_h11(headers: dict[str, str], may_bypass: bool) -> None:
    response = httpx.Response(200, headers=headers, extensions={"http_version": b"HTTP/1.1"})
    body = ResponseBody(response)
    assert body.may_bypass_h11() is may_bypass
    body.consumed(bytes(10))
    assert not body.may_bypass_h11(), "the rest is shorter than that"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://localhost",
        "http://",
        "http://localhost:abc",
        "http://localhost:99999",
        "/",
    ],
)
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    for face in (holdfast.Client, holdfast.AsyncClient):
        with pytest.raises(ValueError, match="is not the URL of a server"):
            face(url)
