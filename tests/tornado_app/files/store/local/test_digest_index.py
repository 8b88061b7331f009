"""A change by hand is noticed: a digest counts only for the very content that it was made of."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from holdfast.digests import BLOCK, of_block, of_file
from tests.support.servers import wait_until
from tests.support.store_conformance import put, sha256
from tornado_app.files.store.interface import FileDigests
from tornado_app.files.store.local import digest_index
from tornado_app.files.store.local import root as root_module
from tornado_app.files.store.local.digest_index import DigestIndex
from tornado_app.files.store.local.published import LocalStore


def edit(path: Path) -> None:
    """Change bytes in place so that neither size nor mtime tell of it."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"9")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_changed_file_gets_another_etag_and_loses_its_digest(root: Path, store: LocalStore) -> None:
    put(store, "a", b"12345")
    before = store.stat("a")
    (root / "a").write_text("54321")
    after = store.stat("a")
    assert before.sha256 == sha256(b"12345")
    assert after.sha256 is None
    assert after.etag != before.etag


def test_an_edit_that_keeps_size_and_mtime_gets_another_etag(root: Path, store: LocalStore) -> None:
    (root / "by-hand").write_text("12345")
    put(store, "put", b"12345")
    for name in ("by-hand", "put"):
        before, reader = store.stat(name), store.open(name)
        edit(root / name)
        assert reader.changed()
        reader.close()
        again = LocalStore(root)
        for found in (store.stat(name), again.stat(name), *store.listing(name), store.check_target(name)):
            assert found is not None
            assert (found.size, found.modified_ns) == (before.size, before.modified_ns)
            assert (found.sha256, found.unconfirmed) == (None, None)
            assert found.etag != before.etag
        again.close()


@pytest.mark.parametrize("change", ["chmod", "rename", "link", "unlink", "times"])
def test_a_change_that_keeps_the_content_keeps_the_etag_of_what_the_server_wrote(
    root: Path, store: LocalStore, change: str
) -> None:
    put(store, "a", b"12345")
    before = store.stat("a")
    reader = store.open("a")
    path, other = root / "a", root / "b"
    if change == "chmod":
        path.chmod(0o600)
    elif change == "rename":
        path.rename(other)
        other.rename(path)
    elif change == "times":
        os.utime(path, ns=(0, before.modified_ns))
    else:
        other.hardlink_to(path)
    if change == "unlink":
        other.unlink()
    assert store.listing("a") == [before]
    assert store.stat("a") == before
    assert reader.changed() == (change in ("rename", "times", "unlink"))  # nothing shows that it was no edit
    reader.close()
    edit(path)
    assert store.stat("a").sha256 is None


def test_what_is_big_is_read_anew_in_the_background(
    root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest_index, "AT_ONCE", 3)
    monkeypatch.setattr(root_module, "LISTED_AT_ONCE", 3)
    for name in ("same", "edited"):
        put(store, name, b"12345")
    same, edited = store.stat("same"), store.stat("edited")
    go_on = threading.Event()
    verify = DigestIndex.verify
    monkeypatch.setattr(DigestIndex, "verify", lambda *args: (go_on.wait(60), verify(*args))[1])
    (root / "same").chmod(0o600)
    edit(root / "edited")
    for name, before in (("same", same), ("edited", edited)):
        for found in (store.stat(name), *store.listing(name)):
            assert (found.sha256, found.unconfirmed) == (None, before.etag)
            assert found.etag != before.etag
    go_on.set()
    wait_until(lambda: store.stat("same") == same, what="the digest is confirmed")
    wait_until(lambda: store.stat("edited").unconfirmed is None, what="the digest is refuted")
    assert store.stat("edited").sha256 is None


def test_a_digest_that_an_earlier_version_noted_is_confirmed(root: Path, store: LocalStore) -> None:
    for name in ("same", "edited"):
        put(store, name, b"12345")
        status = (root / name).stat()
        note = root / ".holdfast/digests" / f"{status.st_ino:x}"
        note.write_text(f"{status.st_size} {status.st_mtime_ns} {sha256(b'12345')}\n")
    edit(root / "edited")
    again = LocalStore(root)
    assert again.stat("same").sha256 == sha256(b"12345")
    assert again.stat("edited").sha256 is None
    again.close()


@pytest.mark.parametrize("is_edited", [False, True])
@pytest.mark.parametrize("known", ["block digest", "both"])
def test_a_record_is_confirmed_by_the_block_digest_where_it_is_known(
    root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch, known: str, is_edited: bool
) -> None:
    data = bytes(BLOCK) + b"12345"
    blocks = of_block(data[:BLOCK]) + of_block(data[BLOCK:])
    staged = store.create("up", b"")
    staged.write([data])
    before = staged.publish("a", FileDigests(sha256(data) if known == "both" else None, blocks))
    (root / "a").chmod(0o600)
    if is_edited:
        edit(root / "a")

    def no_sha256(*args: object) -> None:
        raise AssertionError("a file was read for its SHA-256")

    monkeypatch.setattr(digest_index.hashlib, "sha256", no_sha256)
    again = LocalStore(root)
    after = again.stat("a")
    reader = again.open("a")
    if is_edited:
        assert (after.sha256, after.block_digest, after.unconfirmed) == (None, None, None)
        assert after.etag != before.etag
        assert again.block_digests(reader) is None
        assert os.listdir(root / ".holdfast/digests") == []
    else:
        assert after == before
        assert again.block_digests(reader) == blocks
    reader.close()
    again.close()


def test_a_record_of_an_earlier_version_keeps_its_etag_and_learns_the_block_digest(
    root: Path, store: LocalStore
) -> None:
    for name in ("a", "b"):
        (root / name).write_bytes(b"12345")
    digest = sha256(b"12345")
    status = (root / "a").stat()
    note = root / ".holdfast/digests" / f"{status.st_ino:x}"
    note.write_text(f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {digest}\n")
    reader = store.open_for_digest("a")
    assert (reader.stat.etag, reader.stat.sha256, reader.stat.block_digest) == (digest, digest, None)
    found = store.record_digests(reader, FileDigests(None, of_block(b"12345")))
    reader.close()
    again = LocalStore(root)
    assert found is not None
    assert again.stat("a") == found
    assert (found.etag, found.sha256, found.block_digest) == (digest, digest, of_file(b"12345").hex())
    again.close()


def test_a_digest_that_becomes_known_of_a_file_put_by_hand_keeps_its_etag_over_a_chmod(
    root: Path, store: LocalStore
) -> None:
    (root / "a").write_bytes(b"12345")
    reader = store.open_for_digest("a")
    store.record_digests(reader, FileDigests(sha256(b"12345")))
    reader.close()
    (root / "a").chmod(0o600)
    assert store.stat("a").etag == reader.stat.etag
    edit(root / "a")
    assert store.stat("a").etag != reader.stat.etag


def test_block_digests_that_are_not_the_records_count_for_nothing(root: Path, store: LocalStore) -> None:
    data = bytes(BLOCK + 1)
    staged = store.create("up", b"")
    staged.write([data])
    stat = staged.publish("a", FileDigests(None, of_block(data[:BLOCK]) + of_block(b"\0")))
    kept = root / ".holdfast/digests" / f"{(root / 'a').stat().st_ino:x}.blocks"
    for spoilt in (kept.read_bytes()[:32], bytes(64), b""):
        kept.write_bytes(spoilt)
        reader = store.open("a")
        assert store.block_digests(reader) is None
        assert reader.stat == stat
        reader.close()


def test_digests_survive_a_restart(root: Path, store: LocalStore) -> None:
    put(store, "a", b"12345")
    again = LocalStore(root)
    assert again.stat("a") == store.stat("a")
    again.close()


def test_a_spoilt_digest_note_counts_for_nothing(root: Path, store: LocalStore) -> None:
    put(store, "a", b"12345")
    note = root / ".holdfast/digests" / f"{(root / 'a').stat().st_ino:x}"
    for spoilt in (b"", b"5 6", b"\xff\xfe", note.read_bytes()[:30]):
        note.write_bytes(spoilt)
        again = LocalStore(root)
        assert again.stat("a").sha256 is None
        again.close()


def test_no_digest_note_outlives_its_file(root: Path, store: LocalStore) -> None:
    for number in range(5):
        put(store, "a", b"%d" % number)
    assert len(os.listdir(root / ".holdfast/digests")) == 1
    staged = store.create("up", b"")
    staged.write([bytes(BLOCK + 1)])
    staged.publish("a", FileDigests(None, of_block(bytes(BLOCK)) + of_block(b"\0")))
    assert len(os.listdir(root / ".holdfast/digests")) == 2
    store.delete("a")
    assert os.listdir(root / ".holdfast/digests") == []
