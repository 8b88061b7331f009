"""A download is verified by blocks as it arrives: a wrong block is fetched again, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import random
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest

import holdfast
from holdfast import digests, errors, wire
from holdfast._local_files import part_file, records
from holdfast._transfers.handles import TransferState
from holdfast.digests import BLOCK
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import wait_until

MIB = 1 << 20
HEADERS = 2000  # more than the headers of an answer have

Faulty = Callable[..., FaultyProxy]


class Published:
    """A file on the server, which knows the digests of its blocks."""

    def __init__(self, client: holdfast.Client, size: int) -> None:
        self.name = f"{uuid.uuid4().hex}.bin"
        self.data = random.Random(size).randbytes(size)
        client.files.upload(self.data, self.name).wait(60)


@pytest.fixture
def publish(client: holdfast.Client) -> Callable[[int], Published]:
    return lambda size: Published(client, size)


Publish = Callable[[int], Published]


@pytest.fixture
def read_back(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that were read of part files, one number for each read."""
    counts: list[int] = []
    read = part_file.PartFile.read_into

    def counted(self: part_file.PartFile, offset: int, buffer: memoryview) -> int:
        counts.append(read(self, offset, buffer))
        return counts[-1]

    monkeypatch.setattr(part_file.PartFile, "read_into", counted)
    return counts


def flip(*places: int) -> list[Fault]:
    """Faults for as many answers with bytes of a file: in each one the bit at that place of the file is flipped."""
    return [Fault(when=b"GET /v1/files/", flip_down=place + HEADERS) for place in places]


@pytest.mark.slow
def test_a_download_that_is_right_is_neither_read_again_nor_asked_about(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path, read_back: list[int]
) -> None:
    file = publish(9 * MIB + 5)
    proxy = faulty()
    with holdfast.Client(proxy.url) as through:
        through.files.download(file.name, tmp_path, segments=1).wait(30)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert read_back == []
    assert proxy.bytes_down < len(file.data) + HEADERS


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 5 * MIB, 9 * MIB + 100])
def test_a_flipped_bit_costs_one_block(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path, place: int
) -> None:
    file = publish(9 * MIB + 50_000)
    proxy = faulty(*flip(place))
    with holdfast.Client(proxy.url) as through:
        through.files.download(file.name, tmp_path, segments=1).wait(30)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert proxy.happened == 1
    assert len(file.data) < proxy.bytes_down < len(file.data) + BLOCK + 4 * HEADERS


@pytest.mark.slow
def test_of_a_file_of_one_block_that_block_is_fetched_again(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path
) -> None:
    file = publish(300_000)
    proxy = faulty(*flip(1000, 2000))
    with holdfast.Client(proxy.url) as through:
        through.files.download(file.name, tmp_path).wait(30)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert proxy.happened == 2


@pytest.mark.slow
async def test_in_async_code_too(publish: Publish, faulty: Faulty, tmp_path: Path) -> None:
    file = publish(5 * MIB)
    proxy = faulty(*flip(3 * MIB))
    async with holdfast.AsyncClient(proxy.url) as through:
        await through.files.download(file.name, tmp_path)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert proxy.happened == 1
    assert proxy.bytes_down < len(file.data) + BLOCK + 4 * HEADERS


@pytest.mark.slow
def test_bits_in_several_segments_cost_as_many_blocks(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path
) -> None:
    file = publish(24 * MIB)
    proxy = faulty(*flip(MIB, 2 * MIB))  # of two connections, hence in two segments
    with holdfast.Client(proxy.url) as through:
        through.files.download(file.name, tmp_path, segments=2).wait(30)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert proxy.happened == 2
    # An answer that is given up for a second connection leaves bytes on the way: buffers of many MiB, but not a file.
    assert proxy.bytes_down < 2 * len(file.data)


@pytest.mark.slow
def test_a_bit_before_a_pause_is_mended_after_it(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path, read_back: list[int]
) -> None:
    file = publish(8 * MIB)
    proxy = faulty(Fault(when=b"GET /v1/files/", flip_down=MIB, stall_down=4 * MIB))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.download(file.name, tmp_path, segments=1)
        wait_until(lambda: transfer.progress.done > 3 * MIB)
        transfer.pause()
    with holdfast.Client(proxy.url) as through:
        [record] = through.transfers.pending()
        through.transfers.resume(record).wait(30)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert sum(read_back) <= 2 * BLOCK, "the block at the seam, and no other"
    assert proxy.bytes_down < len(file.data) + 3 * MIB


@pytest.mark.slow
def test_after_a_kill_nothing_is_read_again_but_what_was_not_recorded(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path, read_back: list[int]
) -> None:
    file = publish(16 * MIB)
    proxy = faulty(Fault(rate_down=6 * MIB))
    code = "import sys, holdfast; holdfast.Client(sys.argv[1]).files.download(sys.argv[2], sys.argv[3]).wait()"
    folder = tmp_path / "state" / "transfers"
    child = subprocess.Popen([sys.executable, "-c", code, proxy.url, file.name, str(tmp_path)])

    def recorded() -> int:
        found = [record for path in folder.glob("*.json") if (record := records.read(path)) is not None]
        return sum(end - begin for record in found for begin, end in record.done)

    try:
        wait_until(lambda: recorded() >= 4 * MIB)
    finally:
        child.kill()
        child.wait()
    had = recorded()
    with holdfast.Client(proxy.url) as through:
        [record] = through.transfers.pending()
        through.transfers.resume(record).wait(60)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert sum(read_back) <= 2 * BLOCK < had


@pytest.mark.slow
def test_digests_are_not_trusted_after_another_has_written_to_the_part(
    client: holdfast.Client, publish: Publish, tmp_path: Path, read_back: list[int]
) -> None:
    file = publish(8 * MIB)
    transfer = client.files.download(file.name, tmp_path, limit=8 * MIB)
    wait_until(lambda: transfer.progress.done > 4 * MIB)
    transfer.pause()
    [part] = [path for path in tmp_path.iterdir() if part_file.is_private(path.name)]
    with part.open("r+b") as opened:
        opened.seek(MIB)
        opened.write(b"other")
    transfer.limit = None
    [record] = client.transfers.pending()
    client.transfers.resume(record).wait(30)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert sum(read_back) >= 3 * MIB, "all that was there before"


@pytest.mark.slow
def test_a_bit_that_always_flips_is_an_error_and_the_other_blocks_stay(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path
) -> None:
    file = publish(8 * MIB)
    proxy = faulty(*flip(3 * MIB), *flip(0, 0, 0))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.download(file.name, tmp_path, segments=1)
        with pytest.raises(errors.DigestMismatch, match=r"1 of the blocks of .* came wrong, and again 3 times"):
            transfer.wait(30)
        assert not (tmp_path / file.name).exists()
        assert transfer.state is TransferState.FAILED
        assert transfer.progress.done == 7 * MIB
        before = proxy.bytes_down
        assert before < len(file.data) + 3 * BLOCK + 8 * HEADERS
        transfer.resume()
        transfer.wait(30)
        assert proxy.bytes_down < before + BLOCK + 4 * HEADERS
    assert (tmp_path / file.name).read_bytes() == file.data


# -- servers of other versions


class Server:
    """One file, by a transport; what the server knows of it is in the headers."""

    def __init__(self, data: bytes, headers: dict[str, str], listed: wire.BlockDigests | None = None) -> None:
        self.data = data
        self.headers = {"ETag": '"1"', "Last-Modified": "Sat, 28 Nov 2026 00:00:00 GMT"} | headers
        self.listed = listed
        self.wrong: dict[int, int] = {}
        """How often the byte at a place is sent wrongly."""
        self.requests: list[httpx.Request] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path.startswith("/v1/digests/"):
            if self.listed is None:
                return httpx.Response(404, json={"title": "No such place", "status": 404})
            return httpx.Response(200, content=msgspec.json.encode(self.listed))
        headers = self.headers
        if request.headers.get("Want-Repr-Digest") and "SHA-256" in headers:
            headers = {**headers, "Repr-Digest": headers["SHA-256"]}
        begin, end = 0, len(self.data)
        if "Range" in request.headers:
            first, last = request.headers["Range"].removeprefix("bytes=").split("-")
            begin, end = int(first), int(last) + 1
            headers = {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{len(self.data)}"}
        body = bytearray(self.data[begin:end])
        for place in [place for place, times in self.wrong.items() if begin <= place < end and times]:
            body[place - begin] ^= 1
            self.wrong[place] -= 1
        headers = {**headers, "Content-Length": str(len(body))}
        content = b"" if request.method == "HEAD" else bytes(body)
        return httpx.Response(
            206 if begin or end < len(self.data) else 200, headers=headers, stream=httpx.ByteStream(content)
        )

    def client(self) -> holdfast.Client:
        return holdfast.Client("http://x", transport=httpx.MockTransport(self.answer), retries=0)


DATA = random.Random(5).randbytes(3 * MIB + 7)


def block_digest(data: bytes = DATA) -> dict[str, str]:

    return {"Block-Digest": f"blake3-1m=:{base64.b64encode(digests.of_file(data)).decode()}:"}


def sha256(data: bytes = DATA) -> str:

    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def listed(data: bytes = DATA) -> wire.BlockDigests:
    blocks = b"".join(digests.of_block(data[at : at + BLOCK]) for at in range(0, len(data), BLOCK))
    return wire.BlockDigests("x", len(data), "1", digests.of_file(data).hex(), blocks)


def test_two_wrong_blocks_are_fetched_and_nothing_between_them(tmp_path: Path) -> None:
    server = Server(DATA, block_digest(), listed())
    server.wrong = {5: 1, 3 * MIB + 3: 1}
    with server.client() as client:
        client.files.download("x", tmp_path / "x").wait(30)
    assert (tmp_path / "x").read_bytes() == DATA
    ranges = [request.headers["Range"] for request in server.requests if "Range" in request.headers]
    assert ranges == [f"bytes=0-{MIB - 1}", f"bytes={3 * MIB}-{3 * MIB + 6}"]
    assert all(request.headers["If-Match"] == '"1"' for request in server.requests[1:])
    assert not any("Want-Repr-Digest" in request.headers for request in server.requests)


def test_a_server_that_does_not_say_which_block_is_wrong_leaves_no_file(tmp_path: Path) -> None:
    server = Server(DATA, block_digest(), None)
    server.wrong = {5: 1}
    with server.client() as client, pytest.raises(errors.DigestMismatch, match=r"It was removed\. Download it again"):
        client.files.download("x", tmp_path / "x").wait(30)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_list_that_is_not_of_the_file_is_not_believed(tmp_path: Path) -> None:
    server = Server(DATA, block_digest(), listed(DATA[::-1]))
    server.wrong = {5: 1}
    with server.client() as client, pytest.raises(errors.DigestMismatch):
        client.files.download("x", tmp_path / "x").wait(30)


def test_a_file_that_was_replaced_before_a_block_could_be_mended_is_not_spliced(tmp_path: Path) -> None:
    server = Server(DATA, block_digest(), listed())
    server.wrong = {5: 1}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/v1/digests/"):
            return httpx.Response(412, json={"title": "Precondition failed", "status": 412})
        return server.answer(request)

    through = holdfast.Client("http://x", transport=httpx.MockTransport(answer), retries=0)
    with through, pytest.raises(errors.RemoteChanged):
        through.files.download("x", tmp_path / "x").wait(30)
    assert not (tmp_path / "x").exists()


def test_a_server_without_block_digests_is_verified_by_sha256(tmp_path: Path) -> None:
    server = Server(DATA, {"Repr-Digest": sha256()})
    with server.client() as client:
        client.files.download("x", tmp_path / "x").wait(30)
        server.wrong = {5: 1}
        with pytest.raises(errors.DigestMismatch, match="SHA-256"):
            client.files.download("x", tmp_path / "y").wait(30)
    assert (tmp_path / "x").read_bytes() == DATA
    assert not (tmp_path / "y").exists()


def test_a_server_without_any_digest_is_asked_for_none(tmp_path: Path) -> None:
    server = Server(DATA, {})
    with server.client() as client:
        client.files.download("x", tmp_path / "x").wait(30)
    assert (tmp_path / "x").read_bytes() == DATA
    assert [request.method for request in server.requests] == ["GET"]
    assert "Want-Repr-Digest" not in server.requests[0].headers


def test_without_blake3_the_sha256_is_asked_for_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "AVAILABLE", False)
    server = Server(DATA, block_digest() | {"SHA-256": sha256()})
    with server.client() as client:
        client.files.download("x", tmp_path / "x").wait(30)
        client.files.download("x", tmp_path / "x").wait(30)  # it is there already
        server.wrong = {5: 1}
        with pytest.raises(errors.DigestMismatch, match="SHA-256"):
            client.files.download("x", tmp_path / "y").wait(30)
    assert [request.method for request in server.requests] == ["GET", "HEAD", "HEAD", "HEAD", "GET", "HEAD"]


def test_a_target_that_is_the_same_by_its_block_digest_is_not_fetched(tmp_path: Path) -> None:
    server = Server(DATA, block_digest())
    (tmp_path / "x").write_bytes(DATA)
    (tmp_path / "y").write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:])
    with server.client() as client:
        client.files.download("x", tmp_path / "x").wait(30)
        with pytest.raises(errors.LocalExists):
            client.files.download("x", tmp_path / "y").wait(30)
        assert client.files.info("x").block_digest == digests.of_file(DATA).hex()
    assert [request.method for request in server.requests] == ["HEAD"] * 3
