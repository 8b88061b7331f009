"""The seed's files as a service: pieces of text down, pieces up under the name of the file."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import AsyncIterator

import pytest

from tests.support.files import file_service
from tornado_app import problems
from tornado_app.files.seed import SeedFiles
from tornado_app.files.service import FileService
from tornado_app.problems import Kind, ProblemError
from tornado_app.settings import Settings


@pytest.fixture
async def files(settings: Settings) -> AsyncIterator[FileService]:
    service = file_service(dataclasses.replace(settings, chunk_size=4, reserve_space=0))
    await service.open()
    yield service
    await service.close()


@pytest.fixture
def seed(files: FileService) -> SeedFiles:
    return files.seed


async def send(
    seed: SeedFiles, name: str, data: bytes, at: int = 0, *, is_complete: bool = False, **more: object
) -> tuple[int, bool]:
    """Append a piece; return where the upload stands then, and whether it is complete."""
    writer = await seed.append(name, at, **more)  # type: ignore[arg-type]
    writer.write(data)
    status = await seed.finish(writer, is_complete=is_complete)
    return status.bytes_read, status.is_complete


async def refused(work: object) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        await work  # type: ignore[misc]
    return caught.value


class TestPiece:
    async def test_pieces_put_together_are_the_file(self, files: FileService, seed: SeedFiles) -> None:
        (files.settings.files_dir / "a").write_text("0123456789")
        text, at, complete = "", 0, False
        while not complete:
            piece = await seed.piece("a", at)
            text, at, complete = text + piece.file_content, piece.bytes_read, piece.is_complete
        assert (text, at, piece.file_size, piece.percentage_done) == ("0123456789", 10, 10, 100.0)

    async def test_no_character_is_cut(self, files: FileService, seed: SeedFiles) -> None:
        (files.settings.files_dir / "a").write_text("aé€z")  # 1 + 2 + 3 + 1 bytes
        first = await seed.piece("a", 0)
        assert (first.file_content, first.bytes_read, first.is_complete) == ("aé", 3, False)
        second = await seed.piece("a", first.bytes_read)
        assert (second.file_content, second.is_complete) == ("€z", True)

    async def test_an_empty_file_is_complete_at_once(self, files: FileService, seed: SeedFiles) -> None:
        (files.settings.files_dir / "a").touch()
        piece = await seed.piece("a", 0)
        assert (piece.file_content, piece.is_complete, piece.percentage_done) == ("", True, 100.0)

    async def test_bytes_that_are_no_text_come_as_base64(self, files: FileService, seed: SeedFiles) -> None:
        (files.settings.files_dir / "a").write_bytes(b"\xff\xfe\x00")
        assert (await refused(seed.piece("a", 0))).kind is problems.NOT_ACCEPTABLE_ENCODING
        piece = await seed.piece("a", 0, "base64")
        assert base64.b64decode(piece.file_content) == b"\xff\xfe\x00"

    async def test_two_versions_are_never_mixed(self, files: FileService, seed: SeedFiles) -> None:
        (files.settings.files_dir / "a").write_text("first version")
        etag = (await seed.piece("a", 0)).etag
        (files.settings.files_dir / "a").unlink()
        (files.settings.files_dir / "a").write_text("second one")
        error = await refused(seed.piece("a", 4, etag=etag or ""))
        assert error.kind is problems.FILE_CHANGED
        assert error.members["etag"] not in ("", etag)

    async def test_past_the_end_there_is_nothing(self, files: FileService, seed: SeedFiles) -> None:
        (files.settings.files_dir / "a").write_text("abc")
        error = await refused(seed.piece("a", 4))
        assert (error.kind, error.members["file_size"]) == (problems.BAD_PARAMETERS, 3)
        assert (await refused(seed.piece("none", 0))).kind is problems.NO_SUCH_FILE


class TestAppend:
    async def test_pieces_that_follow_each_other_become_the_file(self, files: FileService, seed: SeedFiles) -> None:
        assert await send(seed, "d/a", b"one ", file_size=8) == (4, False)
        status = await seed.status("d/a")
        assert (status.bytes_read, status.is_complete, status.file_size) == (4, False, 8)
        assert await send(seed, "d/a", b"two!", 4) == (8, True)
        assert (files.settings.files_dir / "d/a").read_bytes() == b"one two!"
        status = await seed.status("d/a")
        assert (status.bytes_read, status.is_complete) == (8, True)
        assert list(files.uploads) == []

    async def test_without_a_size_the_last_piece_says_that_it_is(self, files: FileService, seed: SeedFiles) -> None:
        assert await send(seed, "a", b"one ") == (4, False)
        assert (files.settings.files_dir / "a").read_bytes() == b"one ", "it grows in view"
        assert await send(seed, "a", b"", 4, is_complete=True) == (4, True)
        assert files.store.stat("a").size == 4

    @pytest.mark.parametrize(("at", "stands"), [(3, 4), (5, 4), (0, 4)])
    async def test_another_offset_is_refused_with_the_right_one(self, seed: SeedFiles, at: int, stands: int) -> None:
        await send(seed, "a", b"four", file_size=9)
        error = await refused(seed.append("a", at))
        assert (error.kind, error.members["bytes_read"]) == (problems.OFFSET_MISMATCH, stands)

    async def test_what_did_not_begin_can_not_go_on(self, files: FileService, seed: SeedFiles) -> None:
        error = await refused(seed.append("a", 4))
        assert (error.kind, error.members["bytes_read"]) == (problems.OFFSET_MISMATCH, 0)
        (files.settings.files_dir / "a").write_bytes(b"there")
        error = await refused(seed.append("a", 4))
        assert (error.members["bytes_read"], error.members["is_complete"]) == (5, True)

    async def test_a_file_is_replaced_only_when_the_request_says_so(self, files: FileService, seed: SeedFiles) -> None:
        (files.settings.files_dir / "a").write_bytes(b"there")
        error = await refused(seed.append("a", 0))
        assert (error.kind, error.members["is_complete"]) == (problems.FILE_EXISTS, True)
        assert await send(seed, "a", b"new", file_size=3, overwrite=True) == (3, True)
        assert (files.settings.files_dir / "a").read_bytes() == b"new"

    @pytest.mark.parametrize("other", ["too large", "too many"])
    async def test_that_the_file_is_there_comes_before_any_other_refusal(self, settings: Settings, other: str) -> None:
        limits = {"max_upload_size": 8} if other == "too large" else {"max_uploads": 1}
        service = file_service(dataclasses.replace(settings, **limits))  # type: ignore[arg-type]
        await service.open()
        (settings.files_dir / "a").write_bytes(b"there")
        if other == "too many":
            await send(service.seed, "other", b"four", file_size=8)
        size = 9 if other == "too large" else 8
        error = await refused(service.seed.append("a", 0, file_size=size))
        assert error.kind is problems.FILE_EXISTS
        assert (error.members["bytes_read"], error.members["is_complete"]) == (5, True)
        error = await refused(service.seed.append("a", 0, file_size=size, overwrite=True))
        assert error.kind is (problems.TOO_LARGE if other == "too large" else problems.TOO_MANY)
        await service.close()

    async def test_an_overwrite_from_the_start_begins_anew(self, files: FileService, seed: SeedFiles) -> None:
        await send(seed, "a", b"old bytes")
        assert await send(seed, "a", b"new", overwrite=True, is_complete=True) == (3, True)
        assert (files.settings.files_dir / "a").read_bytes() == b"new"

    @pytest.mark.parametrize(
        ("at", "more", "kind"),
        [
            (4, {"file_size": 9}, problems.BAD_PARAMETERS),
            (4, {"file_size": 6, "body_size": 3}, problems.BAD_PARAMETERS),
        ],
        ids=["another size", "past the size"],
    )
    async def test_a_size_that_can_not_be_is_refused(
        self, seed: SeedFiles, at: int, more: dict[str, int], kind: Kind
    ) -> None:
        await send(seed, "a", b"four", file_size=8)
        error = await refused(seed.append("a", at, **more))  # type: ignore[arg-type]
        assert (error.kind, error.members["field"]) == (kind, "file_size")
        assert await send(seed, "a", b"more", 4) == (8, True)

    async def test_of_two_first_pieces_at_once_one_creates_the_upload(
        self, files: FileService, seed: SeedFiles
    ) -> None:
        results = await asyncio.gather(
            *(send(seed, "a", b"abc", file_size=3) for _ in range(2)), return_exceptions=True
        )
        assert (3, True) in results
        for result in results:
            if isinstance(result, BaseException):
                assert isinstance(result, ProblemError), result
        assert (files.settings.files_dir / "a").read_bytes() == b"abc"

    async def test_a_broken_upload_makes_room_for_a_new_one(self, files: FileService, seed: SeedFiles) -> None:
        await send(seed, "a", b"four", file_size=8)
        (upload,) = files.uploads
        await files.uploads.registry.mark_broken(upload, "its bytes are not what they are taken for")
        assert (await refused(seed.status("a"))).kind is problems.NO_SUCH_FILE
        assert await send(seed, "a", b"abc", file_size=3) == (3, True)


class TestCancel:
    async def test_what_is_in_the_making_goes_and_what_is_published_stays(
        self, files: FileService, seed: SeedFiles
    ) -> None:
        await send(seed, "a", b"four")
        assert (await seed.cancel("a")).file_name == "a"
        assert not (files.settings.files_dir / "a").exists()
        await send(seed, "b", b"four", is_complete=True)
        assert (await refused(seed.cancel("b"))).kind is problems.NO_SUCH_UPLOAD
        assert (files.settings.files_dir / "b").read_bytes() == b"four"

    @pytest.mark.parametrize("name", ["../a", "/a", "", "a\0b"])
    async def test_a_name_that_no_file_can_have_is_refused_everywhere(self, seed: SeedFiles, name: str) -> None:
        assert (await refused(seed.append(name, 0))).kind is problems.BAD_NAME
        assert (await refused(seed.cancel(name))).kind is problems.BAD_NAME
        assert (await refused(seed.status(name))).kind is problems.NO_SUCH_FILE
