"""Refusals of `connect()`, and their messages."""

from __future__ import annotations

import pytest

import holdfast
import holdfast.aio
from holdfast.errors import ConnectFailed
from tests.support.servers import free_port


def test_where_nothing_answers_the_error_says_so_and_what_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectFailed, match=r"nothing answers: .*Check the URL, and whether the server runs"):
        holdfast.connect(url, retries=0)
    monkeypatch.setenv("HOLDFAST_URL", url)
    with pytest.raises(ConnectFailed, match="Check HOLDFAST_URL: correct it, or unset it"):
        holdfast.connect(retries=0)


async def test_the_async_one_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ConnectFailed, match="Check HOLDFAST_URL: correct it, or unset it"):
        await holdfast.aio.connect(retries=0)


def test_a_token_goes_to_the_server_of_a_url_and_is_not_guessed_about() -> None:
    with pytest.raises(ValueError, match=r"without the URL of its server. Pass both: connect\(URL, token=TOKEN\)"):
        holdfast.connect(token="s3cret")


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(ValueError, match="is not the URL of a server"):
        holdfast.connect("ftp://somewhere")
