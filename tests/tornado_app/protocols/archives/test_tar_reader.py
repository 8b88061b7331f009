"""Tar archives read in pieces of any size, against the archives that Python's `tarfile` writes."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_app.protocols.archives.tar_reader import (
    MEMBER_END,
    MOST_RECORDS,
    OtherFormatError,
    TarError,
    TarMember,
    TarReader,
)

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
END = bytes(1024)


def tar_of(files: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def header(name: str = "x", size: int = 0, kind: bytes = b"0", **fields: str) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(tarfile.USTAR_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def read(data: bytes, step: int = 1 << 20, *, finish: bool = True) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the contents of the files in a tar, and why other members are refused; folders are left out."""
    reader = TarReader()
    files: dict[str, bytes] = {}
    refused: dict[str, str] = {}
    whole: set[str] = set()
    name = ""
    for at in range(0, len(data), step):
        for event in reader.feed(data[at : at + step]):
            if isinstance(event, TarMember):
                name = event.name.decode()
                if event.refused:
                    refused[name] = event.refused
                elif not event.is_folder:
                    files[name] = b""
            elif event is MEMBER_END:
                whole.add(name)
            else:
                files[name] += bytes(event)  # type: ignore[arg-type]
    if finish:
        reader.finish()
        assert whole == set(files)
    return files, refused


names = st.text(st.sampled_from("abcdefgü€/"), min_size=1, max_size=300).map(lambda text: "n" + text.strip("/") + "n")
trees = st.dictionaries(names, st.binary(max_size=1600), max_size=8)


@given(files=trees, format=st.sampled_from(["gnu", "pax"]), step=st.integers(1, 3000))
def test_what_tarfile_writes_is_read_in_pieces_of_any_size(files: dict[str, bytes], format: str, step: int) -> None:
    assert read(tar_of(files, FORMATS[format]), step) == (files, {})


def test_ustar_joins_the_prefix_and_the_name() -> None:
    name = "/".join(["d" * 60, "e" * 60, "f" * 60])
    assert read(tar_of({name: b"x"}, tarfile.USTAR_FORMAT))[0] == {name: b"x"}


def test_a_size_of_8_gib_and_more_is_understood() -> None:
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        member = tarfile.TarInfo("big")
        member.size = 9 << 30
        events = [*TarReader().feed(member.tobuf(format))]
        assert events == [TarMember(b"big", 9 << 30)]


def test_folders_are_told_from_files() -> None:
    data = header("folder", kind=tarfile.DIRTYPE) + header("old style/", kind=b"\0") + END
    members = [event for event in TarReader().feed(data) if isinstance(event, TarMember)]
    assert [(member.name, member.is_folder) for member in members] == [(b"folder/", True), (b"old style/", True)]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (b"Z", "of the unknown type 'Z'"),
    ],
)
def test_what_is_no_regular_file_is_refused_and_what_follows_is_read(kind: bytes, reason: str) -> None:
    data = header("odd", kind=kind, linkname="/etc/passwd") + tar_of({"file": b"content"})
    assert read(data) == ({"file": b"content"}, {"odd": reason})


def test_the_content_of_an_unknown_type_is_skipped() -> None:
    data = header("odd", 700, b"Z") + padded(b"z" * 700) + tar_of({"file": b"content"})
    assert read(data) == ({"file": b"content"}, {"odd": "of the unknown type 'Z'"})


def test_sparse_files_of_gnu_are_refused_with_their_maps() -> None:
    block = bytearray(header("sparse", 512, b"S"))
    block[482] = 1  # a further block of the map follows
    block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32)
    further = bytearray(512)
    further[504] = 1
    data = bytes(block) + bytes(further) + bytes(512) + b"s" * 512 + tar_of({"file": b"content"})
    assert read(data) == ({"file": b"content"}, {"sparse": "a sparse file"})
    assert read(data, 7) == ({"file": b"content"}, {"sparse": "a sparse file"})


def test_sparse_files_of_pax_are_refused_by_their_own_name() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("GNUSparseFile.0/x")
        member.size = 5
        member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x"}
        archive.addfile(member, io.BytesIO(b"12345"))
    assert read(buffer.getvalue()) == ({}, {"x": "a sparse file"})


def test_records_for_all_members_and_volume_labels_are_skipped() -> None:
    records = padded(b"18 comment=global\n")
    data = header("pax", 18, b"g") + records + header("label", kind=b"V") + tar_of({"file": b"content"})
    assert read(data) == ({"file": b"content"}, {})


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the body is empty"),
        (b"hello", "no tar archive"),
        (b"h" * 512, "wrong checksum"),
        (header("a", 5) + b"123", "ends within 'a'"),
        (header("a", 5) + b"12345", "ends within a header"),
        (header("a")[:300], "ends within a header|no tar archive"),
        (header("a"), "without its end marker"),
        (tar_of({"a": b"x"}) + b"y" * 512, "after the end marker"),
        (header("a") + b"j" * 512, "a header has a wrong checksum"),
        (header("x", MOST_RECORDS + 1, b"x"), "bytes of records or name"),
        (header("x", 9, b"x") + padded(b"5 no=pe\n?"), "pax record"),
        (header("x", 11, b"x") + padded(b"99 path=aa\n"), "pax record"),
        (header("x", 12, b"x") + padded(b"12 size=abc\n") + header("a"), "no number"),
    ],
    ids=range(13),
)
def test_what_is_no_whole_tar_is_named(data: bytes, why: str) -> None:
    for step in (1 << 20, 100):
        with pytest.raises(TarError, match=why):
            read(data, step)


@pytest.mark.parametrize(
    ("data", "found"),
    [(gzip.compress(tar_of({"a": b"x"})), "gzip"), (b"PK\3\4" + bytes(600), "zip")],
    ids=["gzip", "zip"],
)
def test_another_format_is_named(data: bytes, found: str) -> None:
    with pytest.raises(OtherFormatError) as caught:
        read(data)
    assert caught.value.found == found


@given(st.binary(max_size=3000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for given_data in (data, tar_of({"a": b"x" * 600}) + data, header("a", 600) + data):
        try:
            read(given_data, 700)
        except (TarError, UnicodeDecodeError):
            pass


@given(st.integers(0, 511), st.integers(0, 255))
def test_a_header_with_a_flipped_byte_is_no_other_member(at: int, value: int) -> None:
    data = bytearray(tar_of({"name": b"content"}, tarfile.USTAR_FORMAT))
    changed = data[at] != value
    data[at] = value
    try:
        files, _ = read(bytes(data))
    except TarError:
        return
    # The checksum may be written in several ways, and bytes of it are all that may differ.
    assert files == {"name": b"content"}
    assert not changed or 148 <= at < 156


@pytest.mark.slow
def test_memory_does_not_grow_with_the_members() -> None:
    one = header("n" * 90)
    reader = TarReader()

    def feed(blocks: int) -> int:
        return sum(1 for _ in range(blocks // 200) for _ in reader.feed(one * 200))

    feed(2000)
    tracemalloc.start()
    try:
        assert feed(20_000) == 40_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_records_of_many_headers_before_one_member_are_not_collected_without_end() -> None:
    archive = b""
    for number in range(200):
        content = b"%03d=" % number + b"x" * 10_000 + b"\n"
        record = b"%d " % (len(content) + 6) + content
        archive += header(size=len(record), kind=tarfile.XHDTYPE) + record + bytes(-len(record) % 512)
    with pytest.raises(TarError, match="bytes of records"):
        list(TarReader().feed(archive))
