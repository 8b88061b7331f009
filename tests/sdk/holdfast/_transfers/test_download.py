"""`client.files.download` against a real server, through a line that breaks."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import holdfast
from holdfast import errors
from holdfast._local_files import part_file, records
from holdfast._transfers.download import DownloadJob
from holdfast._transfers.handles import Transfer, TransferState
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import PATIENCE, ServerProcess, wait_until

MIB = 1 << 20

pytestmark = pytest.mark.slow

Faulty = Callable[..., FaultyProxy]


def parts(folder: Path) -> list[Path]:
    """Downloads that are not whole."""
    return [path for path in folder.iterdir() if part_file.is_private(path.name)]


class Published:
    """A file on the server, put there through it (so that its digest is known) or by hand."""

    def __init__(self, served: ServerProcess, client: holdfast.Client, size: int, *, by_hand: bool = False) -> None:
        self.name = f"{uuid.uuid4().hex}.bin"
        self.data = random.Random(size).randbytes(size)
        self.path = served.files_dir / self.name
        if by_hand:
            self.path.write_bytes(self.data)
        else:
            client.files.write(self.name, self.data)

    def replace(self, client: holdfast.Client) -> None:
        self.data = random.Random(self.name).randbytes(len(self.data))
        client.files.write(self.name, self.data, overwrite=True)


@pytest.fixture
def publish(served: ServerProcess, client: holdfast.Client) -> Callable[..., Published]:
    return lambda size, **options: Published(served, client, size, **options)


Publish = Callable[..., Published]


@pytest.mark.parametrize("size", [0, 1, 65_536, 70_000, 3 * MIB])
def test_a_file_comes_down_whole(client: holdfast.Client, publish: Publish, tmp_path: Path, size: int) -> None:
    file = publish(size)
    transfer = client.files.download(file.name, tmp_path)
    assert transfer.wait(30) == tmp_path / file.name
    assert (tmp_path / file.name).read_bytes() == file.data
    assert transfer.state is TransferState.SUCCEEDED
    assert (transfer.progress.done, transfer.progress.total, transfer.progress.fraction) == (size, size, 1.0)
    assert os.listdir(tmp_path / "state" / "transfers") == []
    assert not parts(tmp_path)


def test_a_missing_file_is_not_found_and_leaves_nothing(client: holdfast.Client, tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match=r"nowhere\.bin"):
        client.files.download("nowhere.bin", tmp_path / "new" / "x").wait(30)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("by_hand", [False, True])
def test_cuts_cost_no_byte_twice(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path, by_hand: bool
) -> None:
    file = publish(8 * MIB, by_hand=by_hand)
    # Orderly ends: a reset takes with it what is still in the buffers of the line, whoever reads.
    sizes = (100, 1000, 70_000, MIB, 2 * MIB, 100_000)
    proxy = faulty(*[Fault(cut_down=size, reset=False) for size in sizes])
    with holdfast.Client(proxy.url) as through:
        through.files.download(file.name, tmp_path, segments=1).wait(60)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert proxy.happened == 6
    assert proxy.bytes_down < len(file.data) * 1.05


def test_segments_come_at_the_same_time_and_fit(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path
) -> None:
    file = publish(40 * MIB)
    proxy = faulty(*[Fault(cut_down=size) for size in (3 * MIB, MIB, 5 * MIB, 10_000)])
    with holdfast.Client(proxy.url) as through:
        through.files.download(file.name, tmp_path, segments=4).wait(60)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert proxy.connections >= 8


def test_a_pause_is_at_once_even_on_a_line_that_stalls(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path
) -> None:
    file = publish(4 * MIB)
    proxy = faulty(Fault(stall_down=MIB))
    with holdfast.Client(proxy.url, timeout=3600) as through:
        transfer = through.files.download(file.name, tmp_path)
        proxy.wait_for(lambda p: p.happened == 1)
        wait_until(lambda: transfer.progress.done > MIB // 2)
        transfer.pause()
        assert transfer.state is TransferState.PAUSED
        stood = transfer.progress.done
        assert len(parts(tmp_path)) == 1
        with pytest.raises(errors.WaitTimeout):
            transfer.wait(0.05)
        transfer.resume()
        transfer.wait(30)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert proxy.bytes_down < len(file.data) + MIB
    assert stood < len(file.data)


def test_cancel_leaves_nothing(client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path) -> None:
    file = publish(4 * MIB)
    proxy = faulty(Fault(stall_down=MIB))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.download(file.name, tmp_path)
        wait_until(lambda: transfer.progress.done > 0)
        transfer.cancel()
    assert transfer.state is TransferState.CANCELLED
    with pytest.raises(errors.TransferCancelled):
        transfer.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert list((tmp_path / "state" / "transfers").iterdir()) == []
    transfer.cancel()
    transfer.resume()
    assert transfer.state is TransferState.CANCELLED


def recorded(path: Path) -> int:
    """Bytes that a record says are here."""
    record = records.read(path)
    return sum(end - begin for begin, end in record.done) if record is not None else 0


def test_what_has_just_begun_is_pending_already(
    client: holdfast.Client, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast._transfers.download.SAVE_INTERVAL", 1000.0)
    transfer = client.files.download(publish(4 * MIB).name, tmp_path, limit=MIB)
    wait_until(lambda: client.transfers.pending())
    assert transfer.state is TransferState.RUNNING
    transfer.cancel()
    assert client.transfers.pending() == []


def test_a_new_process_goes_on_where_a_killed_one_stopped(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path
) -> None:
    file = publish(16 * MIB)
    proxy = faulty(Fault(rate_down=6 * MIB))
    code = (
        "import sys, holdfast; c = holdfast.Client(sys.argv[1]); t = c.files.download(sys.argv[2], sys.argv[3]);"
        "print(flush=True); t.wait()"
    )
    child = subprocess.Popen([sys.executable, "-c", code, proxy.url, file.name, str(tmp_path)])
    try:
        records = tmp_path / "state" / "transfers"
        wait_until(lambda: any(recorded(path) >= 4 * MIB for path in records.glob("*.json")))
    finally:
        child.kill()
        child.wait()
    proxy.wait_for(lambda p: p.bytes_down > 0)
    with holdfast.Client(proxy.url) as through:
        [pending] = through.transfers.pending()
        assert (pending.kind, pending.name, pending.size) == ("download", file.name, len(file.data))
        before = proxy.bytes_down
        transfer = through.transfers.resume(pending)
        assert isinstance(transfer, Transfer)
        transfer.wait(60)
        assert through.transfers.pending() == []
    assert (tmp_path / file.name).read_bytes() == file.data
    assert proxy.bytes_down - before < len(file.data) - 3 * MIB


def test_a_file_that_was_replaced_on_the_way_is_never_spliced(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path
) -> None:
    file = publish(8 * MIB)
    proxy = faulty(Fault(stall_down=3 * MIB))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.download(file.name, tmp_path)
        wait_until(lambda: transfer.progress.done > MIB)
        transfer.pause()
        file.replace(client)
        transfer.resume()
        with pytest.raises(errors.RemoteChanged, match="restart=True"):
            transfer.wait(30)
        with pytest.raises(errors.RemoteChanged):
            through.files.download(file.name, tmp_path).wait(30)
        assert not (tmp_path / file.name).exists()
        through.files.download(file.name, tmp_path, restart=True).wait(30)
    assert (tmp_path / file.name).read_bytes() == file.data


def test_the_same_file_is_there_already_and_another_one_is_not_touched(
    client: holdfast.Client, publish: Publish, tmp_path: Path
) -> None:
    file = publish(MIB)
    target = tmp_path / "here.bin"
    client.files.download(file.name, target).wait(30)
    inode = target.stat().st_ino
    assert client.files.download(file.name, target).wait(30) == target
    assert target.stat().st_ino == inode
    target.write_bytes(b"mine")
    with pytest.raises(errors.LocalExists, match="overwrite=True"):
        client.files.download(file.name, target).wait(30)
    assert target.read_bytes() == b"mine"
    client.files.download(file.name, target, overwrite=True).wait(30)
    assert target.read_bytes() == file.data


def test_two_downloads_to_one_place_do_not_meet(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path
) -> None:
    file = publish(2 * MIB)
    proxy = faulty(Fault(stall_down=MIB))
    with holdfast.Client(proxy.url) as through:
        first = through.files.download(file.name, tmp_path)
        proxy.wait_for(lambda p: p.happened == 1)
        with pytest.raises(errors.TransferBusy):
            through.files.download(file.name, tmp_path).wait(30)
        first.pause()
        first.resume()
        first.wait(30)
    assert (tmp_path / file.name).read_bytes() == file.data


def test_one_that_comes_second_leaves_the_first_alone(
    client: holdfast.Client, publish: Publish, tmp_path: Path
) -> None:
    """Whatever it fetches, and whichever way it names the place."""
    one, other = publish(2 * MIB), publish(2 * MIB + 1)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    first = client.files.download(one.name, tmp_path / "folder" / "x", limit=MIB // 4)
    wait_until(lambda: first.progress.done > 0)
    for name, place in ((one.name, "folder"), (other.name, "folder"), (one.name, "link")):
        second = client.files.download(name, tmp_path / place / "x")
        with pytest.raises(errors.TransferBusy):
            second.wait(30)
    with pytest.raises(errors.TransferBusy):
        second.cancel()
    first.limit = None
    first.wait(30)
    assert (tmp_path / "folder" / "x").read_bytes() == one.data
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["x"]


def test_what_comes_to_the_place_meanwhile_is_not_replaced(
    client: holdfast.Client, publish: Publish, tmp_path: Path
) -> None:
    file, target = publish(2 * MIB), tmp_path / "x"
    transfer = client.files.download(file.name, target, limit=MIB // 4)
    wait_until(lambda: transfer.progress.done > 0)
    target.write_bytes(b"mine")
    transfer.limit = None
    with pytest.raises(errors.LocalExists, match="overwrite=True"):
        transfer.wait(30)
    assert target.read_bytes() == b"mine"
    again = client.files.download(file.name, target, overwrite=True)
    assert again.wait(30) == target
    assert target.read_bytes() == file.data


def test_downloads_with_records_in_different_places_do_not_meet(
    client: holdfast.Client, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = publish(2 * MIB)
    first = client.files.download(file.name, tmp_path, limit=MIB // 4)
    wait_until(lambda: first.progress.done > 0)
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "another"))
    client.files.download(file.name, tmp_path).wait(30)
    first.limit = None
    first.wait(30)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert not parts(tmp_path)


def test_two_files_that_take_turns_at_one_place_are_never_spliced(
    client: holdfast.Client, publish: Publish, tmp_path: Path
) -> None:
    # By hand: the server knows no digest of them, so nothing would notice at the end.
    one, other = publish(3 * MIB, by_hand=True), publish(3 * MIB + 1, by_hand=True)
    first = client.files.download(one.name, tmp_path / "x", limit=2 * MIB)
    stop = first.on_change(lambda t: t.pause() if t.progress.done > MIB else None)
    wait_until(lambda: first.state is TransferState.PAUSED)
    second = client.files.download(other.name, tmp_path / "x", limit=2 * MIB)
    second.on_change(lambda t: t.pause() if t.progress.done > 2 * MIB else None)
    wait_until(lambda: second.state is TransferState.PAUSED)
    assert [record.name for record in client.transfers.pending()] == [other.name]
    stop()
    first.limit = None
    first.resume()
    first.wait(30)
    assert (tmp_path / "x").read_bytes() == one.data
    second.cancel()  # what is there is not its own
    assert (tmp_path / "x").read_bytes() == one.data


@pytest.mark.parametrize("text", [b'{"kind":"up\xff', b"", b'{"kind":"download"}', b'[1, "'])
def test_a_record_that_can_not_be_read_is_none(
    client: holdfast.Client, publish: Publish, tmp_path: Path, state_dir: Path, text: bytes
) -> None:
    file = publish(2 * MIB)
    transfer = client.files.download(file.name, tmp_path, limit=MIB // 4)
    wait_until(lambda: transfer.progress.done > 0)
    transfer.pause()
    (record,) = (state_dir / "transfers").glob("*.json")
    record.write_bytes(text)
    assert client.transfers.pending() == []
    client.files.download(file.name, tmp_path).wait(30)
    assert (tmp_path / file.name).read_bytes() == file.data


@pytest.mark.parametrize("done", [[(0, 9 << 20)], [(-5, 10)], [(10, 5)]])
def test_a_record_that_can_not_be_true_is_none(
    client: holdfast.Client, publish: Publish, tmp_path: Path, state_dir: Path, done: list[tuple[int, int]]
) -> None:
    file = publish(2 * MIB)
    transfer = client.files.download(file.name, tmp_path, limit=MIB // 4)
    wait_until(lambda: transfer.progress.done > 0)
    transfer.pause()
    (path,) = (state_dir / "transfers").glob("*.json")
    record = records.read(path)
    assert record is not None
    record.done = done
    path.write_bytes(msgspec.json.encode(record))
    os.truncate(parts(tmp_path)[0], 9 << 20)
    client.files.download(file.name, tmp_path).wait(30)
    assert (tmp_path / file.name).read_bytes() == file.data


def test_a_rate_limit_holds(client: holdfast.Client, publish: Publish, tmp_path: Path) -> None:
    file = publish(2 * MIB)
    start = time.monotonic()
    client.files.download(file.name, tmp_path, limit=4 * MIB).wait(30)
    assert time.monotonic() - start > 0.35


def test_a_restarted_server_is_waited_for(
    spawn_server: Callable[..., ServerProcess], tmp_path: Path, faulty: Faulty
) -> None:
    server = spawn_server()
    data = random.Random(1).randbytes(6 * MIB)
    (server.files_dir / "x.bin").write_bytes(data)
    proxy = faulty(Fault(stall_down=2 * MIB), upstream=int(server.url.rpartition(":")[2]))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.download("x.bin", tmp_path / "y.bin")
        proxy.wait_for(lambda p: p.happened == 1)
        server.kill()
        proxy.cut_all()
        server.restart()
        transfer.wait(60)
    assert (tmp_path / "y.bin").read_bytes() == data


def test_a_changed_token_goes_on(spawn_server: Callable[..., ServerProcess], tmp_path: Path, faulty: Faulty) -> None:
    server = spawn_server(HOLDFAST_TOKEN="first")
    data = random.Random(2).randbytes(4 * MIB)
    (server.files_dir / "x.bin").write_bytes(data)
    proxy = faulty(Fault(stall_down=MIB), upstream=int(server.url.rpartition(":")[2]))
    with holdfast.Client(proxy.url, "first") as through:
        transfer = through.files.download("x.bin", tmp_path / "y.bin")
        proxy.wait_for(lambda p: p.happened == 1)
        server.stop()
        server.environment["HOLDFAST_TOKEN"] = "second"
        server.restart()
        proxy.cut_all()
        with pytest.raises(errors.Unauthorized):
            transfer.wait(30)
        through.token = "second"
        transfer.resume()
        transfer.wait(30)
    assert (tmp_path / "y.bin").read_bytes() == data


def test_callbacks_hear_of_progress_and_of_the_end(client: holdfast.Client, publish: Publish, tmp_path: Path) -> None:
    file = publish(3 * MIB)
    ended = threading.Event()
    heard: list[tuple[TransferState, int]] = []

    def listen(transfer: Transfer[Path]) -> None:
        heard.append((transfer.state, transfer.progress.done))
        if transfer.state is TransferState.SUCCEEDED:
            ended.set()

    transfer = client.files.download(file.name, tmp_path, limit=6 * MIB)
    stop = transfer.on_change(listen)
    transfer.limit = 7 * MIB
    assert transfer.limit == 7 * MIB
    transfer.wait(30)
    assert ended.wait(10)
    assert heard[-1] == (TransferState.SUCCEEDED, len(file.data))
    stop()
    stop()
    transfer.cancel()
    assert transfer.state is TransferState.SUCCEEDED, "what is done stays done"
    assert (tmp_path / file.name).read_bytes() == file.data
    assert any(state is TransferState.RUNNING for state, _ in heard)


async def test_the_async_face_does_the_same(
    aclient: holdfast.AsyncClient, client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path
) -> None:
    file = publish(24 * MIB)
    assert await aclient.files.download(file.name, tmp_path / "plain") == tmp_path / "plain"
    assert (tmp_path / "plain").read_bytes() == file.data
    proxy = faulty(*[Fault(cut_down=size) for size in (MIB, 100)], Fault(stall_down=2 * MIB))
    async with holdfast.AsyncClient(proxy.url) as through:
        transfer = through.files.download(file.name, tmp_path / "again", segments=3)
        while proxy.happened < 3:
            with pytest.raises(errors.WaitTimeout):
                await transfer.wait(0.05)
        await transfer.pause()
        assert transfer.state is TransferState.PAUSED
        transfer.resume()
        await transfer
        assert (tmp_path / "again").read_bytes() == file.data
        await transfer.cancel()
        assert transfer.state is TransferState.SUCCEEDED
        with pytest.raises(errors.NotFound):
            await through.files.download("nowhere", tmp_path / "x")
        proxy.add(Fault(stall_down=MIB))
        third = through.files.download(file.name, tmp_path / "third")
        await third.cancel()
        assert third.state is TransferState.CANCELLED
        assert not parts(tmp_path)


@pytest.mark.parametrize("segments", [1, 4])
@pytest.mark.parametrize("cut", [None, 5 * MIB])
def test_what_ignores_ranges_brings_the_file_in_one_stream(
    publish: Publish, served: ServerProcess, faulty: Faulty, tmp_path: Path, segments: int, cut: int | None
) -> None:
    file = publish(20 * MIB)
    faults = [Fault(forget=b"Range: ")] * 40
    if cut is not None:
        faults[0] = Fault(forget=b"Range: ", cut_down=cut)
    proxy = faulty(*faults)
    with holdfast.Client(proxy.url) as through:
        through.files.download(file.name, tmp_path, segments=segments).wait(60)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert proxy.bytes_down < 2.2 * len(file.data) + (cut or 0)


def test_what_came_in_pieces_is_gone_on_with_where_ranges_are_ignored(
    publish: Publish, faulty: Faulty, client: holdfast.Client, tmp_path: Path
) -> None:
    file = publish(24 * MIB)
    transfer = client.files.download(file.name, tmp_path, segments=4, limit=8 * MIB)
    wait_until(lambda: transfer.progress.done > 4 * MIB)
    transfer.pause()
    had = transfer.progress.done
    proxy = faulty(*[Fault(forget=b"Range: ")] * 40)
    with holdfast.Client(proxy.url) as through:
        [record] = client.transfers.pending()
        [path] = (tmp_path / "state" / "transfers").glob("*.json")
        record.server = proxy.url
        path.write_bytes(msgspec.json.encode(record))
        again = through.transfers.resume(record)
        wait_until(lambda: again.progress.done >= had)
        again.wait(60)
    assert (tmp_path / file.name).read_bytes() == file.data


async def test_in_async_code_what_ignores_ranges_does_too(publish: Publish, faulty: Faulty, tmp_path: Path) -> None:
    file = publish(20 * MIB)
    proxy = faulty(*[Fault(forget=b"Range: ")] * 40)
    async with holdfast.AsyncClient(proxy.url) as through:
        await through.files.download(file.name, tmp_path, segments=4)
    assert (tmp_path / file.name).read_bytes() == file.data


def test_a_body_is_read_past_h11_and_falls_back_where_it_can_not(
    client: holdfast.Client, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard of the fast path: another h11 or httpcore that keeps bytes back would show here."""
    file = publish(6 * MIB)
    raw: list[int] = []
    receive = holdfast._http._sync._SyncStream._receive  # type: ignore[attr-defined]

    def counted(self: object, connection: object, size: int) -> object:
        data = receive(self, connection, size)
        raw.append(len(data))
        return data

    monkeypatch.setattr("holdfast._http._sync._SyncStream._receive", counted)
    client.files.download(file.name, tmp_path / "fast", segments=1).wait(30)
    assert sum(raw) > 5 * MIB
    raw.clear()
    monkeypatch.setattr("holdfast._http._common.ResponseBody.may_bypass_h11", lambda self: False)
    client.files.download(file.name, tmp_path / "slow", segments=1).wait(30)
    assert not raw
    assert (tmp_path / "fast").read_bytes() == (tmp_path / "slow").read_bytes() == file.data


def test_without_an_entity_tag_a_broken_download_is_an_error(tmp_path: Path) -> None:
    """Nothing would tell whether the rest belongs to the same version."""
    import httpx

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Length": "10"}, stream=Broken())

    class Broken(httpx.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield b"half"
            raise httpx.ReadError("cut")

    with holdfast.Client("http://x", transport=httpx.MockTransport(answer), retries=3) as client:
        transfer = client.files.download("x", tmp_path / "x")
        with pytest.raises(errors.ConnectionBroken):
            transfer.wait(30)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert DownloadJob.kind == "download"


async def test_in_async_code_nothing_waits_for_bytes_on_a_line_that_stalls(
    client: holdfast.Client, publish: Publish, faulty: Faulty, tmp_path: Path
) -> None:
    file = publish(4 * MIB)
    proxy = faulty(Fault(stall_down=MIB))
    async with holdfast.AsyncClient(proxy.url, timeout=20) as through:
        transfer = through.files.download(file.name, tmp_path, segments=1)
        async with asyncio.timeout(PATIENCE):
            while transfer.progress.done < MIB - 4096:  # the head of the answer is not of the file
                await asyncio.sleep(0.01)
        await transfer.pause()
        transfer.resume()
        await transfer.wait(30)
    assert (tmp_path / file.name).read_bytes() == file.data
    assert proxy.bytes_down < len(file.data) + 64 * 1024
