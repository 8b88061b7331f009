"""The digests of staged bytes: the same however they come, and little is read again after a restart."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.block_digests import block_digest, blocks_of
from tests.support.store_conformance import STORES
from tornado_app.files.store.hashing import SMALL, DigestChoice, RunningDigest, digest_of
from tornado_app.files.store.interface import FileDigests, FileStore, StagedData
from tornado_app.files.store.local.blocks import staged_blocks
from tornado_app.files.store.local.staged.data import LocalStagedData
from tornado_app.files.store.optional_powers import KeepsBlockDigests, ReadsStagedData

MIB = 1_048_576
DATA = random.Random(1).randbytes(3 * MIB + 12_345)


def independent(data: bytes) -> tuple[bytes, str]:
    return blocks_of(data), block_digest(data)


@pytest.fixture(params=STORES)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], FileStore]:
    return STORES[request.param](tmp_path)


def write(staged: StagedData, digest: RunningDigest, data: bytes, piece: int) -> None:
    for at in range(0, len(data), piece):
        offset = staged.offset
        part = data[at : at + piece]
        staged.write([part])
        digest.feed(offset, [part])


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, MIB - 1, MIB, MIB + 1, len(DATA)])
@pytest.mark.parametrize("piece", [300_000, len(DATA)])
def test_the_digests_are_those_of_an_independent_computation(
    open_store: Callable[[], FileStore], size: int, piece: int
) -> None:
    store = open_store()
    staged, data = store.create("up", b""), DATA[:size]
    digest = DigestChoice().of(staged)
    write(staged, digest, data, piece)
    blocks, whole = independent(data)
    found = digest.result()
    assert (found.blocks, found.block_digest) == (blocks, whole)
    assert found.sha256 == (hashlib.sha256(data).hexdigest() if size <= SMALL else None)
    asked = DigestChoice(sha256="none").of(staged, ("sha-256",))
    if isinstance(staged, ReadsStagedData):
        assert asked.result().sha256 == hashlib.sha256(data).hexdigest()
        assert digest_of(staged, "blake3-1m").hex() == whole
        assert digest_of(staged, "sha-256") == hashlib.sha256(data).digest()
    staged.close()
    store.close()


def test_only_what_is_chosen_is_made(open_store: Callable[[], FileStore]) -> None:
    store = open_store()
    staged = store.create("up", b"")
    makers = {
        "nothing": DigestChoice(blocks=False, sha256="none").of(staged),
        "asked for": DigestChoice(blocks=False, sha256="none").of(staged, ("sha-256", "blake3-1m")),
        "all": DigestChoice(sha256="all").of(staged),
        "small": DigestChoice(blocks=False).of(staged),
    }
    staged.write([DATA])
    for digest in makers.values():
        digest.feed(0, [DATA])
    sha256, (blocks, _) = hashlib.sha256(DATA).hexdigest(), independent(DATA)
    assert {name: digest.result() for name, digest in makers.items()} == {
        "nothing": FileDigests(),
        "asked for": FileDigests(sha256, blocks),
        "all": FileDigests(sha256, blocks),
        "small": FileDigests(),
    }
    staged.close()
    store.close()


@pytest.mark.parametrize("seed", range(8))
def test_cuts_and_transactions_leave_the_digests_of_what_is_there(
    open_store: Callable[[], FileStore], seed: int
) -> None:
    chance = random.Random(seed)
    store = open_store()
    staged, there = store.create("up", b""), b""
    digest = RunningDigest(staged, blocks=True, sha256=True)
    for _ in range(12):
        digest.mark()
        part = chance.randbytes(chance.choice([10, 400_000, 1_300_000]))
        keep = chance.random() < 0.6
        staged.begin()
        write(staged, digest, part, chance.choice([300_000, len(part)]))
        if keep:
            staged.commit()
            there += part
        else:
            staged.rollback()
            digest.cut(len(there))
    assert digest.result() == FileDigests(hashlib.sha256(there).hexdigest(), independent(there)[0])
    if isinstance(staged, KeepsBlockDigests):
        assert staged.kept_block_digests() == independent(there)[0][: len(there) // MIB * 32]
    staged.close()
    store.close()


class Reads:
    """Counts the bytes that are read of a local upload."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        read = LocalStagedData.read

        def counting(staged: LocalStagedData, offset: int, count: int) -> bytes:
            data = read(staged, offset, count)
            self.count += len(data)
            return data

        monkeypatch.setattr(LocalStagedData, "read", counting)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def left_by_a_dead_server(tmp_path: Path) -> FileStore:
    """A local store with all of DATA under "up", in a store of another process."""
    store = STORES["local"](tmp_path)()
    staged = store.create("up", b"")
    write(staged, DigestChoice().of(staged), DATA, 700_000)
    return STORES["local"](tmp_path)()


def digests_of_the_rest(store: FileStore, more: bytes = b"") -> FileDigests:
    staged: Any = store.load("up")
    digest = DigestChoice().of(staged)
    write(staged, digest, more, 1_000_000)
    found = digest.result()
    staged.close()
    return found


def test_less_than_a_block_is_read_again_after_a_restart(tmp_path: Path, reads: Reads) -> None:
    found = digests_of_the_rest(left_by_a_dead_server(tmp_path), b"more")
    assert found.blocks == independent(DATA + b"more")[0]
    assert reads.count < MIB


def test_digests_that_were_not_kept_are_made_again(tmp_path: Path, reads: Reads) -> None:
    store = left_by_a_dead_server(tmp_path)
    kept = tmp_path / "files/.holdfast/uploads/up/blocks"
    kept.write_bytes(kept.read_bytes()[:32] + bytes(32) + kept.read_bytes()[64:])
    assert digests_of_the_rest(store).blocks == independent(DATA)[0]
    assert reads.count == len(DATA) - MIB


def test_no_digest_of_another_boot_is_trusted(tmp_path: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    store = left_by_a_dead_server(tmp_path)
    with (tmp_path / "files/.holdfast/uploads/up/data").open("r+b") as data:
        data.write(b"bytes that a power cut has lost")
    there = (tmp_path / "files/.holdfast/uploads/up/data").read_bytes()
    monkeypatch.setattr(staged_blocks, "BOOT", b"another")
    assert digests_of_the_rest(store).blocks == independent(there)[0]
    assert reads.count == len(DATA)
    reads.count = 0
    assert digests_of_the_rest(store).blocks == independent(there)[0]
    assert reads.count == len(DATA) % MIB  # they are of this boot now


def test_bytes_that_are_gone_take_their_digests_along(tmp_path: Path) -> None:
    store = left_by_a_dead_server(tmp_path)
    folder = tmp_path / "files/.holdfast/uploads/up"
    os.truncate(folder / "data", 2 * MIB + 5)
    (folder / "trial").write_text(str(MIB + 5))  # a transaction was open
    assert digests_of_the_rest(store, b"x" * MIB).blocks == independent(DATA[: MIB + 5] + b"x" * MIB)[0]


def test_a_full_disk_keeps_no_digests_and_the_bytes_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staged_blocks.StagedBlocks, "write", full)
    store = left_by_a_dead_server(tmp_path)
    assert not (tmp_path / "files/.holdfast/uploads/up/blocks").exists()
    assert digests_of_the_rest(store).blocks == independent(DATA)[0]
