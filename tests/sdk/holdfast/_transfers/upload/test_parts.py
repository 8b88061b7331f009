"""Uploads of parts that are joined, for servers without uploads by blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

import holdfast
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess

MIB = 1 << 20

pytestmark = pytest.mark.slow


class OlderServer(httpx.HTTPTransport):
    """A server that has no uploads by blocks, as before version 0.2."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/v1/block-uploads"):
            return httpx.Response(404)
        return super().handle_request(request)


def test_parts_go_up_at_the_same_time_and_are_joined(
    served: ServerProcess, make: Callable[[int], Path], faulty: Callable[..., FaultyProxy]
) -> None:
    path = make(20 * MIB)
    proxy = faulty(
        *[Fault(when=b"PATCH ", cut_up=size) for size in (3 * MIB, MIB, 10_000)],
        Fault(when=b"final;", swallow_answer=True),
    )
    with holdfast.Client(proxy.url, transport=OlderServer()) as through:
        through.files.upload(path, segments=4).wait(60)
        assert through.transfers.pending() == []
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()
    assert proxy.happened == 4
    assert proxy.connections >= 4


def test_parts_are_paused_and_gone_on_with(
    served: ServerProcess, make: Callable[[int], Path], faulty: Callable[..., FaultyProxy]
) -> None:
    path = make(20 * MIB)
    proxy = faulty(*[Fault(when=b"PATCH ", stall_up=4 * MIB)] * 2)
    with holdfast.Client(proxy.url, transport=OlderServer(), timeout=3) as through:
        transfer = through.files.upload(path, segments=2)
        proxy.wait_for(lambda p: p.happened == 2)
        transfer.pause()
        sent = transfer.sent
        transfer.resume()
        transfer.wait(60)
        assert transfer.sent - sent < 20 * MIB
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()
