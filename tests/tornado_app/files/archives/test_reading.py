"""An archive read in batches, from any store: what they hold, and what ends them."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import time
import zipfile
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tornado_app import problems
from tornado_app.files.archives import plan, reading
from tornado_app.files.archives.reading import ArchiveChangedError, ArchiveReader, FilePart
from tornado_app.files.store.interface import FileDigests, FileStore
from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.store.memory.store import MemoryStore
from tornado_app.protocols.ranges import Span

FILES = {"d/a": b"a" * 10, "d/b": b"b" * (reading.SMALL + 1), "d/sub/c": b"", "e/x": b"x"}


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path):  # type: ignore[no-untyped-def]
    opened: FileStore = LocalStore(tmp_path) if request.param == "local" else MemoryStore()
    opened.start()
    for name, content in FILES.items():
        write(opened, name, content)
    yield opened
    opened.close()


def write(store: FileStore, name: str, content: bytes, *, digested: bool = False) -> None:
    staged = store.create(os.urandom(8).hex(), b"{}")
    staged.write([content])
    staged.publish(name, FileDigests(sha256=hashlib.sha256(content).hexdigest()) if digested else FileDigests())
    staged.discard()


def reader_of(store: FileStore, made: plan.ArchivePlan, first: int = 0, last: int = -1, *, zero_copy: bool = False):  # type: ignore[no-untyped-def]
    span = Span(first, made.stat.size - 1 if last < 0 else last)
    return ArchiveReader(store, made, [span], zero_copy=zero_copy)


def drain(reader: ArchiveReader) -> bytes:
    """Return all that a reader gives."""
    found = bytearray()
    while (part := reader.next_part()) is not None:
        found += os.pread(part.fd, part.size, part.offset) if isinstance(part, FilePart) else part
    reader.close()
    return bytes(found)


@pytest.mark.parametrize("zero_copy", [True, False])
def test_batches_are_the_archive(store: FileStore, zero_copy: bool) -> None:
    made = plan.make(store, "d", "zip")
    data = drain(reader_of(store, made, zero_copy=zero_copy))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {f"d/{name}": archive.read(name) for name in archive.namelist()} == {
            name: content for name, content in FILES.items() if name.startswith("d/")
        }
    first = len(data) // 3
    assert drain(reader_of(store, made, first, first + 99, zero_copy=zero_copy)) == data[first : first + 100]


_names = st.text(st.sampled_from("abü/ "), min_size=1, max_size=20).map(
    lambda text: "n" + text.replace("/", "/n") + "n"
)
_trees = st.dictionaries(_names, st.binary(max_size=2000), min_size=1, max_size=6)


@pytest.mark.slow
@given(files=_trees, data=st.data(), format=st.sampled_from(["zip", "tar"]))
@hypothesis_settings(max_examples=40)
def test_the_same_files_make_the_same_bytes_in_any_store_and_any_range_is_a_part_of_them(
    files: dict[str, bytes], data: st.DataObject, format: str
) -> None:
    found: list[bytes] = []
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        for folder, tree in ((one, files), (other, dict(reversed(files.items())))):
            store = LocalStore(Path(folder))
            for name, content in tree.items():
                try:
                    write(store, f"d/{name}", content)
                except problems.ProblemError:  # a file stands where this one needs a folder, in one of the two orders
                    hypothesis.reject()
                os.utime(Path(folder, "d", name), (1_700_000_000, 1_700_000_000))
            made = plan.make(store, "d", format)
            found.append(drain(reader_of(store, made, zero_copy=bool(found))))
            first = data.draw(st.integers(0, made.stat.size - 1))
            last = data.draw(st.integers(first, made.stat.size - 1))
            assert drain(reader_of(store, made, first, last)) == found[-1][first : last + 1]
            store.close()
    assert found[0] == found[1]


@pytest.mark.parametrize("format", ["zip", "tar"])
def test_a_part_copies_a_limited_number_of_bytes_and_one_file_is_open(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    """Also where members were opened before, and are opened in the shortest way."""
    monkeypatch.setattr(reading, "COPIED", 1 << 18)
    for number in range(40):
        write(store, f"many/{number}", bytes(reading.SMALL + number % 2))
    write(store, "many/large", bytes((2 << 20) + 7))
    made = plan.make(store, "many", format)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        reader = reader_of(store, made, zero_copy=True)
        while (part := reader.next_part()) is not None:
            assert isinstance(part, FilePart) or len(part) <= reading.COPIED + (1 << 20) + 1024
            assert len(os.listdir("/proc/self/fd")) <= before + 2  # the member and its folder
        reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_is_open_until_its_last_part_was_sent(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where so little is left of it that it is copied, or where it was read for its CRC-32."""
    monkeypatch.setattr(reading, "BATCH", 1 << 20)
    write(store, "f/large", b"l" * ((2 << 20) + 7))
    write(store, "f/next", b"n" * (2 << 20))
    for format in ("tar", "zip"):
        made = plan.make(store, "f", format)
        whole = drain(reader_of(store, made))
        assert drain(reader_of(store, made, zero_copy=True)) == whole
        assert drain(reader_of(store, made, zero_copy=True)) == whole


def test_a_version_that_is_gone_ends_it(store: FileStore) -> None:
    for change in ("replaced", "deleted"):
        write(store, "d/b", b"b" * (reading.SMALL + 1) + change.encode())
        made = plan.make(store, "d", "tar")
        if change == "replaced":
            write(store, "d/b", b"B" * (reading.SMALL + 1) + change.encode())
        else:
            store.delete("d/b")
        reader = reader_of(store, made, zero_copy=True)
        with pytest.raises(ArchiveChangedError):
            drain(reader)
        reader.close()


def test_the_entity_tag_follows_names_contents_and_times(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    write(store, "d/a", b"1")

    def etag(format: str = "zip") -> str:
        return plan.make(store, "d", format).stat.etag

    first = etag()
    assert first == etag() != etag("tar")
    os.rename(tmp_path / "d/a", tmp_path / "d/b")
    renamed = etag()
    os.utime(tmp_path / "d/b", (5, 5))
    timed = etag()
    write(store, "d/c", b"")
    assert len({first, renamed, timed, etag()}) == 4
    store.close()


def test_a_crc_is_computed_once(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan.make(store, "d", "zip")
    drain(reader_of(store, made))
    assert [made.crc(index) is not None for index in range(3)] == [True] * 3
    data = drain(reader_of(store, made))
    opened: list[str] = []
    before = store.open
    monkeypatch.setattr(store, "open", lambda name: opened.append(name) or before(name))
    directory = data.index(b"PK\1\2")
    assert drain(reader_of(store, made, directory)) == data[directory:]
    assert opened == []


def test_the_crc_of_a_large_file_outlives_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    write(store, "d/large", bytes(reading.KEPT_FROM))
    store.open_for_digest("d/large").close()  # waits until the file has aged
    data = drain(reader_of(store, plan.make(store, "d", "zip")))
    store.close()
    store = LocalStore(tmp_path)
    computed: list[int] = []
    monkeypatch.setattr(reading.zlib, "crc32", lambda data, crc=0: computed.append(len(data)) or crc)
    assert drain(reader_of(store, plan.make(store, "d", "zip"))) == data
    assert computed == []
    os.chmod(tmp_path / "d/large", 0o600)  # another version, as far as anybody can tell
    drain(reader_of(store, plan.make(store, "d", "zip")))
    assert computed
    records = tmp_path / ".holdfast/digests"
    assert [name for name in os.listdir(records) if name.endswith(".crc32")]
    store.delete("d/large")
    assert not [name for name in os.listdir(records) if name.endswith(".crc32")]
    store.close()


def test_a_reader_that_is_stopped_ends_a_long_read(store: FileStore) -> None:
    reader = reader_of(store, plan.make(store, "d", "zip"))
    reader.stop()
    with pytest.raises(ArchiveChangedError):
        drain(reader)
    reader.close()


@pytest.mark.parametrize("change", ["new mode", "written", "replaced", "removed", "link"])
@pytest.mark.parametrize("format", ["zip", "tar"])
def test_a_member_that_was_opened_before_is_verified_again(tmp_path: Path, format: str, change: str) -> None:
    store = LocalStore(tmp_path)
    for number in range(4):
        write(store, f"d/{number}", bytes([number]) * (reading.SMALL * number + 1), digested=True)
    made = plan.make(store, "d", format)
    path = tmp_path / "d/2"
    wait_for_a_tick(tmp_path)
    whole = drain(reader_of(store, made, zero_copy=True))
    assert plan.is_current(store, made)
    assert drain(reader_of(store, made, zero_copy=True)) == whole
    if change == "new mode":
        path.chmod(0o600)
    elif change == "written":
        times = path.stat()
        path.write_bytes(b"x" * len(path.read_bytes()))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        content = path.read_bytes()
        path.unlink()
        if change == "replaced":
            path.write_bytes(content)
    assert not plan.is_current(store, made)
    reader = reader_of(store, made, zero_copy=True)
    if change in ("new mode", "link"):  # the same version: its content is confirmed
        assert drain(reader) == whole
    else:
        with pytest.raises(ArchiveChangedError):
            drain(reader)
        reader.close()
    store.close()


def test_a_plan_is_not_current_when_a_file_came_or_went(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for name in ("d/a", "d/b/c", "e"):
        write(store, name, b"1")
    wait_for_a_tick(tmp_path)
    for folder in ("d", ""):
        made = plan.make(store, folder, "zip")
        assert plan.is_current(store, made)
        for name in ("d/aa", "d/b/d", "d/z/z"):
            write(store, name, b"1")
            assert not plan.is_current(store, made)
            store.delete(name)
            assert plan.is_current(store, made)
    store.close()


def wait_for_a_tick(folder: Path) -> None:
    """Wait until a file that is written now has other times than those that were: only then they tell versions."""
    newest = max(path.stat().st_ctime_ns for path in folder.rglob("*"))
    while time.time_ns() <= newest + 50_000_000:
        time.sleep(0.005)


@pytest.mark.parametrize("zero_copy", [False, True])
@pytest.mark.parametrize("when", ["before the plan", "after the plan"])
def test_an_archive_outlives_a_chmod_of_its_members(tmp_path: Path, when: str, zero_copy: bool) -> None:
    """A mode changes a ctime: the store reads a file again before it believes its digest, and a list of files does not
    wait for that. The archive is the same in the meantime."""
    store = LocalStore(tmp_path)
    data = os.urandom(200_000)
    write(store, "d/large", data)
    reader = store.open_for_digest("d/large")
    store.record_digests(reader, FileDigests(hashlib.sha256(data).hexdigest()))
    reader.close()
    made = plan.make(store, "d", "tar")
    before = drain(reader_of(store, made, zero_copy=zero_copy))
    (tmp_path / "d/large").chmod(0o600)
    if when == "before the plan":
        made = plan.make(store, "d", "tar")
    assert drain(reader_of(store, made, zero_copy=zero_copy)) == before
    store.close()
