"""Tar archives of small files, against Python's tarfile in both directions."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast._transfers.small_files import tar

NAMES = [
    "a",
    "in/b.bin",
    "x" * 99,
    "y" * 100,
    "z" * 101,
    "d/" * 60 + "deep",
    "ünïcode/€.txt",
    "d" * 150 + "/" + "e" * 90,
]
FILES = {name: name.encode() * (number * 37) for number, name in enumerate(NAMES)}


def packed(files: dict[str, bytes]) -> bytes:
    parts: list[bytes] = []
    for name, data in files.items():
        parts += (tar.head(name, len(data)), data, tar.padding(len(data)))
    return b"".join([*parts, tar.END])


def by_tarfile(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def test_tarfile_reads_what_is_written() -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(FILES))) as archive:
        members = {member.name: archive.extractfile(member) for member in archive}
        assert {name: file.read() for name, file in members.items() if file is not None} == FILES


@pytest.mark.parametrize("made", [packed, by_tarfile])
@pytest.mark.parametrize("piece", [1, 511, 512, 513, 100_000])
def test_members_are_read_however_they_are_cut(made: object, piece: int) -> None:
    data = made(FILES)  # type: ignore[operator]
    parser = tar.TarParser(lambda name, size: len(FILES[name]) == size)
    found = [one for at in range(0, len(data), piece) for one in parser.feed(data[at : at + piece])]
    assert found == [*FILES.items()]
    assert parser.ended


@pytest.mark.slow
@given(wanted=st.sets(st.sampled_from(NAMES)), piece=st.integers(1, 3000), cut=st.integers(0, 40_000))
def test_a_parser_goes_on_where_another_was_cut(wanted: set[str], piece: int, cut: int) -> None:
    data = packed(FILES)
    first = tar.TarParser(lambda name, size: name in wanted)
    found = [one for at in range(0, min(cut, len(data)), piece) for one in first.feed(data[at : min(at + piece, cut)])]
    offset = first.resume_at
    second = tar.TarParser(lambda name, size: name in wanted, offset)
    found += [one for at in range(offset, len(data), piece) for one in second.feed(data[at : at + piece])]
    assert found == [(name, content) for name, content in FILES.items() if name in wanted]


def test_what_is_not_wanted_is_skipped_without_being_kept() -> None:
    files = {"a": b"1", "large": bytes(10_000), "b": b"2"}
    data = packed(files)
    parser = tar.TarParser(lambda name, size: name != "large")
    assert [*parser.feed(data[:3000])] == [("a", b"1")]
    assert parser.skip == parser.offset - 3000
    again = tar.TarParser(lambda name, size: True, parser.offset)
    assert [*again.feed(data[parser.offset :])] == [("b", b"2")]


@pytest.mark.parametrize("data", [b"x" * 512, tar.head("a", 1)[:156] + b"5" + tar.head("a", 1)[157:]])
def test_another_format_is_refused(data: bytes) -> None:
    with pytest.raises(tar.UnreadableTarError):
        [*tar.TarParser(lambda name, size: True).feed(data)]


@pytest.mark.parametrize("records", [b"0 path=x\n", b"-5 path=x\n", b"999 path=x\n", b"x path=y\n", b"path"])
def test_pax_records_that_can_not_be_read_end_it(records: bytes) -> None:
    header = bytearray(tar.head("x" * 200, 3)[:512])  # of the pax records
    header[124:136] = b"%011o\0" % len(records)
    with pytest.raises(tar.UnreadableTarError, match="pax records"):
        list(tar.TarParser(lambda name, size: True).feed(bytes(header) + records.ljust(512, b"\0")))


def test_pax_records_are_not_collected_without_end() -> None:
    header = bytearray(tar.head("x" * 200, 3)[:512])
    header[124:136] = b"%011o\0" % (8 << 20)
    with pytest.raises(tar.UnreadableTarError, match="8388608 bytes of pax records"):
        list(tar.TarParser(lambda name, size: True).feed(bytes(header)))
