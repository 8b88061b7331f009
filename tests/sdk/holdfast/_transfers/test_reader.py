"""`client.files.open`: a file of the server as if it were here."""

from __future__ import annotations

import csv
import io
import random
import uuid
import zipfile
from collections.abc import Callable

import httpx
import pytest

import holdfast
from holdfast import errors
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess

pytestmark = pytest.mark.slow

MIB = 1 << 20


@pytest.fixture
def data(client: holdfast.Client) -> tuple[str, bytes]:
    name, data = uuid.uuid4().hex, random.Random(5).randbytes(3 * MIB + 17)
    client.files.write(name, data)
    return name, data


def test_reads_seeks_and_tells_like_a_file_here(client: holdfast.Client, data: tuple[str, bytes]) -> None:
    name, content = data
    here, rng = io.BytesIO(content), random.Random(1)
    with client.files.open(name) as there:
        assert there.seekable()
        assert there.readable()
        assert not there.writable()
        for _ in range(60):
            if rng.random() < 0.4:
                offset, whence = rng.choice([(rng.randrange(len(content) + 10), 0), (rng.randrange(999), 1), (-3, 2)])
                assert there.seek(offset, whence) == here.seek(offset, whence)
            size = rng.choice([0, 1, 100, 5000, 70_000, MIB])
            assert there.read(size) == here.read(size)
            assert there.tell() == here.tell()
        there.seek(0)
        assert there.read() == content
    with pytest.raises(ValueError, match="closed"):
        there.read(1)


def test_impossible_places_are_errors(client: holdfast.Client, data: tuple[str, bytes]) -> None:
    with client.files.open(data[0]) as there:
        with pytest.raises(ValueError, match="before the start"):
            there.raw.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            there.raw.seek(0, 7)
    with pytest.raises(errors.NotFound):
        client.files.open("nowhere")
    client.files.write("nothing", b"", overwrite=True)
    assert client.files.open("nothing").read() == b""


def test_zipfile_reads_a_member_and_not_the_whole(client: holdfast.Client, faulty: Callable[..., FaultyProxy]) -> None:
    archive, name = io.BytesIO(), f"{uuid.uuid4().hex}.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("big", random.Random(1).randbytes(4 * MIB))
        writer.writestr("rows.csv", "a,b\n1,2\n")
    client.files.write(name, archive.getvalue())
    proxy = faulty()
    with (
        holdfast.Client(proxy.url) as through,
        zipfile.ZipFile(through.files.open(name)) as reader,
        reader.open("rows.csv") as member,
    ):
        assert list(csv.reader(io.TextIOWrapper(member))) == [["a", "b"], ["1", "2"]]
    assert proxy.bytes_down < MIB


def test_cuts_are_not_noticed(
    client: holdfast.Client, faulty: Callable[..., FaultyProxy], data: tuple[str, bytes]
) -> None:
    proxy = faulty(*[Fault(cut_down=size) for size in (10, 50_000, 300_000)])
    with holdfast.Client(proxy.url) as through:
        assert through.files.open(data[0]).read() == data[1]


def test_a_file_that_was_replaced_is_not_spliced(client: holdfast.Client, data: tuple[str, bytes]) -> None:
    there = client.files.open(data[0])
    there.read(10)
    client.files.write(data[0], data[1][::-1], overwrite=True)
    with pytest.raises(errors.RemoteChanged):
        there.read()
    client.files.delete(data[0])
    with pytest.raises(errors.RemoteChanged):
        there.read()


def test_whole_files_and_ranges_in_memory(client: holdfast.Client, data: tuple[str, bytes]) -> None:
    name, content = data
    file = client.files.info(name)
    assert (file.size, file.name) == (len(content), name)
    assert client.files.read(name) == content
    assert client.files.read(name, 5, 9, etag=file.etag) == content[5:9]
    assert client.files.read(name, len(content) - 3) == content[-3:]
    assert name in [found.name for found in client.files.list(name[:5])]
    with pytest.raises(errors.RangeNotSatisfiable):
        client.files.read(name, len(content))
    with pytest.raises(errors.PreconditionFailed):
        client.files.write(name, b"x")
    with pytest.raises(errors.PreconditionFailed):
        client.files.delete(name, etag="another")
    assert client.files.write(name, b"x", etag=file.etag).size == 1
    client.files.delete(name)
    with pytest.raises(errors.NotFound):
        client.files.info(name)


async def test_the_async_face_does_the_same(aclient: holdfast.AsyncClient, data: tuple[str, bytes]) -> None:
    name, content = data
    async with await aclient.files.open(name) as there:
        assert await there.read(10) == content[:10]
        assert there.seek(-5, io.SEEK_END) == len(content) - 5
        assert await there.read() == content[-5:]
        assert there.tell() == there.size == len(content)
        assert await there.read(5) == b""
    assert await aclient.files.read(name, 1, 3) == content[1:3]
    file = await aclient.files.write(name, b"y", overwrite=True)
    assert [found.name async for found in aclient.files.list(name)] == [file.name]
    await aclient.files.delete(name)


def test_a_proxy_that_ignores_ranges_is_an_error_and_never_other_bytes(
    served: ServerProcess, client: holdfast.Client
) -> None:
    class Ignoring(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            request.headers.pop("Range", None)
            return super().handle_request(request)

    name = uuid.uuid4().hex
    client.files.write(name, bytes(range(200)))
    for begin, end in ((5, 5), (0, 0), (9, 3)):
        assert client.files.read(name, begin, end) == b""
    with pytest.raises(ValueError, match="-5"):
        client.files.read(name, -5)
    with holdfast.Client(served.url, transport=Ignoring()) as through:
        assert through.files.read(name) == bytes(range(200))
        with pytest.raises(errors.ProtocolError, match="ignores Range"):
            through.files.read(name, 10, 20)
        file = through.files.open(name)
        file.seek(10)
        with pytest.raises(errors.ProtocolError, match="ignores Range"):
            file.read(10)
