"""SIGKILL at every named point: what was acknowledged is there, a file is old or new but whole, and uploads go on."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.block_digests import block_field, blocks_of, etag_of
from tests.support.servers import ServerProcess, wait_until
from tests.support.uploads import OCTETS, PARTIAL, TUS, metadata, shown
from tests.tornado_app.files import test_block_crashes
from tornado_app.files.store.local.published import LocalStore

Spawn = Callable[..., ServerProcess]

DATA = os.urandom(3_000_000)
SMALL = os.urandom(200)
OLD = b"the old content"
PUBLISHING = ["publish.blocks-complete", "publish.before-rename", "publish.after-rename", "publish.before-record"]
DIGEST_POINTS = ["sha256.step", "digest.recorded"]
REPLACEMENT = ["replace.before-bytes", "replace.written"]
"""Tried in `tests/tornado_app/handlers/digests/test_uploads.py`."""
SMALL_FILES = ["small.written", "small.synced", "small.before-rename", "small.placed", "small.before-record"]
CREATING = ["create.before-info", "create.before-rename", "create.made"]


class Client:
    """Goes on after the server's death, as a good client does, and checks that what it was promised is kept."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.deaths = 0
        self.data = DATA
        self.allowed: tuple[bytes | None, ...] = (None, DATA)

    def send(self, method: str, url: str, **arguments: Any) -> httpx.Response | None:
        """One request; None when the server died of it, which is then started again without a fault."""
        try:
            return httpx.request(method, f"{self.server.url}{url}", timeout=30, **arguments)
        except httpx.TransportError:
            self.deaths += 1
            assert self.deaths == 1, self.server.log
            assert shown(self.server.files_dir).get("a") in self.allowed
            self.server.end()
            self.server.environment.pop("HOLDFAST_FAULT")
            self.server.restart()
            return None

    def must(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        """The same, until there is an answer, which is a good one."""
        answer = None
        while answer is None:
            answer = self.send(method, url, **arguments)
        assert answer.status_code < 300, answer.text
        return answer

    def create(self, length: int | None, **headers: str) -> str:
        """A tus upload's URL."""
        size = {} if length is None else {"Upload-Length": str(length)}
        return str(self.must("POST", "/v1/uploads", headers={**TUS, **size, **headers}).headers["Location"])

    def fill(self, url: str, data: bytes, piece: int, *, checksums: bool = False) -> None:
        """Bring a tus upload to its end; what was acknowledged is never asked for again."""
        acknowledged = 0
        while True:
            offset = int(self.must("HEAD", url, headers=TUS).headers["Upload-Offset"])
            assert offset >= acknowledged
            if offset == len(data):
                return
            part = data[offset : offset + piece]
            headers = {**OCTETS, "Upload-Offset": str(offset)}
            if checksums:
                headers["Upload-Checksum"] = "sha1 " + base64.b64encode(hashlib.sha1(part).digest()).decode()
            answer = self.send("PATCH", url, headers=headers, content=part)
            if answer is not None:
                assert answer.status_code == 204, answer.text
                acknowledged = int(answer.headers["Upload-Offset"])


def over_tus(client: Client) -> None:
    url = client.create(len(DATA), **metadata(filename="a"))
    client.fill(url, DATA, 700_000)
    client.must("DELETE", url, headers=TUS)


def over_tus_replacing(client: Client) -> None:
    (client.server.files_dir / "a").write_bytes(OLD)
    client.allowed = (OLD, DATA)
    url = client.create(len(DATA), **metadata(filename="a", overwrite="true"))
    client.fill(url, DATA, 700_000)
    client.must("DELETE", url, headers=TUS)


def over_tus_with_checksums(client: Client) -> None:
    url = client.create(len(DATA), **metadata(filename="a"))
    client.fill(url, DATA, 2_900_000, checksums=True)
    client.must("DELETE", url, headers=TUS)


def over_tus_with_a_wrong_checksum_on_the_way(client: Client) -> None:
    url = client.create(len(DATA), **metadata(filename="a"))
    wrong = {**OCTETS, "Upload-Offset": "0", "Upload-Checksum": "sha1 " + base64.b64encode(bytes(20)).decode()}
    answer = client.send("PATCH", url, headers=wrong, content=bytes(2_900_000))
    assert answer is None or answer.status_code == 460
    client.fill(url, DATA, 2_900_000)
    client.must("DELETE", url, headers=TUS)


def over_tus_in_parts(client: Client) -> None:
    parts = [client.create(1_000_000, **{"Upload-Concat": "partial"}) for _ in range(3)]
    for number, url in enumerate(parts):
        client.fill(url, DATA[number * 1_000_000 :][:1_000_000], 1_000_000)
    final = {"Upload-Concat": f"final;{' '.join(parts)}", **metadata(filename="a", overwrite="true")}
    url = client.create(None, **final)
    wait_until(lambda: "Upload-Offset" in client.must("HEAD", url, headers=TUS).headers)
    for each in (url, *parts):
        client.must("DELETE", each, headers=TUS)


def over_the_draft(client: Client) -> None:
    headers = {"Upload-Complete": "?0", "Content-Disposition": 'inline; filename="a"'}
    url = client.must("POST", "/v1/uploads", headers=headers, content=DATA[:1_000_000]).headers["Location"]
    while True:
        head = client.must("HEAD", url).headers
        if head["Upload-Complete"] == "?1":
            break
        offset = int(head["Upload-Offset"])
        headers = {**PARTIAL, "Upload-Offset": str(offset), "Upload-Complete": "?1"}
        client.send("PATCH", url, headers=headers, content=DATA[offset:])
    client.must("DELETE", url)


def over_the_seed(client: Client) -> None:
    client.allowed = ()  # it grows in view
    while True:
        status = client.send("GET", "/upload/?file_name=a")
        if status is None:
            continue
        at = 0 if status.status_code == 404 else status.json()["bytes_read"]
        if at == len(DATA) and status.json()["is_complete"]:
            return
        client.allowed = (None, *(DATA[:end] for end in (at, at + 1_000_000, len(DATA))))
        last = "&is_complete=true" if at + 1_000_000 >= len(DATA) else ""
        client.send("POST", f"/upload/?file_name=a&bytes_read={at}{last}", content=DATA[at : at + 1_000_000])


def over_the_seed_with_its_size(client: Client) -> None:
    while True:
        status = client.send("GET", "/upload/?file_name=a")
        if status is None:
            continue
        at = 0 if status.status_code == 404 else status.json()["bytes_read"]
        if at == len(DATA) and status.json()["is_complete"]:
            return
        client.send("POST", f"/upload/?file_name=a&bytes_read={at}&file_size=3000000", content=DATA[at:])


def over_put(client: Client) -> None:
    (client.server.files_dir / "a").write_bytes(OLD)
    client.allowed = (OLD, DATA)
    client.must("PUT", "/v1/files/a", content=DATA)


def over_small_puts(client: Client) -> None:
    (client.server.files_dir / "a").write_bytes(OLD)
    client.data, client.allowed = SMALL, (OLD, SMALL)
    client.must("PUT", "/v1/files/a", content=SMALL)


def over_a_small_put_that_replaces_nothing(client: Client) -> None:
    client.data, client.allowed = SMALL, (None, SMALL)
    headers = {"If-None-Match": "*"}
    if client.send("PUT", "/v1/files/a", headers=headers, content=SMALL) is None:
        again = client.send("PUT", "/v1/files/a", headers=headers, content=SMALL)
        assert again is not None
        assert again.status_code in (201, 412)  # the file may have got its name just before


def given_up_first(client: Client) -> None:
    url = client.create(len(DATA), **metadata(filename="a"))
    if client.send("DELETE", url, headers=TUS) is None:
        assert httpx.head(client.server.url + url, headers=TUS).status_code == 404
    over_tus(client)


SCENARIOS: dict[Callable[[Client], None], list[str]] = {
    over_tus: [*CREATING, "append.written", "append.written:3", "append.digested", *PUBLISHING],
    over_tus_replacing: [*PUBLISHING],
    over_tus_with_checksums: ["append.begun", "append.written", "append.before-commit"],
    over_tus_with_a_wrong_checksum_on_the_way: ["append.digested", "truncate.blocks-cut"],
    over_tus_in_parts: ["join.copied", "join.copied:3", *PUBLISHING],
    over_the_draft: ["create.made", "append.written", *PUBLISHING],
    over_the_seed: [
        "expose.before-rename",
        "append.written",
        "append.written:2",
        "append.digested:2",
        *PUBLISHING,
        "discard.renamed",
    ],
    over_the_seed_with_its_size: ["create.before-rename", *PUBLISHING, "discard.renamed"],
    over_put: ["create.made", "append.written", "append.digested", *PUBLISHING],
    over_small_puts: SMALL_FILES,
    over_a_small_put_that_replaces_nothing: SMALL_FILES,
    given_up_first: ["discard.renamed"],
}


def test_every_named_point_is_tried() -> None:
    root = Path(__file__).parents[3] / "tornado_app" / "files"
    named = {
        point
        for path in root.rglob("*.py")
        for point in re.findall(r'fault_points\.point\("([^"]+)"\)', path.read_text())
    }
    scenarios = [*SCENARIOS.values(), *test_block_crashes.SCENARIOS.values()]
    tried = [*DIGEST_POINTS, *REPLACEMENT, *(point for points in scenarios for point in points)]
    assert named == {point.partition(":")[0] for point in tried}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "point"), [(scenario, point) for scenario, points in SCENARIOS.items() for point in points]
)
def test_a_server_killed_at_this_point_loses_nothing(
    spawn_server: Spawn, scenario: Callable[[Client], None], point: str
) -> None:
    server = spawn_server("--reserve-space", "0", HOLDFAST_FAULT=point)
    client = Client(server)
    scenario(client)
    assert client.deaths == 1, f"{point} was never passed"
    data = client.data
    assert shown(server.files_dir) == {"a": data}
    told = httpx.get(f"{server.url}/v1/files/a")
    assert told.content == data
    assert told.headers["Block-Digest"] == block_field(data)["Block-Digest"]
    assert told.headers["ETag"] == etag_of(data)
    inode = (server.files_dir / "a").stat().st_ino
    if data is DATA:
        assert (server.files_dir / f".holdfast/digests/{inode:x}.blocks").read_bytes() == blocks_of(DATA)
    left = httpx.get(f"{server.url}/v1/uploads").json()["items"]
    assert len(left) <= 1  # one whose creation was never answered would expire
    for upload in left:
        httpx.delete(f"{server.url}/v1/uploads/{upload['id']}")
    wait_until(lambda: os.listdir(server.files_dir / ".holdfast/uploads") == [], what="nothing is left of any upload")


@pytest.mark.slow
@pytest.mark.parametrize("point", DIGEST_POINTS)
def test_a_server_killed_while_it_makes_a_digest_makes_it_when_it_runs_again(
    spawn_server: Spawn, tmp_path: Path, point: str
) -> None:
    store = LocalStore(tmp_path / "files", marks_digests=True)
    staged = store.create("one", b"")
    staged.write([DATA])
    staged.publish("a")
    staged.discard()
    store.close()
    server = spawn_server("--reserve-space", "0", HOLDFAST_FAULT=point)
    client = Client(server)
    etag = client.must("HEAD", "/v1/files/a").headers["ETag"]
    client.send("HEAD", "/v1/files/a", headers={"Want-Repr-Digest": "sha-256=10"})
    assert client.deaths == 1, f"{point} was never passed"
    pending = server.files_dir / ".holdfast/sha256-pending"
    wait_until(lambda: os.listdir(pending) == [], what="the digest that an earlier server had to make")
    head = client.must("HEAD", "/v1/files/a", headers={"Want-Repr-Digest": "sha-256=0"})
    assert "Repr-Digest" not in head.headers
    told = client.must("GET", "/v1/files/a")
    assert told.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}:"
    assert told.headers["ETag"] == etag
