"""Ranges, conditions and digests of a GET, by every rule of RFC 9110."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import time
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.block_digests import etag_of
from tests.support.downloads import BIG, SMALL, get, parts, validators
from tests.support.uploads import until
from tornado_app.files.store.local import digest_index as known_digests
from tornado_app.protocols import dates

pytestmark = pytest.mark.usefixtures("both_ways")


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
