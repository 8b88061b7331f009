"""SIGKILL at every named point of an upload by blocks: what is missing is right, and no wrong byte is published."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from holdfast import digests
from holdfast.digests import ABSENT, BLOCK, SIZE
from tests.support.blocks import content, creation, listed, whole
from tests.support.servers import ServerProcess, wait_until
from tests.support.uploads import shown

Spawn = Callable[..., ServerProcess]

COUNT = 4
DATA = content(3 * BLOCK + 12345)
WRONG = content(3 * BLOCK + 12345, seed=1)
OLD = content(BLOCK, seed=2) + DATA[: 3 * BLOCK]
"""The blocks of `DATA` but the last, elsewhere."""


class Client:
    """Goes on after the server's death, and checks that every block which is said to be there is the right one."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.deaths = 0
        self.acknowledged: set[int] = set()
        self.may_be_wrong: set[int] = set()

    def send(self, method: str, url: str, **arguments: Any) -> httpx.Response | None:
        """One request; None when the server died of it, which is then started again without a fault."""
        try:
            return httpx.request(method, f"{self.server.url}{url}", timeout=60, **arguments)
        except httpx.TransportError:
            self.deaths += 1
            assert self.deaths == 1, self.server.log
            assert shown(self.server.files_dir).get("a") in (None, OLD, DATA)
            self.server.end()
            self.server.environment.pop("HOLDFAST_FAULT", None)
            self.server.restart()
            return None

    def must(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        """The same, until there is an answer, which is a good one."""
        answer = None
        while answer is None:
            answer = self.send(method, url, **arguments)
        assert answer.status_code < 300, answer.text
        return answer

    def create(self, name: str, data: bytes, **more: Any) -> str:
        """Create an upload and return its URL."""
        body = creation(name, data, **more)
        return str(self.must("POST", "/v1/block-uploads", json=body).headers["Location"])

    def put(self, url: str, data: bytes, index: int) -> None:
        """Send a block once."""
        answer = self.send("PUT", f"{url}/blocks/{index}", content=data[index * BLOCK : (index + 1) * BLOCK])
        if answer is not None:
            assert answer.status_code == 200, answer.text
            self.acknowledged.add(index)

    def missing(self, url: str) -> list[int]:
        """Return the missing blocks, after a look at those that are there."""
        state = self.must("GET", url).json()
        if state["file"] is not None:
            return []
        missing = [index for first, end in state["missing"] for index in range(first, end)]
        assert self.acknowledged.isdisjoint(missing)
        listing = base64.b64decode(self.must("GET", f"{url}/digests").json()["blocks"])
        data = (self.server.files_dir / ".holdfast/uploads" / url.rpartition("/")[2] / "data").read_bytes()
        for index in range(COUNT):
            digest = listing[index * SIZE : (index + 1) * SIZE]
            if digest != ABSENT:
                assert digest == digests.of_block(data[index * BLOCK : (index + 1) * BLOCK])
                assert index in self.may_be_wrong or digest == listed(DATA)[index * SIZE : (index + 1) * SIZE]
        return missing

    def fill(self, url: str) -> None:
        """Send what is missing, in another order than that of the file."""
        while missing := self.missing(url):
            for index in reversed(missing):
                self.put(url, DATA, index)

    def end(self, url: str, data: bytes = DATA, **more: Any) -> None:
        """End the upload, once more when the server died of it."""
        answer = self.must("POST", f"{url}/end", json={"digest": whole(data), **more})
        assert answer.json()["block_digest"] == whole(data)


def in_any_order(client: Client) -> None:
    url = client.create("a", DATA)
    client.fill(url)
    client.end(url)


def with_known_digests(client: Client) -> None:
    url = client.create("a", DATA, known=True)
    client.fill(url)
    client.end(url)


def wrong_ones_first(client: Client) -> None:
    url = client.create("a", DATA)
    client.may_be_wrong = {0}
    client.put(url, WRONG, 0)
    client.acknowledged.clear()
    client.put(url, DATA, 0)
    client.put(url, DATA, 0)
    client.may_be_wrong.clear()
    client.fill(url)
    client.end(url)


def from_a_base(client: Client) -> None:
    (client.server.files_dir / "a").write_bytes(OLD)
    etag = client.must("HEAD", "/v1/files/a").headers["ETag"].strip('"')
    url = client.create("a", DATA, known=True, base=etag)
    while True:
        client.fill(url)
        answer = client.send("POST", f"{url}/end", json={"digest": whole(DATA)})
        if answer is not None and answer.status_code < 300:
            return
        assert answer is None or answer.status_code == 409  # the copy was still going on when `missing` was read


def known_under_another_name(client: Client) -> None:
    first = client.create("b", DATA)
    client.fill(first)
    client.end(first)
    client.acknowledged.clear()
    url = client.create("a", DATA, known=True)
    state = client.must("GET", url).json()
    assert state["missing"] == []
    blocks = [DATA[index * BLOCK : (index + 1) * BLOCK] for index in state["proof"]]
    proof = digests.of_proof(bytes.fromhex(state["nonce"]), blocks).hex()
    if client.send("POST", f"{url}/end", json={"digest": whole(DATA), "proof": proof}) is None:
        client.fill(url)
        client.end(url)
    client.must("DELETE", "/v1/files/b")
    client.must("DELETE", first)


SCENARIOS: dict[Callable[[Client], None], list[str]] = {
    in_any_order: [
        *("create.made", "blocks.prepared", "blocks.written", "blocks.written:3", "blocks.noted", "blocks.noted:4"),
        *("publish.before-rename", "publish.after-rename", "publish.before-record"),
    ],
    with_known_digests: ["blocks.prepared", "blocks.written:2", "publish.after-rename"],
    wrong_ones_first: ["blocks.written", "blocks.written:2", "blocks.noted:2"],
    from_a_base: ["blocks.copied", "blocks.written", "publish.before-rename", "publish.after-rename"],
    known_under_another_name: ["blocks.adopted", "blocks.linked", "publish.before-rename:2", "publish.after-rename:2"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "point"), [(scenario, point) for scenario, points in SCENARIOS.items() for point in points]
)
def test_a_server_killed_at_this_point_knows_what_is_missing(
    spawn_server: Spawn, scenario: Callable[[Client], None], point: str
) -> None:
    server = spawn_server("--reserve-space", "0", HOLDFAST_FAULT=point)
    client = Client(server)
    scenario(client)
    assert client.deaths == 1, f"{point} was never passed"
    assert shown(server.files_dir) == {"a": DATA}
    found = httpx.get(f"{server.url}/v1/files/a")
    assert found.content == DATA
    for upload in httpx.get(f"{server.url}/v1/uploads").json()["items"]:
        httpx.delete(f"{server.url}/v1/block-uploads/{upload['id']}")
    wait_until(lambda: os.listdir(server.files_dir / ".holdfast/uploads") == [], what="nothing is left of any upload")
