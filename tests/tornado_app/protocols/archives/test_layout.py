"""Archives whose layout is known in advance, read by Python's `zipfile` and `tarfile`."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_app.protocols.archives.layout import FORMATS, Layout, Origin

Files = dict[str, tuple[bytes, int]]  # content and time

_names = st.text(st.sampled_from("abcü€/ "), min_size=1, max_size=260).map(lambda text: "n" + text + "n")
_trees = st.dictionaries(_names, st.tuples(st.binary(max_size=1500), st.integers(-(10**9), 10**10)), max_size=6)


def laid_out(format: str, files: Files) -> Layout:
    layout = Layout(FORMATS[format])
    for name, (content, modified) in files.items():
        layout.add(name.encode(), len(content), modified)
    layout.seal()
    return layout


def part(layout: Layout, files: Files, first: int, length: int) -> bytes:
    contents = [content for content, _ in files.values()]
    found = bytearray()
    for origin, member, begin, count in layout.stretches(first, length):
        crc = zlib.crc32(contents[member]) if contents else 0
        whole = {
            Origin.HEAD: lambda member=member, crc=crc: layout.head(member, crc),
            Origin.CONTENT: lambda member=member: contents[member],
            Origin.PADDING: lambda: bytes(512),
            Origin.ENTRY: lambda member=member, crc=crc: layout.entry(member, crc),
            Origin.END: lambda: layout.end,
        }[origin]()
        found += whole[begin : begin + count]
    return bytes(found)


@given(_trees)
def test_zipfile_reads_a_zip(files: Files) -> None:
    layout = laid_out("zip", files)
    data = part(layout, files, 0, layout.size)
    assert len(data) == layout.size
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {n: c for n, (c, _) in files.items()}
        assert all(info.external_attr >> 16 == 0o100644 for info in archive.infolist())


@given(_trees)
def test_tarfile_reads_a_tar(files: Files) -> None:
    layout = laid_out("tar", files)
    data = part(layout, files, 0, layout.size)
    assert len(data) == layout.size
    assert len(data) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member, (name, (content, modified)) in zip(archive.getmembers(), files.items(), strict=True):
            assert (member.name, member.mtime, member.mode) == (name, modified, 0o644)
            assert archive.extractfile(member).read() == content  # type: ignore[union-attr]


@given(_trees, st.sampled_from(["zip", "tar"]), st.data())
def test_any_range_is_that_part_of_the_whole(files: Files, format: str, data: st.DataObject) -> None:
    layout = laid_out(format, files)
    whole = part(layout, files, 0, layout.size)
    first = data.draw(st.integers(0, layout.size - 1))
    length = data.draw(st.integers(1, layout.size - first))
    assert part(layout, files, first, length) == whole[first : first + length]


def test_zip_times_are_utc() -> None:
    files = {"a": (b"", 1_700_000_000)}
    layout = laid_out("zip", files)
    with zipfile.ZipFile(io.BytesIO(part(layout, files, 0, layout.size))) as archive:
        assert archive.infolist()[0].date_time == (2023, 11, 14, 22, 13, 20)


class _Sparse(io.RawIOBase):
    """An archive of large members whose contents are zeros, read where `zipfile` reads."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + {0: 0, 1: self._at, 2: self._layout.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        size = min(self._layout.size - self._at, 1 << 20 if size < 0 else size)
        found = bytearray()
        for origin, member, begin, count in self._layout.stretches(self._at, size):
            whole = {Origin.HEAD: self._layout.head, Origin.ENTRY: self._layout.entry}.get(origin)
            source = (
                self._layout.end
                if origin is Origin.END
                else whole(member, zlib.crc32(bytes(10)))
                if whole
                else bytes(begin + count)
            )
            found += source[begin : begin + count]
        self._at += size
        return bytes(found)


def test_members_and_archives_over_4_gib_are_zip64() -> None:
    layout = Layout(FORMATS["zip"])
    sizes = {"first": 5 << 30, "second": 10, "third": (1 << 32) - 1}
    for name, size in sizes.items():
        layout.add(name.encode(), size, 0)
    layout.seal()
    with zipfile.ZipFile(_Sparse(layout)) as archive:  # type: ignore[arg-type]
        assert {info.filename: info.file_size for info in archive.infolist()} == sizes
        for info in archive.infolist():
            with archive.open(info) as member:  # its local header is where the directory says
                assert member.read(1) == b"\0"
        assert archive.getinfo("second").header_offset > 5 << 30


@pytest.mark.slow
def test_more_than_65535_members_are_zip64() -> None:
    files = {f"f{number}": (b"", 0) for number in range(70_000)}
    layout = laid_out("zip", files)
    with zipfile.ZipFile(io.BytesIO(part(layout, files, 0, layout.size))) as archive:
        assert archive.namelist() == [*files]


def test_a_tar_member_over_8_gib_has_its_size_in_a_record() -> None:
    layout = Layout(FORMATS["tar"])
    layout.add(b"big", 9 << 30, 5)
    layout.seal()
    with tarfile.open(fileobj=io.BytesIO(layout.head(0, 0) + bytes(1024)), mode="r|") as archive:
        member = archive.next()
        assert member is not None
        assert member.size == 9 << 30
