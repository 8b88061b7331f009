"""`client.files.upload` against a real server, through a line that breaks."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

import holdfast
from holdfast import digests, errors
from holdfast._transfers.handles import Transfer, TransferState
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess, wait_until

MIB = 1 << 20

pytestmark = pytest.mark.slow

Faulty = Callable[..., FaultyProxy]
Make = Callable[[int], Path]


def records(tmp_path: Path) -> list[str]:
    folder = tmp_path / "state" / "transfers"
    return sorted(os.listdir(folder)) if folder.exists() else []


@pytest.mark.parametrize("size", [0, 1, 70_000, 3 * MIB])
def test_a_file_goes_up_whole(
    client: holdfast.Client, served: ServerProcess, make: Make, tmp_path: Path, size: int
) -> None:
    path = make(size)
    transfer = client.files.upload(path)
    file = transfer.wait(30)
    assert (file.name, file.size) == (path.name, size)
    assert file.block_digest == digests.of_file(path.read_bytes()).hex()
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()
    assert transfer.state is TransferState.SUCCEEDED
    assert (transfer.progress.done, transfer.progress.total) == (size, size)
    assert records(tmp_path) == []


def test_a_path_that_can_not_be_read_is_an_error_at_once(client: holdfast.Client, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        client.files.upload(tmp_path / "nowhere")
    with pytest.raises(TypeError, match="not int"):
        client.files.upload(5, "x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name="):
        client.files.upload(b"x")


def test_a_name_that_can_not_be_is_refused(client: holdfast.Client, make: Make, tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest):
        client.files.upload(make(10), "../out").wait(30)
    assert records(tmp_path) == []


def test_cuts_cost_no_byte_twice(client: holdfast.Client, served: ServerProcess, make: Make, faulty: Faulty) -> None:
    path = make(8 * MIB)
    sizes = (1000, 70_000, MIB, 2 * MIB, 100_000)
    proxy = faulty(*[Fault(when=b"PATCH ", cut_up=size, reset=False) for size in sizes])
    with holdfast.Client(proxy.url) as through:
        through.files.upload(path, segments=1).wait(60)
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()
    assert proxy.happened == len(sizes)
    assert proxy.bytes_up < 8 * MIB * 1.05


@pytest.mark.parametrize("when", [b"PUT ", b"POST ", b"PATCH ", b"HEAD "])
@pytest.mark.parametrize("size", [0, 100_000, 300_000])
def test_a_lost_answer_is_no_loss(served: ServerProcess, make: Make, faulty: Faulty, when: bytes, size: int) -> None:
    path = make(size)
    proxy = faulty(Fault(when=when, swallow_answer=True))
    with holdfast.Client(proxy.url) as through:
        file = through.files.upload(path).wait(30)
    assert file.block_digest == digests.of_file(path.read_bytes()).hex()
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()


def test_a_pause_is_at_once_even_on_a_line_that_stalls(served: ServerProcess, make: Make, faulty: Faulty) -> None:
    path = make(16 * MIB)
    proxy = faulty(Fault(when=b"PATCH ", stall_up=MIB))
    with holdfast.Client(proxy.url, timeout=3600) as through:
        transfer = through.files.upload(path, segments=1)
        proxy.wait_for(lambda p: p.happened == 1)
        transfer.pause()
        assert transfer.state is TransferState.PAUSED
        assert [record.name for record in through.transfers.pending()] == [path.name]
        transfer.resume()
        transfer.wait(30)
        assert through.transfers.pending() == []
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()


def test_cancel_leaves_nothing_on_either_side(
    client: holdfast.Client, served: ServerProcess, make: Make, faulty: Faulty, tmp_path: Path
) -> None:
    path = make(4 * MIB)
    proxy = faulty(Fault(when=b"PATCH ", stall_up=MIB))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path)
        proxy.wait_for(lambda p: p.happened == 1)
        transfer.cancel()
        with pytest.raises(errors.TransferCancelled):
            transfer.wait()
        assert path.name not in [upload.name for upload in through.files.uploads()]
    assert records(tmp_path) == []
    assert not (served.files_dir / path.name).exists()


def test_a_new_process_goes_on_where_a_killed_one_stopped(
    served: ServerProcess, make: Make, faulty: Faulty, tmp_path: Path
) -> None:
    path = make(16 * MIB)
    proxy = faulty(Fault(when=b"PATCH ", rate_up=8 * MIB))
    code = "import sys, holdfast; holdfast.Client(sys.argv[1]).files.upload(sys.argv[2], segments=1).wait()"
    child = subprocess.Popen([sys.executable, "-c", code, proxy.url, str(path)])
    try:
        proxy.wait_for(lambda p: p.bytes_up > 8 * MIB)
    finally:
        child.kill()
        child.wait()
    with holdfast.Client(proxy.url) as through:
        [pending] = through.transfers.pending()
        assert (pending.kind, pending.name, pending.size) == ("upload", path.name, 16 * MIB)
        before = proxy.bytes_up
        transfer = through.transfers.resume(pending)
        assert isinstance(transfer, Transfer)
        transfer.wait(60)
        assert proxy.bytes_up - before < 12 * MIB
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()


def test_a_local_file_that_changed_is_never_spliced(
    served: ServerProcess, make: Make, faulty: Faulty, tmp_path: Path
) -> None:
    path = make(4 * MIB)
    proxy = faulty(Fault(when=b"PATCH ", stall_up=3 * MIB))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path)
        proxy.wait_for(lambda p: p.happened == 1)
        wait_until(lambda: any(u.name == path.name and u.offset > 2 * MIB for u in through.files.uploads()))
        transfer.pause()
        path.write_bytes(random.Random(7).randbytes(4 * MIB))
        transfer.resume()
        with pytest.raises(errors.LocalChanged, match="restart=True"):
            transfer.wait(30)
        with pytest.raises(errors.LocalChanged, match="restart=True"):
            through.files.upload(path).wait(30)
        through.files.upload(path, restart=True).wait(30)
        assert path.name not in [upload.name for upload in through.files.uploads() if not upload.complete]
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()


def test_the_same_content_is_done_at_once_and_another_is_not_replaced(
    client: holdfast.Client, served: ServerProcess, make: Make, tmp_path: Path
) -> None:
    path = make(MIB)
    client.files.upload(path).wait(30)
    inode = (served.files_dir / path.name).stat().st_ino
    again = client.files.upload(path)
    assert again.wait(30).size == MIB
    assert again.progress.done == MIB
    assert (served.files_dir / path.name).stat().st_ino == inode
    other = make(2 * MIB)
    with pytest.raises(errors.FileExists):
        client.files.upload(other, path.name).wait(30)
    assert (served.files_dir / path.name).stat().st_ino == inode
    client.files.upload(other, path.name, overwrite=True).wait(30)
    assert (served.files_dir / path.name).read_bytes() == other.read_bytes()
    client.files.upload(path, path.name, overwrite=True, segments=2).wait(30)
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()


def unseekable(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), 100_000):
        yield data[at : at + 100_000]


@pytest.mark.parametrize("size", [0, 5, 20 * MIB])
def test_bytes_files_and_iterators_go_up_over_cuts(served: ServerProcess, faulty: Faulty, size: int) -> None:
    data = random.Random(size).randbytes(size)
    contents: list[object] = [data, bytearray(data), io.BytesIO(b"skip" + data), unseekable(data)]
    contents[2].seek(4)  # type: ignore[attr-defined]
    for content in contents:
        name = uuid.uuid4().hex
        proxy = faulty(*[Fault(when=b"PATCH ", cut_up=cut) for cut in (70_000, 3 * MIB)])
        with holdfast.Client(proxy.url) as through:
            file = through.files.upload(content, name).wait(60)  # type: ignore[arg-type]
        assert file.size == size
        assert (served.files_dir / name).read_bytes() == data


@pytest.mark.parametrize("cut", [Fault(), Fault(when=b"PATCH ", cut_up=3 * MIB)])
def test_an_iterator_is_paused_and_gone_on_with(
    client: holdfast.Client, served: ServerProcess, faulty: Faulty, cut: Fault
) -> None:
    data, name = random.Random(3).randbytes(20 * MIB), uuid.uuid4().hex
    proxy = faulty(cut, Fault(when=b"PATCH ", stall_up=2 * MIB), Fault(when=b"PATCH ", stall_up=5 * MIB))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(unseekable(data), name)
        for times in (1, 2):
            proxy.wait_for(lambda p, wanted=times: p.happened >= wanted + (cut.cut_up is not None))
            transfer.pause()
            assert transfer.state is TransferState.PAUSED
            transfer.resume()
        file = transfer.wait(30)
    assert (served.files_dir / name).read_bytes() == data
    assert file.block_digest == digests.of_file(data).hex()
    assert [upload.name for upload in client.files.uploads()].count(name) <= 1


def test_an_iterator_that_has_failed_is_never_taken_for_one_that_has_ended(
    client: holdfast.Client, served: ServerProcess
) -> None:
    def pieces() -> Iterator[bytes]:
        yield bytes(3000)
        raise RuntimeError("mine")

    name = uuid.uuid4().hex
    transfer = client.files.upload(pieces(), name)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="mine"):
            transfer.wait(30)
        transfer.resume()
    with pytest.raises(RuntimeError, match="mine"):
        transfer.wait(30)
    assert not (served.files_dir / name).exists()
    transfer.cancel()


def test_what_is_text_is_refused_with_what_would_do(client: holdfast.Client, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("text")
    with (tmp_path / "x.txt").open() as file, pytest.raises(TypeError, match='mode "rb"'):
        client.files.upload(file)
    with pytest.raises(TypeError, match="Encode it"):
        client.files.upload(["a"], "x").wait(30)  # type: ignore[list-item]
    with tempfile.NamedTemporaryFile("w+") as wrapped:
        wrapped.write("text")
        wrapped.seek(0)
        with pytest.raises(TypeError, match="binary mode"):
            client.files.upload(wrapped, "x").wait(30)  # type: ignore[arg-type]


def test_what_can_not_be_meant_is_refused_at_once(client: holdfast.Client, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="upload_folder"):
        client.files.upload(tmp_path)
    for limit in (0, -1):
        with pytest.raises(ValueError, match="more than 0"):
            client.files.upload(b"x", "x", limit=limit)
    for data in ("text", None, 5):
        with pytest.raises(TypeError, match="bytes-like"):
            client.files.write("x", data)  # type: ignore[arg-type]
    assert client.files.write(uuid.uuid4().hex, bytearray(b"abc")).size == 3


def test_short_reads_of_a_file_lose_nothing(client: holdfast.Client, served: ServerProcess) -> None:
    class Raw(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(1000, size) if size is not None and size >= 0 else 1000)

    data, name = random.Random(4).randbytes(100_000), uuid.uuid4().hex
    client.files.upload(Raw(data), name).wait(30)
    assert (served.files_dir / name).read_bytes() == data


def test_a_pipe_goes_up(client: holdfast.Client, served: ServerProcess) -> None:
    name = uuid.uuid4().hex
    with subprocess.Popen(["head", "-c", "3000000", "/dev/zero"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        client.files.upload(child.stdout, name).wait(30)
    assert (served.files_dir / name).read_bytes() == bytes(3_000_000)


def test_a_rate_limit_holds(client: holdfast.Client, make: Make) -> None:
    start = time.monotonic()
    transfer = client.files.upload(make(2 * MIB), limit=4 * MIB)
    assert transfer.limit == 4 * MIB
    transfer.wait(30)
    assert time.monotonic() - start > 0.35


def test_a_restarted_server_is_waited_for(
    spawn_server: Callable[..., ServerProcess], make: Make, faulty: Faulty
) -> None:
    server = spawn_server()
    path = make(12 * MIB)
    proxy = faulty(Fault(when=b"PATCH ", stall_up=4 * MIB), upstream=int(server.url.rpartition(":")[2]))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path)
        proxy.wait_for(lambda p: p.happened == 1)
        with holdfast.Client(server.url) as direct:
            wait_until(lambda: next(direct.files.uploads()).offset >= 2 * MIB)
        before = proxy.bytes_up
        server.kill()
        proxy.cut_all()
        server.restart()
        transfer.wait(60)
    assert (server.files_dir / path.name).read_bytes() == path.read_bytes()
    assert proxy.bytes_up - before < 12 * MIB


def test_an_upload_that_the_server_has_forgotten_begins_again(
    client: holdfast.Client, served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path = make(4 * MIB)
    proxy = faulty(Fault(when=b"PATCH ", stall_up=MIB))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path)
        proxy.wait_for(lambda p: p.happened == 1)
        transfer.pause()
        [upload] = [upload for upload in through.files.uploads() if upload.name == path.name]
        httpx.delete(f"{served.url}/v1/uploads/{upload.id}", headers={"Tus-Resumable": "1.0.0"}).raise_for_status()
        transfer.resume()
        transfer.wait(30)
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()


def test_a_proxy_that_limits_bodies_gets_smaller_ones(served: ServerProcess, make: Make) -> None:
    """Answer as nginx does with `client_max_body_size 300k`."""
    largest = 300_000
    seen: list[int] = []

    class Limiting(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            length = int(request.headers.get("Content-Length", "0"))
            seen.append(length)
            if length > largest:
                return httpx.Response(413, html="<h1>413 Request Entity Too Large</h1>")
            return super().handle_request(request)

    path, name = make(2 * MIB), uuid.uuid4().hex
    with holdfast.Client(served.url, transport=Limiting()) as through:
        through.files.upload(path).wait(30)
        through.files.upload(unseekable(path.read_bytes()), name).wait(30)
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()
    assert (served.files_dir / name).read_bytes() == path.read_bytes()
    assert max(size for size in seen if size <= largest) > largest / 2


def test_an_upload_that_is_too_large_is_refused_before_it_is_sent(
    spawn_server: Callable[..., ServerProcess], make: Make
) -> None:
    server = spawn_server("--max-upload-size", "1000000")
    with holdfast.Client(server.url) as client, pytest.raises(errors.TooLarge, match="1000000"):
        client.files.upload(make(2 * MIB)).wait(30)


async def test_the_async_face_does_the_same(
    aclient: holdfast.AsyncClient, served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path, proxy = make(20 * MIB), faulty(Fault(when=b"PUT ", cut_up=MIB), Fault(when=b"PUT ", stall_up=2 * MIB))
    async with holdfast.AsyncClient(proxy.url) as through:
        transfer = through.files.upload(path, segments=2)
        while proxy.happened < 2:
            with pytest.raises(errors.WaitTimeout):
                await transfer.wait(0.05)
        await transfer.pause()
        assert transfer.state is TransferState.PAUSED
        transfer.resume()
        file = await transfer
        assert file.size == 20 * MIB
        assert (served.files_dir / path.name).read_bytes() == path.read_bytes()
        proxy.add(Fault(when=b"PATCH ", stall_up=MIB))
        other = through.files.upload(unseekable(bytes(20 * MIB)), f"{path.name}.2")
        while proxy.happened < 3:
            with pytest.raises(errors.WaitTimeout):
                await other.wait(0.05)
        await other.cancel()
        assert [u.name async for u in through.files.uploads() if u.name == other.name] == []
    assert (await aclient.files.info(path.name)).size == 20 * MIB


def test_a_client_in_another_thread_sees_what_it_moves(client: holdfast.Client, make: Make) -> None:
    transfer = client.files.upload(make(2 * MIB), limit=4 * MIB)
    wait_until(lambda: transfer.progress.rate > 0)
    assert transfer.progress.left is not None
    assert repr(transfer).startswith("<Transfer upload ")
    transfer.wait(30)
