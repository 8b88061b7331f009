"""Uploads by blocks: over several connections into their places, of changes alone, and of content that is known."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import holdfast
from holdfast import digests, errors
from tests.support.edits import change, touch
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess, wait_until

MIB = 1 << 20

pytestmark = pytest.mark.slow

Faulty = Callable[..., FaultyProxy]
Make = Callable[[int], Path]


def wait_for_blocks(served: ServerProcess, path: Path, size: int) -> None:
    """Return when the server has some blocks of an upload: a connection that is shut down loses what was on its way."""

    def has_some() -> bool:
        uploads = httpx.get(f"{served.url}/v1/uploads?limit=1000").json()["items"]
        [id] = [up["id"] for up in uploads if up["name"] == path.name]
        missing = httpx.get(f"{served.url}/v1/block-uploads/{id}").json()["missing"]
        return sum(end - first for first, end in missing) < size // MIB

    wait_until(has_some)


def published(served: ServerProcess, path: Path) -> bytes:
    return (served.files_dir / path.name).read_bytes()


# -- several connections


@pytest.mark.parametrize("size", [2 * MIB, 20 * MIB + 5])
def test_blocks_go_up_over_several_connections(served: ServerProcess, make: Make, faulty: Faulty, size: int) -> None:
    path = make(size)
    proxy = faulty(*[Fault(when=b"PUT ", cut_up=cut) for cut in (1_500_000, 100_000)] if size > 2 * MIB else [])
    with holdfast.Client(proxy.url) as through:
        file = through.files.upload(path, segments=4).wait(60)
        assert through.transfers.pending() == []
    assert file.block_digest == digests.of_file(path.read_bytes()).hex()
    assert published(served, path) == path.read_bytes()
    assert proxy.bytes_up < size * 1.05 + 4 * MIB


def test_nothing_is_joined(spawn_server: Callable[..., ServerProcess], make: Make) -> None:
    server, path = spawn_server(), make(32 * MIB)

    def written() -> int:
        lines = Path(f"/proc/{server.pid}/io").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))

    before = written()
    with holdfast.Client(server.url) as client:
        client.files.upload(path, segments=4).wait(60)
    assert written() - before < 1.05 * 32 * MIB


def test_a_flipped_bit_costs_one_block(served: ServerProcess, make: Make, faulty: Faulty) -> None:
    path, proxy = make(12 * MIB), faulty(Fault(when=b"PUT ", flip_up=100_000))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path, segments=3)
        transfer.wait(60)
    assert proxy.happened == 1
    assert transfer.sent == 13 * MIB
    assert published(served, path) == path.read_bytes()


def test_it_is_paused_and_goes_on_with_what_is_missing(served: ServerProcess, make: Make, faulty: Faulty) -> None:
    path = make(24 * MIB)
    proxy = faulty(*[Fault(when=b"PUT ", stall_up=2 * MIB + 100_000)] * 2)
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path, segments=2)
        proxy.wait_for(lambda p: p.happened == 2)
        wait_for_blocks(served, path, 24 * MIB)
        transfer.pause()
        assert [record.name for record in through.transfers.pending()] == [path.name]
        touch(path)
        again = through.files.upload(path, segments=2)  # as another process would
        again.wait(60)
        assert again.sent < 24 * MIB
        assert through.transfers.pending() == []
    assert published(served, path) == path.read_bytes()


def test_a_file_that_has_changed_is_refused_or_sent_where_it_has(
    served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path = make(24 * MIB)
    proxy = faulty(*[Fault(when=b"PUT ", stall_up=4 * MIB + 100_000)] * 2)
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path, segments=2)
        proxy.wait_for(lambda p: p.happened == 2)
        transfer.pause()
        change(path, 5)
        with pytest.raises(errors.LocalChanged, match="restart=True"):
            through.files.upload(path, segments=2).wait(60)
        assert not (served.files_dir / path.name).exists()
        again = through.files.upload(path, segments=2, delta=True)
        again.wait(60)
        assert again.sent < 24 * MIB
    assert published(served, path) == path.read_bytes()


def test_cancel_leaves_nothing(client: holdfast.Client, served: ServerProcess, make: Make, faulty: Faulty) -> None:
    path, proxy = make(24 * MIB), faulty(*[Fault(when=b"PUT ", stall_up=3 * MIB)] * 2)
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path, segments=2)
        proxy.wait_for(lambda p: p.happened == 2)
        transfer.cancel()
        assert through.transfers.pending() == []
    assert path.name not in [upload.name for upload in client.files.uploads()]
    assert not (served.files_dir / path.name).exists()


@pytest.mark.parametrize("victim", ["client", "server"])
def test_a_killed_client_or_server_loses_little(
    spawn_server: Callable[..., ServerProcess], make: Make, faulty: Faulty, victim: str
) -> None:
    server, path = spawn_server(), make(48 * MIB)
    slow = [Fault(when=b"PUT ", rate_up=12 * MIB)] * 3
    proxy = faulty(*slow, upstream=int(server.url.rpartition(":")[2]))
    code = "import sys, holdfast; holdfast.Client(sys.argv[1]).files.upload(sys.argv[2], segments=3).wait()"
    child = subprocess.Popen([sys.executable, "-c", code, proxy.url, str(path)])
    try:
        proxy.wait_for(lambda p: p.bytes_up > 20 * MIB)
        if victim == "server":
            server.kill()
            proxy.cut_all()
            server.restart()
            assert child.wait(60) == 0
    finally:
        child.kill()
        child.wait()
    if victim == "client":
        with holdfast.Client(proxy.url) as through:
            [pending] = through.transfers.pending()
            transfer = through.transfers.resume(pending)
            transfer.wait(60)
            assert transfer.sent < 44 * MIB
    assert (server.files_dir / path.name).read_bytes() == path.read_bytes()


# -- changes


def test_only_the_changes_are_sent(client: holdfast.Client, served: ServerProcess, make: Make) -> None:
    path = make(16 * MIB)
    client.files.upload(path).wait(60)
    change(path, 5, 9 * MIB, 9 * MIB + 100)
    with path.open("ab") as file:
        file.write(b"and more")
    transfer = client.files.upload(path, delta=True)
    file_info = transfer.wait(60)
    assert transfer.sent == 2 * MIB + 8
    assert (transfer.progress.done, file_info.size) == (16 * MIB + 8, 16 * MIB + 8)
    assert published(served, path) == path.read_bytes()
    same = client.files.upload(path, delta=True)
    assert same.wait(60).etag == file_info.etag
    assert same.sent == 0


def test_without_a_published_version_all_is_sent(client: holdfast.Client, served: ServerProcess, make: Make) -> None:
    for size in (5, 3 * MIB):
        path = make(size)
        transfer = client.files.upload(path, delta=True)
        transfer.wait(60)
        assert transfer.sent == size
        assert published(served, path) == path.read_bytes()


def test_a_version_that_was_replaced_meanwhile_is_not_overwritten(
    client: holdfast.Client, served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path = make(8 * MIB)
    client.files.upload(path).wait(60)
    change(path, MIB)
    proxy = faulty(Fault(when=b"PUT ", stall_up=300_000))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path, delta=True)
        proxy.wait_for(lambda p: p.happened == 1)
        client.files.write(path.name, b"from others", overwrite=True)
        proxy.release()
        with pytest.raises(errors.RemoteChanged, match="Upload it again"):
            transfer.wait(60)
        assert client.files.read(path.name) == b"from others"
        through.files.upload(path, delta=True).wait(60)
    assert published(served, path) == path.read_bytes()


def test_an_interrupted_delta_goes_on_in_another_process(
    client: holdfast.Client, served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path = make(16 * MIB)
    client.files.upload(path).wait(60)
    change(path, *[block * MIB for block in range(8)])
    proxy = faulty(Fault(when=b"PUT ", stall_up=3 * MIB))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path, delta=True, segments=1)
        proxy.wait_for(lambda p: p.happened == 1)
        transfer.pause()
        [pending] = through.transfers.pending()
        again = through.transfers.resume(pending)
        again.wait(60)
        assert again.sent <= 8 * MIB
    assert published(served, path) == path.read_bytes()


def test_a_plain_upload_does_not_end_an_interrupted_delta(served: ServerProcess, make: Make, faulty: Faulty) -> None:
    path = make(16 * MIB)
    with holdfast.Client(served.url) as client:
        client.files.upload(path).wait(60)
    before = path.read_bytes()
    change(path, *range(5, 16 * MIB, MIB))
    proxy = faulty(Fault(when=b"PUT ", stall_up=100_000))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path, delta=True, segments=1)
        proxy.wait_for(lambda p: p.happened == 1)
        transfer.pause()
        with pytest.raises(errors.FileExists):
            through.files.upload(path).wait(60)
        assert published(served, path) == before
        through.files.upload(path, delta=True).wait(60)
    assert published(served, path) == path.read_bytes()


def test_a_stream_has_no_delta(client: holdfast.Client) -> None:
    with pytest.raises(errors.TransferError, match="without delta"):
        client.files.upload(iter([b"x"]), uuid.uuid4().hex, delta=True).wait(60)


def test_a_folder_sends_its_changes(client: holdfast.Client, served: ServerProcess, tmp_path: Path) -> None:
    folder, prefix = tmp_path / "folder", uuid.uuid4().hex
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(random.Random(name).randbytes(4 * MIB))
    client.files.upload_folder(folder, prefix).wait(60)
    change(folder / "b", 2 * MIB)
    transfer = client.files.upload_folder(folder, prefix, delta=True)
    result = transfer.wait(60)
    assert ([file.name for file in result.sent], result.same) == ([f"{prefix}/b"], [f"{prefix}/a"])
    assert transfer.sent == MIB
    assert (served.files_dir / prefix / "b").read_bytes() == (folder / "b").read_bytes()


Edit = tuple[str, int, int]


def edited(data: bytearray, edits: list[Edit]) -> None:
    """Overwrite, insert, cut out and append, at random places."""
    for kind, at, length in edits:
        at = at % (len(data) + 1)
        if kind == "overwrite":
            data[at : at + length] = random.Random(at).randbytes(min(length, len(data) - at))
        elif kind == "insert":
            data[at:at] = random.Random(at).randbytes(length)
        elif kind == "delete":
            del data[at : at + length]
        else:
            data += random.Random(length).randbytes(length)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 5 * MIB),
    st.lists(
        st.tuples(
            st.sampled_from(["overwrite", "insert", "delete", "append"]), st.integers(0, 8 * MIB), st.integers(0, MIB)
        ),
        max_size=4,
    ),
)
def test_random_edits_arrive_and_send_no_block_that_is_there(
    client: holdfast.Client, served: ServerProcess, tmp_path: Path, size: int, edits: list[Edit]
) -> None:
    path = tmp_path / f"{uuid.uuid4().hex}.bin"
    data = bytearray(random.Random(size).randbytes(size))
    path.write_bytes(data)
    client.files.upload(path).wait(60)
    before = {digests.of_block(data[at : at + MIB]) for at in range(0, len(data), MIB)}
    edited(data, edits)
    path.write_bytes(data)
    transfer = client.files.upload(path, delta=True)
    file = transfer.wait(60)
    assert published(served, path) == data
    assert file.block_digest == digests.of_file(data).hex()
    blocks = [bytes(data[at : at + MIB]) for at in range(0, len(data), MIB)]
    assert transfer.sent <= sum(len(block) for block in blocks if digests.of_block(block) not in before)


# -- content that the server has


def test_content_that_the_server_has_is_not_sent_again(
    client: holdfast.Client, served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path, other, proxy = make(64 * MIB), f"{uuid.uuid4().hex}.bin", faulty()
    client.files.upload(path, segments=2).wait(60)
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path, other)
        file = transfer.wait(60)
        assert (transfer.sent, transfer.progress.done) == (0, 64 * MIB)
    assert proxy.bytes_up < 10_000
    assert file.name == other
    assert (served.files_dir / other).read_bytes() == path.read_bytes()
    client.files.delete(path.name)
    assert client.files.info(other).block_digest == digests.of_file(path.read_bytes()).hex()
    path.unlink()


def test_a_file_that_only_begins_as_one_that_is_known_is_sent(
    client: holdfast.Client, served: ServerProcess, make: Make
) -> None:
    path = make(64 * MIB)
    client.files.upload(path, segments=2).wait(60)
    change(path, 40 * MIB)
    transfer = client.files.upload(path, f"{path.name}.2")
    file = transfer.wait(60)
    assert transfer.sent == 64 * MIB
    assert file.block_digest == digests.of_file(path.read_bytes()).hex()


async def test_the_async_face_does_the_same(aclient: holdfast.AsyncClient, served: ServerProcess, make: Make) -> None:
    path = make(8 * MIB)
    await aclient.files.upload(path, segments=3)
    change(path, 5 * MIB)
    transfer = aclient.files.upload(path, delta=True)
    await transfer
    assert transfer.sent == MIB
    assert published(served, path) == path.read_bytes()
