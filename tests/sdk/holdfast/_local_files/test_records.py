"""Resume records: found again by their key, locked by one transfer, readable by this user alone."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from holdfast._local_files import records
from holdfast._local_files.records import CompletedFile, Ledger, RecordFile, ResumeRecord
from holdfast.errors import TransferBusy

URL = "http://127.0.0.1:8000"


def saved(folder: Path, record: ResumeRecord) -> RecordFile:
    """A record on disk, which no transfer has locked."""
    file = RecordFile(folder, record.key)
    file.take()
    file.save(record)
    file.release()
    return file


def test_the_key_of_an_upload_has_its_server_and_that_of_a_download_its_target_alone() -> None:
    upload = records.new("upload", URL, "name", "/here/a")
    assert upload.key == records.new("upload", URL + "/", "name", "/here/a").key
    assert upload.key != records.new("upload", "http://another", "name", "/here/a").key
    assert upload.key != records.new("upload", URL, "another", "/here/a").key
    download = records.new("download", URL, "name", "/here/a")
    assert download.key == records.new("download", "http://another", "another", "/here/a").key
    assert len({upload.key, download.key, records.new_folder("upload", URL, "name", "/here/a").key}) == 3


def test_keys_are_those_of_earlier_versions() -> None:
    """Their records are found again."""
    assert records.new("upload", URL, "name", "/here/a").key == "067676e473ef7a4df18ed3ff50191058"
    assert records.new("download", URL, "name", "/here/a").key == "29bd0140ef083d202695a8904c832516"
    assert records.new_folder("download", URL, "", "/here/a").key == "8ae65117f310bcabf7dca339dbf0ad0f"


def test_no_credentials_are_recorded() -> None:
    record = records.new("upload", "http://user:secret@host:8000/prefix/", "name", "/here/a")
    assert record.server == "http://host:8000/prefix"
    assert b"secret" not in msgspec.json.encode(record)


def test_a_record_is_read_as_it_was_saved(tmp_path: Path) -> None:
    record = records.new("download", URL, "name", "/here/a\udcff")
    record.size, record.done, record.etag = 100, [(0, 10), (20, 30)], "v1"
    file = saved(tmp_path, record)
    assert records.read(file.path) == record
    assert file.path.stat().st_mode & 0o077 == 0
    assert RecordFile(tmp_path, record.key).take() == record


def test_one_transfer_at_a_time_has_the_lock(tmp_path: Path) -> None:
    first, second = RecordFile(tmp_path, "key"), RecordFile(tmp_path, "key")
    assert first.take() is None
    assert (first.is_held, second.is_held) == (True, False)
    with pytest.raises(TransferBusy):
        second.take()
    first.release()
    assert second.take() is None
    second.release()
    assert [*tmp_path.iterdir()] == [], "without a record no lock is left"


def test_the_lock_stays_beside_its_record(tmp_path: Path) -> None:
    file = saved(tmp_path, records.new("upload", URL, "name", "/here/a"))
    assert len([*tmp_path.iterdir()]) == 2
    file.take()
    file.remove()
    file.release()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"not JSON", b"\xff\xfe"])
def test_other_files_are_no_records(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    assert records.read(path) is None
    assert records.read(tmp_path / "missing.json") is None


def test_a_record_of_a_later_version_is_none(tmp_path: Path) -> None:
    record = records.new("upload", URL, "name", "/here/a")
    record.version = 3
    assert records.read(saved(tmp_path, record).path) is None


def test_a_link_is_no_record(tmp_path: Path) -> None:
    file = saved(tmp_path, records.new("upload", URL, "name", "/here/a"))
    link = tmp_path / "link.json"
    link.symlink_to(file.path)
    assert records.read(link) is None


def test_pending_are_those_of_one_server_oldest_first_and_a_folder_as_one(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    old, new, foreign = (
        records.new("download", url, "n", path) for url, path in [(URL, "/a"), (URL, "/b"), ("http://x", "/c")]
    )
    old.created, new.created = now - timedelta(hours=2), now - timedelta(hours=1)
    folder = records.new_folder("download", URL, "p/", "/d")
    part = records.new("download", URL, "p/n", "/d/n")
    part.within = folder.key
    for record in (new, foreign, old, folder, part):
        saved(tmp_path, record)
    assert [record.path for record in records.pending(tmp_path, URL)] == ["/a", "/b", "/d"]
    assert [record.path for record in records.within(tmp_path, folder.key)] == ["/d/n"]
    assert (folder.prefix, records.new_folder("upload", URL, "", "/d").prefix) == ("p/", "")


def test_a_ledger_keeps_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    entry = CompletedFile.of("p/a", "v1", path)
    assert entry is not None
    assert CompletedFile.of("p/b", "v1", tmp_path / "b") is None
    ledger = Ledger(tmp_path / "key.json")
    assert ledger.read() == {}
    ledger.add(entry)
    ledger.close()
    with open(tmp_path / "key.came", "ab") as file:
        file.write(b'{"name": "cut off')
    later = msgspec.structs.replace(entry, etag="v2")
    again = Ledger(tmp_path / "key.json")
    again.add(later)
    assert again.read() == {"p/a": later}
    again.remove()
    assert not os.path.exists(tmp_path / "key.came")


def test_digests_are_kept_beside_the_record_and_go_with_it(tmp_path: Path) -> None:
    file = saved(tmp_path, records.new("download", URL, "name", "/here/a"))
    assert file.read_digests() == b""
    file.save_digests(b"a" * 32)
    file.save_digests(b"c" * 32, 64)
    assert file.read_digests() == b"a" * 32 + bytes(32) + b"c" * 32
    file.remove()
    assert file.read_digests() == b""
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".blocks"]


def test_the_start_of_the_machine_is_known() -> None:
    assert records.boot_id() == records.boot_id() != ""
