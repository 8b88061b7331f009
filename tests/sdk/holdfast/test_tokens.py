"""A client's token: taken as it comes out of a file, sent as the server takes it, told to nobody."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

import holdfast
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
