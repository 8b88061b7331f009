"""Uploads over one connection: verified by blocks in line, mended block by block, and resumed with proof."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import holdfast
from holdfast import digests, errors
from holdfast._local_files.sources import FileSource
from tests.support.edits import change, touch
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess, wait_until

MIB = 1 << 20

pytestmark = pytest.mark.slow

Faulty = Callable[..., FaultyProxy]
Make = Callable[[int], Path]


def stopped(proxy: FaultyProxy, client: holdfast.Client, path: Path, at: int, **options: bool) -> holdfast.Transfer:
    """Begin an upload, and pause it on a connection that stalls after `at` bytes."""
    happened = proxy.happened
    proxy.add(Fault(when=b"PATCH ", stall_up=at))
    transfer = client.files.upload(path, segments=1, **options)
    proxy.wait_for(lambda p: p.happened > happened)
    wait_until(lambda: any(u.name == path.name and u.offset >= at - 2 * MIB for u in client.files.uploads()))
    transfer.pause()
    return transfer


@pytest.mark.parametrize("size", [300_000, 5 * MIB, 5 * MIB + 77])
def test_an_upload_is_verified_by_its_blocks(client: holdfast.Client, make: Make, size: int) -> None:
    path = make(size)
    file = client.files.upload(path, segments=1).wait(60)
    assert file.block_digest == digests.of_file(path.read_bytes()).hex()


@pytest.mark.parametrize("at", [100_000, 5 * MIB, 8 * MIB - 1000])
def test_a_flipped_bit_costs_one_block(served: ServerProcess, make: Make, faulty: Faulty, at: int) -> None:
    path = make(8 * MIB)
    proxy = faulty(Fault(when=b"PATCH ", flip_up=at))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path, segments=1)
        transfer.wait(60)
    assert proxy.happened == 1
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()
    assert transfer.sent == 9 * MIB
    assert proxy.bytes_up < 9 * MIB + 20_000


def test_a_flipped_bit_of_a_small_file_or_a_stream_is_found(
    client: holdfast.Client, served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path = make(200_000)
    proxy = faulty(Fault(when=b"PUT ", flip_up=100_000), Fault(when=b"PATCH ", flip_up=100_000))
    with holdfast.Client(proxy.url) as through:
        through.files.upload(path).wait(60)
        assert (served.files_dir / path.name).read_bytes() == path.read_bytes()
        with pytest.raises(errors.DigestMismatch, match="Upload from a path"):
            through.files.upload(iter([bytes(3 * MIB)]), f"{path.name}.stream").wait(60)
    assert proxy.happened == 2
    assert not (served.files_dir / f"{path.name}.stream").exists()


def test_blocks_that_always_arrive_changed_are_an_error(
    client: holdfast.Client, served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path = make(3 * MIB)
    flips = [Fault(when=when, flip_up=100_000) for when in (b"PATCH ", *[b"PUT "] * 10)]
    proxy = faulty(*flips)
    with holdfast.Client(proxy.url) as through, pytest.raises(errors.DigestMismatch, match="Check the network"):
        through.files.upload(path, segments=1).wait(60)
    assert not (served.files_dir / path.name).exists()


def test_a_file_that_was_only_touched_goes_on(served: ServerProcess, make: Make, faulty: Faulty) -> None:
    path, proxy = make(12 * MIB), faulty()
    with holdfast.Client(proxy.url) as through:
        stopped(proxy, through, path, 8 * MIB)
        touch(path)
        transfer = through.files.upload(path, segments=1)  # as another process would
        transfer.wait(60)
        assert transfer.sent < 8 * MIB
        assert through.transfers.pending() == []
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()


def test_a_file_that_has_changed_is_refused_or_sent_where_it_has(
    served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path, proxy = make(12 * MIB), faulty()
    with holdfast.Client(proxy.url) as through:
        transfer = stopped(proxy, through, path, 8 * MIB, delta=True)
        sent = transfer.sent
        change(path, MIB + 5, 3 * MIB)
        with pytest.raises(errors.LocalChanged, match="restart=True"):
            through.files.upload(path, segments=1).wait(60)
        assert not (served.files_dir / path.name).exists()
        transfer.resume()
        transfer.wait(60)
        assert transfer.sent - sent < (12 - 5 + 2) * MIB
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()


def test_a_change_that_leaves_the_time_as_it_was_is_found_at_the_end(
    served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path, proxy = make(12 * MIB), faulty()
    with holdfast.Client(proxy.url) as through:
        stopped(proxy, through, path, 8 * MIB)
        before = path.stat()
        change(path, 2 * MIB)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(errors.LocalChanged):
            through.files.upload(path, segments=1).wait(60)
    assert not (served.files_dir / path.name).exists()


def test_a_file_that_changes_while_it_is_sent_is_never_published(
    served: ServerProcess, make: Make, faulty: Faulty
) -> None:
    path = make(12 * MIB)
    proxy = faulty(Fault(when=b"PATCH ", rate_up=16 * MIB))
    with holdfast.Client(proxy.url) as through:
        transfer = through.files.upload(path, segments=1)
        proxy.wait_for(lambda p: p.bytes_up > 2 * MIB)
        change(path, MIB)
        with pytest.raises(errors.LocalChanged):
            transfer.wait(60)
    assert not (served.files_dir / path.name).exists()


def test_every_block_is_hashed_once_over_cuts_and_read_twice_at_most(
    served: ServerProcess, make: Make, faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, hashed = make(8 * MIB), []
    of_block = digests.of_block

    def counted(data: bytes) -> bytes:
        hashed.append(len(data))
        return of_block(data)

    monkeypatch.setattr(digests, "of_block", counted)
    proxy = faulty(*[Fault(when=b"PATCH ", cut_up=size, reset=False) for size in (2 * MIB, 100_000, 3 * MIB)])
    with holdfast.Client(proxy.url) as through:
        through.files.upload(path, segments=1).wait(60)
    assert sum(hashed) <= 8 * MIB
    assert (served.files_dir / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("victim", ["client", "server"])
def test_a_killed_client_or_server_loses_little_and_the_content_is_proved(
    spawn_server: Callable[..., ServerProcess], make: Make, faulty: Faulty, victim: str
) -> None:
    server, path = spawn_server(), make(24 * MIB)
    proxy = faulty(Fault(when=b"PATCH ", rate_up=24 * MIB), upstream=int(server.url.rpartition(":")[2]))
    code = "import sys, holdfast; holdfast.Client(sys.argv[1]).files.upload(sys.argv[2], segments=1).wait()"
    child = subprocess.Popen([sys.executable, "-c", code, proxy.url, str(path)])
    try:
        proxy.wait_for(lambda p: p.bytes_up > 12 * MIB)
        if victim == "server":
            server.kill()
            proxy.cut_all()
            server.restart()
            assert child.wait(60) == 0
    finally:
        child.kill()
        child.wait()
    if victim == "client":
        touch(path)
        with holdfast.Client(proxy.url) as through:
            [pending] = through.transfers.pending()
            transfer = through.transfers.resume(pending)
            transfer.wait(60)
            assert transfer.sent < 18 * MIB
    assert (server.files_dir / path.name).read_bytes() == path.read_bytes()


def test_without_block_digests_sha256_verifies(
    spawn_server: Callable[..., ServerProcess], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(5 * MIB)
    unchecked = spawn_server("--no-check-uploads")
    with holdfast.Client(unchecked.url) as client:
        client.files.upload(path, segments=1).wait(60)
        client.files.upload(path, "parts.bin", segments=3).wait(60)
    assert (unchecked.files_dir / path.name).read_bytes() == path.read_bytes()
    assert (unchecked.files_dir / "parts.bin").read_bytes() == path.read_bytes()


def test_a_sdk_without_blake3_uploads_and_says_that_a_delta_needs_it(
    client: holdfast.Client, served: ServerProcess, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(5 * MIB)
    monkeypatch.setattr(digests, "AVAILABLE", False)
    client.files.upload(path, segments=1).wait(60)
    client.files.upload(path, f"{path.name}.parts", segments=3).wait(60)
    client.files.upload(iter([path.read_bytes()]), f"{path.name}.stream").wait(60)
    for name in (path.name, f"{path.name}.parts", f"{path.name}.stream"):
        assert (served.files_dir / name).read_bytes() == path.read_bytes()
    with pytest.raises(errors.TransferError, match="blake3"):
        client.files.upload(path, delta=True)


def test_a_source_is_read_once(client: holdfast.Client, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path, count = make(16 * MIB), 0
    read, read_into = FileSource.read, FileSource.read_into

    def counted(source: FileSource, offset: int, size: int) -> bytes:
        nonlocal count
        data = read(source, offset, size)
        count += len(data)
        return data

    def counted_into(source: FileSource, offset: int, buffer: memoryview) -> int:
        nonlocal count
        found = read_into(source, offset, buffer)
        count += found
        return found

    monkeypatch.setattr(FileSource, "read", counted)
    monkeypatch.setattr(FileSource, "read_into", counted_into)
    client.files.upload(path, segments=1).wait(60)
    assert count <= 17 * MIB + 70_000  # the last block is read before its digest is sent, and the head for the record


def test_a_retry_does_not_wait_for_the_end(served: ServerProcess, make: Make, faulty: Faulty) -> None:
    path, proxy = make(4 * MIB), faulty(*[Fault(when=b"Block-Digest", swallow_answer=True)] * 2)
    start = time.monotonic()
    with holdfast.Client(proxy.url) as through:
        file = through.files.upload(path, segments=1).wait(60)
    assert file.block_digest == digests.of_file(path.read_bytes()).hex()
    assert proxy.happened == 2
    assert time.monotonic() - start < 30
    assert random.Random(4 * MIB).randbytes(MIB) == (served.files_dir / path.name).read_bytes()[:MIB]
