"""The state of an upload, from its record and its bytes alone."""

from __future__ import annotations

import msgspec
import pytest

from tornado_app.files.store.hashing import DigestChoice
from tornado_app.files.store.interface import ABSENT, Precondition
from tornado_app.files.store.memory.store import MemoryStore
from tornado_app.files.uploads.upload import Upload, UploadRecord


def upload(record: UploadRecord, data: bytes = b"", most: int | None = None) -> Upload:
    staged = MemoryStore().create("u", b"")
    staged.write([data])
    return Upload("u", record, staged, digests=DigestChoice(), most=most)


@pytest.mark.parametrize(
    ("record", "size", "has_all", "is_ready"),
    [
        (UploadRecord("tus", "a", 0.0), 3, False, False),  # its length is not known yet
        (UploadRecord("tus", "a", 0.0, length=3), 2, False, False),
        (UploadRecord("tus", "a", 0.0, length=3), 3, True, True),
        (UploadRecord("tus", "a", 0.0, length=3, broken="it is"), 3, False, False),
        (UploadRecord("tus", None, 0.0, length=3), 3, True, False),  # a part
        (UploadRecord("draft", "a", 0.0, length=3), 3, True, False),  # its sender completes it
        (UploadRecord("blocks", "a", 0.0, length=3), 3, True, False),
    ],
)
def test_when_an_upload_has_all_and_when_it_becomes_a_file(
    record: UploadRecord, size: int, has_all: bool, is_ready: bool
) -> None:
    one = upload(record, bytes(size))
    assert (one.has_all, one.is_ready_to_publish) == (has_all, is_ready)
    assert one.has_length(size) == has_all
    assert not one.has_length(size - 1) or record.length != size


def test_the_end_is_its_length_or_the_most_that_the_server_takes() -> None:
    assert upload(UploadRecord("tus", "a", 0.0), most=7).limit == 7
    assert upload(UploadRecord("tus", "a", 0.0, length=3), most=7).limit == 3


def test_what_it_may_replace() -> None:
    record = UploadRecord("put", "a", 0.0)
    assert record.precondition == ABSENT
    record = msgspec.structs.replace(record, overwrite=True)
    assert record.precondition == Precondition()
    record = msgspec.structs.replace(record, only=["tag"], present=True)
    assert record.precondition == Precondition(etags=frozenset({"tag"}), present=True)


def test_a_record_is_small_as_it_is_stored_and_comes_back_as_it_was() -> None:
    record = UploadRecord("tus", "a", 1.5, length=3, digests={"sha-256": b"12"})
    stored = msgspec.json.encode(record)
    assert b"overwrite" not in stored
    assert msgspec.json.decode(stored, type=UploadRecord) == record
