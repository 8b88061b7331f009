"""A fetch brings the bytes that are missing, of one version, by ranges."""

from __future__ import annotations

import random
from collections.abc import Iterator

import httpx
import pytest

from holdfast import calls, errors
from holdfast._http import Connection, SyncDriver
from holdfast._transfers.fetch import SegmentFetch, Writer
from holdfast._transfers.pace import Throttle
from holdfast._transfers.segments import Segments
from holdfast.plans import Retries

DATA = random.Random(6).randbytes(9 << 20)
RETRIES = Retries(attempts=3, base=0.0)


class Local:
    """Bytes in memory."""

    def __init__(self, size: int) -> None:
        self.throttle = Throttle()
        self.data = bytearray(size)
        self.saved: list[int] = []
        self.is_due = False

    def writer(self) -> Writer:
        def write(at: int, data: bytes | memoryview) -> None:
            self.data[at : at + len(data)] = data

        return write

    def progressed(self, segments: Segments) -> bool:
        return self.is_due

    def save(self, segments: Segments) -> None:
        self.saved.append(segments.count)


class Server:
    """One file that is served by ranges; `cut` bodies break in the middle."""

    def __init__(self) -> None:
        self.etag = "1"
        self.ranges: list[str] = []
        self.has_ranges = True
        self.cuts = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.ranges.append(request.headers.get("Range", ""))
        if request.headers.get("If-Match", f'"{self.etag}"') != f'"{self.etag}"':
            return httpx.Response(412, json={"title": "Precondition failed", "status": 412})
        begin, end = 0, len(DATA)
        if self.has_ranges and self.ranges[-1]:
            first, last = self.ranges[-1].removeprefix("bytes=").split("-")
            begin, end = int(first), int(last) + 1
        headers = {"ETag": f'"{self.etag}"', "Content-Length": str(end - begin)}
        partial = (begin, end) != (0, len(DATA))
        if partial:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(DATA)}"
        self.cuts -= 1
        body = _Body(DATA[begin:end], cut=self.cuts >= 0)
        return httpx.Response(206 if partial else 200, headers=headers, stream=body)


class _Body(httpx.SyncByteStream):
    def __init__(self, data: bytes, *, cut: bool) -> None:
        self.data, self.cut = data, cut

    def __iter__(self) -> Iterator[bytes]:
        middle = len(self.data) // 2
        yield self.data[:middle]
        if self.cut:
            raise httpx.ReadError("cut")
        yield self.data[middle:]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def driver(server: Server) -> Iterator[SyncDriver]:
    found = SyncDriver(Connection("http://server"), httpx.MockTransport(server))
    yield found
    found.close()


def fetch(local: Local, etag: str = "1", connections: int | None = 1) -> SegmentFetch:
    return SegmentFetch(local, "x", etag, lambda **options: calls.get_file("x", **options), RETRIES, connections)


def test_only_what_is_missing_is_fetched(driver: SyncDriver, server: Server) -> None:
    local, segments = Local(len(DATA)), Segments(len(DATA), [(10, 5000), (6000, len(DATA))])
    driver.run(fetch(local).run(segments))
    assert server.ranges == ["bytes=0-9", "bytes=5000-5999"]
    assert local.data[:10] == DATA[:10]
    assert local.data[10:5000] == bytes(4990)
    assert local.data[5000:6000] == DATA[5000:6000]
    assert segments.count == segments.size


def test_a_broken_body_is_gone_on_with_at_the_next_byte(driver: SyncDriver, server: Server) -> None:
    server.cuts = 2
    local, segments = Local(len(DATA)), Segments(len(DATA))
    driver.run(fetch(local).run(segments))
    assert local.data == DATA
    half = len(DATA) // 2
    assert server.ranges == ["", f"bytes={half}-{len(DATA) - 1}", f"bytes={half + half // 2}-{len(DATA) - 1}"]


def test_another_version_is_never_joined(driver: SyncDriver, server: Server) -> None:
    server.etag = "2"
    local = Local(len(DATA))
    with pytest.raises(errors.RemoteChanged, match="restart=True"):
        driver.run(fetch(local).run(Segments(len(DATA), [(0, 5)])))
    assert local.data == bytes(len(DATA))


def test_without_an_entity_tag_a_broken_body_is_the_end(driver: SyncDriver, server: Server) -> None:
    server.cuts, server.etag = 1, ""
    with pytest.raises(errors.ConnectionBroken):
        driver.run(fetch(Local(len(DATA)), etag="").run(Segments(len(DATA))))


def test_what_ignores_ranges_brings_the_missing_bytes_by_the_whole(driver: SyncDriver, server: Server) -> None:
    server.has_ranges = False
    local, segments = Local(len(DATA)), Segments(len(DATA), [(0, 5000), (6000, 7000)])
    fetching = fetch(local)
    driver.run(fetching.run(segments))
    assert not fetching.ranges
    assert local.data[7000:] == DATA[7000:]
    assert local.data[:5000] == bytes(5000), "what was done is not written again"
    assert set(server.ranges[1:]) == {""}


def test_workers_share_the_file(driver: SyncDriver, server: Server) -> None:
    local, segments = Local(len(DATA)), Segments(len(DATA))
    driver.run(fetch(local, connections=2).run(segments))
    assert local.data == DATA


def test_it_saves_when_it_is_time(driver: SyncDriver) -> None:
    local, segments = Local(len(DATA)), Segments(len(DATA))
    local.is_due = True
    driver.run(fetch(local).run(segments))
    assert local.saved == [len(DATA) // 2, len(DATA)]
