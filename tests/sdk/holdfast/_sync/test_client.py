"""Arguments of a client: the server's URL and the token."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import holdfast
from tests.support.servers import ServerProcess


def test_a_token_may_end_in_a_line_break_and_is_never_shown(spawn_server: Callable[..., ServerProcess]) -> None:
    server = spawn_server(HOLDFAST_TOKEN="secret")
    with holdfast.Client(server.url, "secret\n") as client:
        assert list(client.files.list()) == []
    with holdfast.Client(server.url, "sec\nret") as client, pytest.raises(ValueError, match="the token") as caught:
        client.live()
    assert "sec" not in str(caught.value)
