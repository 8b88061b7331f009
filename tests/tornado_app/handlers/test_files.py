"""`/v1/files`: downloads by every rule of RFC 9110, listing, deleting."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import email
import email.policy
import hashlib
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.block_digests import etag_of
from tests.support.servers import ServerProcess, wait_until
from tests.support.uploads import TUS, metadata, until
from tornado_app.app import App
from tornado_app.files import metrics
from tornado_app.files.store.local import digest_index as known_digests
from tornado_app.protocols import dates
from tornado_app.server import sendfile
from tornado_app.settings import Settings

pytestmark = pytest.mark.usefixtures("both_ways")

SMALL = bytes(range(256)) * 4
BIG = random.Random(4).randbytes(20 * (1 << 20) + 3)  # more than two windows of sendfile

Fields = dict[str, str]


@pytest.fixture
def files(settings: Settings) -> Path:
    (settings.files_dir / "small.bin").write_bytes(SMALL)
    (settings.files_dir / "big.bin").write_bytes(BIG)
    return settings.files_dir


@pytest.fixture(params=["sendfile", "pieces"])
def way_out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways for many bytes to go out: zero-copy, and pieces read off the loop."""
    if request.param == "pieces":
        monkeypatch.setattr(sendfile, "plain_stream", lambda connection: None)
    return str(request.param)


async def get(http: httpx.AsyncClient, name: str, **headers: str) -> httpx.Response:
    fields = {field.replace("_", "-"): value for field, value in headers.items()}
    return await http.get(f"/v1/files/{name}", headers={"Accept-Encoding": "identity"} | fields)


def parts(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Content-Range and bytes of each part of a multipart/byteranges answer."""
    head = b"Content-Type: " + answer.headers["Content-Type"].encode() + b"\r\n\r\n"
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    return [(part["Content-Range"], part.get_payload(decode=True)) for part in message.iter_parts()]


# -- whole files


@pytest.mark.parametrize(("name", "content"), [("small.bin", SMALL), ("big.bin", BIG)])
async def test_a_file_comes_whole(
    http: httpx.AsyncClient, files: Path, way_out: str, name: str, content: bytes
) -> None:
    answer = await get(http, name)
    assert answer.status_code == 200
    assert answer.content == content
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert dates.read(answer.headers["Last-Modified"]) == int((files / name).stat().st_mtime)
    assert answer.headers["ETag"].startswith('"')


async def test_an_empty_file_is_a_whole_answer(http: httpx.AsyncClient, files: Path) -> None:
    (files / "empty.csv").touch()
    answer = await get(http, "empty.csv")
    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    ("name", "path", "disposition"),
    [
        ("a b.csv", "a%20b.csv", 'attachment; filename="a b.csv"'),
        ("deep/er/a.csv", "deep/er/a.csv", 'attachment; filename="a.csv"'),
        ("deep/er/a.csv", "deep%2Fer%2Fa.csv", 'attachment; filename="a.csv"'),
        ("Grüße €.csv", "Gr%C3%BC%C3%9Fe%20%E2%82%AC.csv", "filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%E2%82%AC.csv"),
        ("100%.csv", "100%25.csv", "filename*=UTF-8''100%25.csv"),
        ("a+b.csv", "a+b.csv", 'attachment; filename="a+b.csv"'),
    ],
)
async def test_names_of_any_script_and_in_folders(
    http: httpx.AsyncClient, files: Path, name: str, path: str, disposition: str
) -> None:
    (files / name).parent.mkdir(parents=True, exist_ok=True)
    (files / name).write_text("x,y\n")
    answer = await get(http, path)
    assert (answer.status_code, answer.text) == (200, "x,y\n")
    assert disposition in answer.headers["Content-Disposition"]
    assert answer.headers["Content-Type"] == "text/csv"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nothing.bin", 404),
        ("nothing/at/all", 404),
        ("folder", 400),
        ("small.bin/x", 400),
        ("%2E%2E/%2E%2E/etc/passwd", 400),
        ("a%2F..%2F..%2Fetc%2Fpasswd", 400),
        ("%2Fetc%2Fpasswd", 400),
        (".holdfast/uploads/x", 400),
        (".holdfast", 400),
        ("link/secret", 400),
        ("a%00b", 400),
        ("%FF", 400),
        ("a%0Ab", 400),
        ("a//b", 400),
        ("a%E2%80%AEb", 400),
    ],
)
async def test_what_can_be_no_file_is_not_found_and_not_written(
    base_url: str, files: Path, path: str, status: int
) -> None:
    (files / "folder").mkdir()
    (files / "link").symlink_to("/")
    # Bare sockets: clients tidy such paths up.
    close = "Host: 127.0.0.1\r\nConnection: close\r\n"
    wanted = {"GET": 404, "HEAD": 404, "DELETE": 404 if "%E2" in path else status}
    if status == 400:
        wanted["PUT"] = 400
    for method, expected in wanted.items():
        answer = await raw(base_url, f"{method} /v1/files/{path} HTTP/1.1\r\n{close}Content-Length: 0\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % expected), head
        assert b"application/problem+json" in head
        assert method == "HEAD" or b'"detail":"' in body


async def test_names_with_a_leading_dot_are_names_like_any_other(http: httpx.AsyncClient, files: Path) -> None:
    for name in (".nojekyll", ".gitattributes", "a.zarr/.zgroup", "site/.well-known/.x"):
        assert (await http.put(f"/v1/files/{name}", content=b"x")).status_code == 201
        answer = await get(http, name)
        assert (answer.status_code, answer.content) == (200, b"x")
        assert f'filename="{name.rpartition("/")[2]}"' in answer.headers["Content-Disposition"]
        assert [file["name"] for file in (await http.get("/v1/files", params={"prefix": name})).json()["items"]] == [
            name
        ]
        assert (await http.delete(f"/v1/files/{name}")).status_code == 204


async def raw(base_url: str, request: str) -> bytes:
    """Return the answer of the server until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2]))
    writer.write(request.encode("latin-1"))
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_other_methods_are_refused_with_those_that_are_allowed(http: httpx.AsyncClient, files: Path) -> None:
    for method in ("POST", "PATCH"):
        answer = await http.request(method, "/v1/files/small.bin")
        assert answer.status_code == 405
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}
    answer = await http.options("/v1/files/small.bin")
    assert answer.status_code == 204
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1-2"}, {"Range": "bytes=99999-"}])
async def test_a_head_says_what_a_plain_get_would(http: httpx.AsyncClient, files: Path, headers: Fields) -> None:
    for name in ("small.bin", "big.bin"):
        whole = await get(http, name)
        head = await http.head(f"/v1/files/{name}", headers=headers)
        assert (head.status_code, head.content) == (200, b"")
        assert {**head.headers, "date": ""} == {**whole.headers, "date": ""}


# -- ranges


@pytest.mark.parametrize(
    "asked",
    ["0-499", "500-999", "0-0", "-1", "-500", "900-", "0-", "5-999999999", "-999999999", "1023-1023"],
)
@pytest.mark.parametrize(("name", "content"), [("small.bin", SMALL), ("big.bin", BIG)])
async def test_a_single_range_of_every_form(
    http: httpx.AsyncClient, files: Path, way_out: str, asked: str, name: str, content: bytes
) -> None:
    first, _, last = asked.partition("-")
    start = int(first) if first else max(0, len(content) - int(last))
    end = min(int(last), len(content) - 1) if first and last else len(content) - 1
    answer = await get(http, name, Range=f"bytes={asked}")
    assert answer.status_code == 206
    assert answer.content == content[start : end + 1]
    assert answer.headers["Content-Range"] == f"bytes {start}-{end}/{len(content)}"
    assert answer.headers["Content-Length"] == str(end + 1 - start)
    assert answer.headers["ETag"] == (await http.head(f"/v1/files/{name}")).headers["ETag"]


@pytest.mark.parametrize(("name", "content"), [("small.bin", SMALL), ("big.bin", BIG)])
async def test_several_ranges_come_as_multipart_in_the_order_asked_for(
    http: httpx.AsyncClient, files: Path, way_out: str, name: str, content: bytes
) -> None:
    size = len(content)
    answer = await get(http, name, Range="bytes=700-799, 0-9, -5")
    assert answer.status_code == 206
    assert answer.headers["Content-Type"].startswith("multipart/byteranges; boundary=")
    assert "Content-Range" not in answer.headers
    assert parts(answer) == [
        (f"bytes 700-799/{size}", content[700:800]),
        (f"bytes 0-9/{size}", content[:10]),
        (f"bytes {size - 5}-{size - 1}/{size}", content[-5:]),
    ]


@pytest.mark.slow
async def test_parts_of_many_bytes_come_whole(http: httpx.AsyncClient, files: Path, way_out: str) -> None:
    middle = 9 << 20
    answer = await get(http, "big.bin", Range=f"bytes=0-{middle},{middle + 10}-")
    assert [content for _, content in parts(answer)] == [BIG[: middle + 1], BIG[middle + 10 :]]


async def test_ranges_that_overlap_become_one(http: httpx.AsyncClient, files: Path) -> None:
    answer = await get(http, "small.bin", Range="bytes=0-99,50-149")
    assert (answer.status_code, answer.content) == (206, SMALL[:150])
    assert answer.headers["Content-Range"] == "bytes 0-149/1024"
    answer = await get(http, "small.bin", Range="bytes=500-599,0-9,550-649")
    assert [content for _, content in parts(answer)] == [SMALL[500:650], SMALL[:10]]


@pytest.mark.parametrize(
    "asked", ["bytes=" + ",".join(["0-"] * 10), "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(60))]
)
async def test_abusive_ranges_are_answered_whole(http: httpx.AsyncClient, files: Path, asked: str) -> None:
    answer = await get(http, "small.bin", Range=asked)
    assert (answer.status_code, answer.content) == (200, SMALL)


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
async def test_what_lies_outside_is_416_with_the_size(http: httpx.AsyncClient, files: Path, asked: str) -> None:
    answer = await get(http, "small.bin", Range=asked)
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == "bytes */1024"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["file_size"] == 1024


@pytest.mark.parametrize("asked", ["bytes=abc", "bytes=9-3", "items=0-5", "bytes", "bytes=0-5,x", "", "bytes=٣-٤"])
async def test_a_malformed_range_or_another_unit_is_ignored(http: httpx.AsyncClient, files: Path, asked: str) -> None:
    answer = await http.get("/v1/files/small.bin", headers=[(b"Range", asked.encode())])
    assert (answer.status_code, answer.content) == (200, SMALL)


@pytest.mark.slow
async def test_any_range_brings_what_slicing_would(http: httpx.AsyncClient, files: Path) -> None:
    @hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(BIG) + 5), st.one_of(st.none(), st.integers(0, 3 << 20)))
    def check(first: int, length: int | None) -> None:
        examples.append((first, length))

    examples: list[tuple[int, int | None]] = []
    check()
    for first, length in examples:
        last = "" if length is None else str(first + length)
        answer = await get(http, "big.bin", Range=f"bytes={first}-{last}")
        expected = BIG[first:] if length is None else BIG[first : first + length + 1]
        assert answer.status_code == (206 if first < len(BIG) else 416)
        assert answer.status_code == 416 or answer.content == expected


# -- conditions


async def validators(http: httpx.AsyncClient, name: str = "small.bin") -> tuple[str, str]:
    head = await http.head(f"/v1/files/{name}")
    return head.headers["ETag"], head.headers["Last-Modified"]


async def test_a_copy_that_is_current_is_not_sent_again(http: httpx.AsyncClient, files: Path) -> None:
    etag, modified = await validators(http)
    for headers in ({"If_None_Match": etag}, {"If_None_Match": f"W/{etag}"}, {"If_Modified_Since": modified}):
        answer = await get(http, "small.bin", **headers)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["ETag"] == etag
        assert answer.headers["Cache-Control"] == "no-cache"
        assert "Content-Length" not in answer.headers
    assert (await http.head("/v1/files/small.bin", headers={"If-None-Match": "*"})).status_code == 304
    assert (await get(http, "small.bin", If_None_Match='"other"')).status_code == 200


async def test_a_precondition_that_fails_is_412(http: httpx.AsyncClient, files: Path) -> None:
    etag, _ = await validators(http)
    long_ago = dates.write(1_000_000_000)
    for headers in ({"If_Match": '"other"'}, {"If_Match": f"W/{etag}"}, {"If_Unmodified_Since": long_ago}):
        answer = await get(http, "small.bin", **headers)
        assert answer.status_code == 412
        assert answer.json()["etag"] == etag.strip('"')
    for headers in ({"If_Match": etag}, {"If_Match": "*"}, {"If_Match": etag, "If_Unmodified_Since": long_ago}):
        assert (await get(http, "small.bin", **headers)).status_code == 200


async def test_preconditions_come_before_the_range(http: httpx.AsyncClient, files: Path) -> None:
    etag, _ = await validators(http)
    assert (await get(http, "small.bin", If_None_Match=etag, Range="bytes=0-1")).status_code == 304
    assert (await get(http, "small.bin", If_Match='"other"', Range="bytes=9999-")).status_code == 412


async def test_a_range_counts_only_while_the_file_is_the_same(http: httpx.AsyncClient, files: Path) -> None:
    later = time.time() + 60  # a date counts when a second has passed since
    os.utime(files / "small.bin", (later, later))
    etag, modified = await validators(http)
    same = await get(http, "small.bin", Range="bytes=10-19", If_Range=etag)
    assert (same.status_code, same.content) == (206, SMALL[10:20])
    for other in ('"other"', f"W/{etag}", modified, "nonsense"):
        answer = await get(http, "small.bin", Range="bytes=10-19", If_Range=other)
        assert (answer.status_code, answer.content) == (200, SMALL)
    assert (await get(http, "small.bin", Range="bytes=9999-", If_Range='"other"')).status_code == 200


async def test_the_etag_changes_whenever_the_content_does(http: httpx.AsyncClient, files: Path) -> None:
    seen = {(await validators(http))[0]}
    times = (files / "small.bin").stat()

    def same_times(path: Path) -> None:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    new = files / "new"
    new.write_bytes(SMALL[::-1])
    same_times(new)  # a replacement of the same size and the same mtime, as rsync -t or tar would make it
    new.rename(files / "small.bin")
    seen.add((await validators(http))[0])
    with (files / "small.bin").open("r+b") as file:  # written to in place, within the same second
        file.write(b"zz")
    seen.add((await validators(http))[0])
    for content in (b"a" * 1024, b"b" * 1024):
        assert (await http.put("/v1/files/small.bin", content=content)).status_code == 200
        seen.add((await validators(http))[0])
    assert len(seen) == 5


async def test_a_download_goes_on_after_a_change_of_the_mode(
    http: httpx.AsyncClient, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest of what is big is confirmed first; who names it is told to come again, and gets no other answer."""
    monkeypatch.setattr(known_digests, "AT_ONCE", 100)
    go_on = threading.Event()
    check = known_digests.DigestIndex.verify
    monkeypatch.setattr(known_digests.DigestIndex, "verify", lambda *args: (go_on.wait(60), check(*args))[1])
    etag = (await http.put("/v1/files/sent.bin", content=SMALL)).headers["ETag"]
    (files / "sent.bin").chmod(0o600)
    assert (await get(http, "sent.bin")).headers["ETag"] != etag
    for headers in ({"If_Range": etag, "Range": "bytes=10-"}, {"If_Match": etag}, {"If_None_Match": f'"x", {etag}'}):
        answer = await get(http, "sent.bin", **headers)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert (await http.head("/v1/files/sent.bin", headers={"If-Match": etag})).status_code == 503
    assert (await http.put("/v1/files/sent.bin", content=b"", headers={"If-Match": etag})).status_code == 503
    assert (await http.delete("/v1/files/sent.bin", headers={"If-Match": etag})).status_code == 503
    go_on.set()

    async def goes_on() -> bool:
        answer = await get(http, "sent.bin", If_Range=etag, Range="bytes=10-")
        return (answer.status_code, answer.content) == (206, SMALL[10:])

    await until(goes_on)


# -- digests


async def test_the_digest_is_told_when_it_is_known_and_wanted(http: httpx.AsyncClient, files: Path) -> None:
    assert "Repr-Digest" not in (await get(http, "small.bin")).headers
    await http.put("/v1/files/sent.bin", content=SMALL)
    digest = "sha-256=:" + base64.b64encode(hashlib.sha256(SMALL).digest()).decode() + ":"
    for headers in ({}, {"Want_Repr_Digest": "sha-256=5"}, {"Want_Repr_Digest": "sha-512=5"}, {"Range": "bytes=0-1"}):
        assert (await get(http, "sent.bin", **headers)).headers["Repr-Digest"] == digest
    assert "Repr-Digest" not in (await get(http, "sent.bin", Want_Repr_Digest="sha-256=0")).headers


async def test_a_file_that_the_server_wrote_has_an_etag_of_its_block_digest(
    http: httpx.AsyncClient, files: Path
) -> None:
    await http.put("/v1/files/sent.bin", content=SMALL)
    assert (await get(http, "sent.bin")).headers["ETag"] == etag_of(SMALL)
    (files / "sent.bin").write_bytes(SMALL[::-1])  # by hand, in place: the digest is not its own any more
    answer = await get(http, "sent.bin")
    assert answer.headers["ETag"] != etag_of(SMALL)
    assert "Repr-Digest" not in answer.headers
    assert "Block-Digest" not in answer.headers


# -- while the file changes


class Halfway:
    """A download that has begun and reads no further until told."""

    def __init__(self, base_url: str, path: str = "/v1/files/big.bin") -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(("127.0.0.1", int(base_url.rpartition(":")[2])))
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        self.sock.setblocking(False)

    async def begin(self) -> bytes:
        """The first bytes, head included."""
        return await asyncio.get_running_loop().sock_recv(self.sock, 2048)

    async def rest(self) -> bytes:
        """Everything else, until the connection ends."""
        got = []
        with contextlib.suppress(ConnectionError):
            while piece := await asyncio.get_running_loop().sock_recv(self.sock, 1 << 20):
                got.append(piece)
        return b"".join(got)


@pytest.fixture
def halfway(base_url: str, files: Path) -> Iterator[Halfway]:
    download = Halfway(base_url)
    with download.sock:
        yield download


@pytest.mark.slow
async def test_a_download_of_a_file_that_is_replaced_ends_with_the_old_bytes(
    halfway: Halfway, http: httpx.AsyncClient, files: Path, way_out: str
) -> None:
    begun = await halfway.begin()
    assert (await http.put("/v1/files/big.bin", content=BIG[::-1])).status_code == 200
    body = (begun + await halfway.rest()).partition(b"\r\n\r\n")[2]
    assert body == BIG
    assert (await get(http, "big.bin")).content == BIG[::-1]


@pytest.mark.slow
async def test_a_download_of_a_file_that_is_written_to_breaks_before_its_end(
    halfway: Halfway, files: Path, way_out: str
) -> None:
    begun = await halfway.begin()
    (files / "big.bin").write_bytes(BIG[::-1] + b"and more")
    body = (begun + await halfway.rest()).partition(b"\r\n\r\n")[2]
    assert len(body) < len(BIG)


@pytest.mark.slow
async def test_a_download_of_a_file_that_is_cut_short_breaks(halfway: Halfway, files: Path, way_out: str) -> None:
    begun = await halfway.begin()
    os.truncate(files / "big.bin", 15 << 20)
    body = (begun + await halfway.rest()).partition(b"\r\n\r\n")[2]
    assert len(body) <= 15 << 20


async def test_a_small_file_that_is_written_to_while_it_is_read_is_read_again(
    http: httpx.AsyncClient, files: Path, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = type(app.services.files.store.open("small.bin"))
    really, times = reader.read, 1

    def read(self: Any, offset: int, count: int) -> bytes:
        nonlocal times
        data: bytes = really(self, offset, count)
        if times:
            times -= 1
            (files / "small.bin").write_bytes(SMALL[::-1])
        return data

    for kind in (reader, *reader.__subclasses__()):
        monkeypatch.setattr(kind, "read", read)
    answer = await get(http, "small.bin")
    assert answer.content == SMALL[::-1]
    assert answer.headers["ETag"] == (await validators(http))[0]
    times = 10**6
    (files / "small.bin").write_bytes(b"x")
    answer = await get(http, "small.bin")
    assert answer.status_code == 200 or answer.headers["Retry-After"] == "1"


# -- connections


async def test_many_bytes_go_by_sendfile_on_a_plain_socket(
    http: httpx.AsyncClient, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    really = os.sendfile

    def counted(out: int, source: int, offset: int, count: int) -> int:
        done = really(out, source, offset, count)
        sent.append(done)
        return done

    monkeypatch.setattr(os, "sendfile", counted)
    assert (await get(http, "big.bin")).content == BIG
    assert sum(sent) == len(BIG)
    assert max(sent) <= sendfile.STEP


async def test_tornado_still_counts_a_body_where_sendfile_tells_it_to(http: httpx.AsyncClient, files: Path) -> None:
    """The guard of the one private attribute: without it every download would go by pieces, slowly but rightly."""
    streams = []
    really = sendfile.plain_stream

    def plain_stream(connection: Any) -> Any:
        streams.append(really(connection))
        return streams[-1]

    sendfile.plain_stream = plain_stream  # type: ignore[assignment]
    try:
        await get(http, "big.bin")
    finally:
        sendfile.plain_stream = really
    assert streams
    assert all(stream is not None for stream in streams), "Tornado has changed: see tornado_app/server/sendfile.py"


async def test_where_sendfile_does_not_work_pieces_do(
    http: httpx.AsyncClient, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sendfile(*_: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", sendfile)
    assert (await get(http, "big.bin")).content == BIG


async def test_connections_are_kept_alive_and_pipelined_requests_answered_in_order(
    base_url: str, files: Path, way_out: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2]))
    wanted = [("big.bin", BIG), ("small.bin", SMALL), ("big.bin", BIG), ("small.bin", SMALL)]
    for name, _ in wanted:
        writer.write(f"GET /v1/files/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    for _, content in wanted:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert await reader.readexactly(len(content)) == content
    writer.close()


async def test_a_client_of_http_1_0_gets_a_file_and_the_end_of_the_connection(base_url: str, files: Path) -> None:
    answer = await raw(base_url, "GET /v1/files/big.bin HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    assert answer.partition(b"\r\n\r\n")[2] == BIG


async def test_a_client_that_goes_away_leaves_no_descriptor_open(
    base_url: str, files: Path, way_out: str, http: httpx.AsyncClient
) -> None:
    await get(http, "small.bin")  # what is opened once and kept is open now
    before = len(os.listdir("/proc/self/fd"))
    cuts = metrics.DOWNLOADS.labels("cut")._value.get()
    for _ in range(5):
        download = Halfway(base_url)
        await download.begin()
        download.sock.close()
    await asyncio.to_thread(wait_until, lambda: len(os.listdir("/proc/self/fd")) <= before, what="descriptors closed")
    assert metrics.DOWNLOADS.labels("cut")._value.get() == cuts + 5


@pytest.mark.slow
def test_a_slow_reader_costs_a_socket_not_memory(spawn_server: Any) -> None:
    server: ServerProcess = spawn_server()
    with (server.files_dir / "huge.bin").open("wb") as file:
        file.truncate(1 << 30)
    httpx.get(f"{server.url}/v1/files/huge.bin", headers={"Range": "bytes=0-30000000"})

    def resident() -> int:
        return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    with contextlib.ExitStack() as stack:
        downloads = [Halfway(server.url, "/v1/files/huge.bin") for _ in range(50)]
        for download in downloads:
            stack.enter_context(download.sock)
        descriptors = Path(f"/proc/{server.pid}/fd")
        wait_until(lambda: len(list(descriptors.iterdir())) > 150, what="50 downloads with their files open")
        assert resident() - before < 16 << 20
    wait_until(lambda: len(list(descriptors.iterdir())) < 100, what="the descriptors closed")


class TestStalled:
    """A reader that takes nothing for `--send-timeout` is cut; one that takes a little is not."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, send_timeout=0.2)

    @pytest.mark.slow
    async def test_a_reader_that_takes_nothing_is_cut(self, halfway: Halfway, way_out: str) -> None:
        stalled = metrics.DOWNLOADS.labels("stalled")._value
        before = stalled.get()
        await halfway.begin()
        await asyncio.to_thread(wait_until, lambda: stalled.get() == before + 1, what="the cut")
        assert len(await halfway.rest()) < len(BIG)

    @pytest.mark.slow
    async def test_a_reader_that_takes_a_little_is_not(self, halfway: Halfway, way_out: str) -> None:
        body = (await halfway.begin()).partition(b"\r\n\r\n")[2]
        for _ in range(10):  # five times as long as the timeout
            await asyncio.sleep(0.1)
            body += await asyncio.get_running_loop().sock_recv(halfway.sock, 100_000)
        assert body + await halfway.rest() == BIG


async def test_bytes_and_ends_are_counted(http: httpx.AsyncClient, files: Path) -> None:
    sent, complete = metrics.SENT._value.get(), metrics.DOWNLOADS.labels("complete")._value.get()
    await get(http, "big.bin")
    await get(http, "small.bin")
    await get(http, "small.bin", Range="bytes=0-9")
    assert metrics.SENT._value.get() - sent == len(BIG) + len(SMALL) + 10
    assert metrics.DOWNLOADS.labels("complete")._value.get() - complete == 3
    assert "holdfast_download_bytes_total" in (await http.get("/metrics")).text


# -- the list


@pytest.fixture
async def listed(http: httpx.AsyncClient, settings: Settings) -> list[str]:
    names = ["a.csv", "b/1.csv", "b/2.csv", "b/c/3.json", "ü.txt"]
    for name in names:
        (settings.files_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (settings.files_dir / name).write_text(name)
    return names


async def test_files_are_listed_by_name_with_what_is_known_of_them(http: httpx.AsyncClient, listed: list[str]) -> None:
    await http.put("/v1/files/sent.csv", content=b"1,2\n")
    page = (await http.get("/v1/files")).json()
    assert [item["name"] for item in page["items"]] == sorted([*listed, "sent.csv"])
    assert page["next"] is None
    by_name = {item["name"]: item for item in page["items"]}
    assert by_name["b/c/3.json"]["content_type"] == "application/json"
    assert by_name["b/c/3.json"]["sha256"] is None
    sent = by_name["sent.csv"]
    assert (sent["size"], sent["sha256"]) == (4, hashlib.sha256(b"1,2\n").hexdigest())
    assert sent["etag"] == (await http.head("/v1/files/sent.csv")).headers["ETag"].strip('"')


async def test_a_list_has_a_prefix_and_pages(http: httpx.AsyncClient, listed: list[str]) -> None:
    async def names(**query: Any) -> list[str]:
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = (await http.get("/v1/files", params={**query, "cursor": cursor})).json()
            found += [item["name"] for item in page["items"]]
            assert len(page["items"]) <= query.get("limit", 100)
            cursor = page["next"]
        return found

    assert await names(prefix="b/") == ["b/1.csv", "b/2.csv", "b/c/3.json"]
    assert await names(prefix="b/c") == ["b/c/3.json"]
    assert await names(prefix="nothing") == []
    for limit in (1, 2, 3):
        assert await names(limit=limit) == listed
    assert (await http.get("/v1/files/")).json()["items"]
    for wrong in ("0", "-1", "x", "100000"):
        assert (await http.get("/v1/files", params={"limit": wrong})).status_code == 400


# -- deleting


async def test_a_list_by_level_has_files_and_prefixes(http: httpx.AsyncClient, listed: list[str]) -> None:
    (await http.put("/v1/files/b/c/.zgroup", content=b"{}")).raise_for_status()

    async def level(**query: Any) -> tuple[list[str], list[str], str | None]:
        page = (await http.get("/v1/files", params={"delimiter": "/", **query})).raise_for_status().json()
        return [item["name"] for item in page["items"]], page["prefixes"], page["next"]

    assert await level() == (["a.csv", "ü.txt"], ["b/"], None)
    assert await level(limit=2) == (["a.csv"], ["b/"], "b/")
    assert await level(limit=2, cursor="b/") == (["ü.txt"], [], None)
    assert await level(prefix="b/") == (["b/1.csv", "b/2.csv"], ["b/c/"], None)
    assert await level(prefix="b/", limit=1, cursor="b/1.csv") == (["b/2.csv"], [], "b/2.csv")
    assert await level(prefix="b") == ([], ["b/"], None)
    assert await level(prefix="b/c/") == (["b/c/.zgroup", "b/c/3.json"], [], None)
    for nowhere in ("x/", "a.csv/", "../", "b//", ".holdfast/", "/"):
        assert await level(prefix=nowhere) == ([], [], None)
    refused = await http.get("/v1/files", params={"delimiter": "|"})
    assert refused.status_code == 400
    assert "delimiter" in refused.json()["detail"]


async def test_a_file_is_deleted(http: httpx.AsyncClient, files: Path) -> None:
    answer = await http.delete("/v1/files/small.bin")
    assert (answer.status_code, answer.content) == (204, b"")
    assert not (files / "small.bin").exists()
    assert (await http.delete("/v1/files/small.bin")).status_code == 404


async def test_a_file_is_deleted_only_as_it_was_known(http: httpx.AsyncClient, files: Path) -> None:
    etag, _ = await validators(http)
    (files / "small.bin").write_bytes(b"new")
    for headers in (
        {"If-Match": etag},
        {"If-Unmodified-Since": dates.write(1_000_000_000)},
        {"If-None-Match": "*"},
    ):
        assert (await http.delete("/v1/files/small.bin", headers=headers)).status_code == 412
    assert (await http.delete("/v1/files/small.bin", headers={"If-Match": "unquoted"})).status_code == 400
    assert (files / "small.bin").read_bytes() == b"new"
    etag, _ = await validators(http)
    assert (await http.delete("/v1/files/small.bin", headers={"If-Match": etag})).status_code == 204


# -- pages of other sites


class TestOrigins:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "a.csv").write_text("1")
        return Settings(
            port=0,
            files_dir=tmp_path / "files",
            data_dir=tmp_path / "data",
            allow_origin=("https://lab.example",),
            token="t",
        )

    async def test_an_allowed_page_may_read_every_header_of_an_answer(self, http: httpx.AsyncClient) -> None:
        headers = {"Origin": "https://lab.example", "Authorization": "Bearer t"}
        for path in ("/v1/files/a.csv", "/v1/files"):
            answer = await http.get(path, headers=headers)
            assert answer.status_code == 200
            assert answer.headers["Access-Control-Allow-Origin"] == "https://lab.example"
            exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
            assert {"ETag", "Content-Range", "Accept-Ranges", "Repr-Digest", "Content-Disposition"} <= exposed

    async def test_an_allowed_page_may_ask_before_it_sends(self, http: httpx.AsyncClient) -> None:
        answer = await http.options(
            "/v1/files/a.csv", headers={"Origin": "https://lab.example", "Access-Control-Request-Method": "PUT"}
        )
        assert answer.status_code == 204
        assert "PUT" in answer.headers["Access-Control-Allow-Methods"].split(", ")
        assert {"Authorization", "Range", "If-Range", "If-Match", "Repr-Digest"} <= set(
            answer.headers["Access-Control-Allow-Headers"].split(", ")
        )

    async def test_any_other_page_may_not(self, http: httpx.AsyncClient) -> None:
        headers = {"Origin": "https://evil.example", "Authorization": "Bearer t"}
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            answer = await http.request(method, "/v1/files/a.csv", headers=headers)
            assert answer.status_code == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
        assert (await http.get("/v1/files/a.csv")).status_code == 401


async def test_dot_names_come_in_on_every_way(http: httpx.AsyncClient, files: Path) -> None:
    tus = {**TUS, "Upload-Length": "1", "Content-Type": "application/offset+octet-stream"}
    draft = {"Upload-Complete": "?1", "Content-Disposition": 'attachment; filename=".draft/.x"'}
    answers = [
        await http.put("/v1/files/.put/.x", content=b"x"),
        await http.post("/v1/uploads", headers=tus | metadata(filename=".tus/.x"), content=b"x"),
        await http.post("/v1/uploads", headers=draft, content=b"x"),
        await http.post("/upload/?file_name=.seed/.x&file_size=1", content=b"x"),
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 200], [answer.text for answer in answers]
    wanted = {f"{way}/.x" for way in (".put", ".tus", ".draft", ".seed")}
    found = (await http.get("/v1/files", params={"prefix": "."})).json()["items"]
    assert {file["name"] for file in found} == wanted
    assert (await http.get("/download/?file_name=.seed/.x")).json()["file_content"] == "x"
