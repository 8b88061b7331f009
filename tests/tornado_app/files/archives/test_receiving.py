"""A tar that becomes files: in memory that does not grow, whatever is in it."""

from __future__ import annotations

import os
import tarfile
import tracemalloc

import pytest

from holdfast.wire import ArchiveReceipt
from tornado_app import problems
from tornado_app.app import App
from tornado_app.files.archives.receiving import MOST_REFUSED, TarReceiver
from tornado_app.settings import Settings

END = bytes(1024)


def header(name: str, size: int = 0) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)


def receiver(app: App, **headers: str) -> TarReceiver:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.services.files.archives.receive("in", fields, describe=False)


async def receive(app: App, *pieces: bytes, **headers: str) -> ArchiveReceipt:
    taken = receiver(app, **headers)
    for piece in pieces:
        await taken.feed(piece)
    return await taken.finish()


async def test_pieces_may_end_anywhere(app: App, settings: Settings) -> None:
    data = header("a", 700) + b"a" * 700 + bytes(324) + header("b") + END
    receipt = await receive(app, *(data[at : at + 100] for at in range(0, len(data), 100)))
    assert (receipt.files, receipt.bytes) == (2, 700)
    assert (settings.files_dir / "in/a").read_bytes() == b"a" * 700


async def test_what_is_abandoned_leaves_nothing(app: App, settings: Settings) -> None:
    taken, small = receiver(app), receiver(app)
    await taken.feed(header("a", 700_000) + b"half")
    await small.feed(header("a", 700) + b"half")
    uploads = settings.files_dir / ".holdfast/uploads"
    assert [*uploads.iterdir()]
    await taken.abandon()
    await small.abandon()
    await small.feed(b"x" * 1024)
    await taken.feed(b"x" * 100)  # what was on its way
    assert [*uploads.iterdir()] == []
    assert not (settings.files_dir / "in").exists()


async def test_of_one_name_the_last_member_wins_whatever_the_sizes(app: App, settings: Settings) -> None:
    large, parts = 300_000, []
    for name, size, fill in (("a", 3, b"1"), ("a", large, b"2"), ("b", large, b"3"), ("b", 5, b"4"), ("a", 2, b"5")):
        parts += [header(name, size), fill * size, bytes(-size % 512)]
    for headers in ({}, {"If-None-Match": "*"}):
        receipt = await receive(app, b"".join(parts) + END, **headers)
        assert (receipt.files, receipt.refused_count) == ((0, 5) if headers else (5, 0))
        assert [(settings.files_dir / "in" / name).read_bytes() for name in "ab"] == [b"55", b"44444"]


async def test_small_members_are_refused_by_name_and_the_others_land(app: App, settings: Settings) -> None:
    (settings.files_dir / "in").mkdir()
    (settings.files_dir / "in/there").write_bytes(b"before")
    members = [header("there") + header("x" * 99 + "/" + "y") + header("there/below") + header("new") + header("new")]
    receipt = await receive(app, members[0] + END, **{"If-None-Match": "*"})
    assert receipt.files == 3
    assert set(receipt.refused) == {"there", "there/below"}
    assert (settings.files_dir / "in/there").read_bytes() == b"before"


async def test_a_size_that_is_a_lie_is_refused_before_the_disk_is_full(app: App) -> None:
    with pytest.raises(problems.ProblemError) as caught:
        await receive(app, header("small") + header("huge", (1 << 33) - 1))
    assert caught.value.kind in (problems.BAD_BODY, problems.NO_SPACE)
    assert caught.value.members["files"] == 1


@pytest.mark.slow
async def test_memory_does_not_grow_with_refused_members(app: App) -> None:
    piece = b"".join(header(f"/{'n' * 80}{number}") for number in range(1000))
    taken = receiver(app)
    await taken.feed(piece)
    tracemalloc.start()
    try:
        for _ in range(30):
            await taken.feed(piece)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    await taken.feed(END)
    receipt = await taken.finish()
    assert (receipt.files, receipt.refused_count, len(receipt.refused)) == (0, 31_000, MOST_REFUSED)


@pytest.mark.slow
async def test_many_empty_files_land_in_flat_memory(app: App, settings: Settings) -> None:
    taken = receiver(app)
    for number in range(3):
        await taken.feed(b"".join(header(f"{number}/{index}") for index in range(500)))
        if number == 0:
            tracemalloc.start()
    try:
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    await taken.feed(END)
    assert (await taken.finish()).files == 1500
    assert sum(len(files) for _, _, files in os.walk(settings.files_dir / "in")) == 1500
