"""The IETF draft of resumable uploads as values: requests in, responses out, without a server."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from tests.support.uploads import PARTIAL, append, create
from tornado_app import problems
from tornado_app.files.uploads.service import Uploads
from tornado_app.handlers.uploads.ietf import ResumableUpload
from tornado_app.handlers.uploads.messages import UploadRequest
from tornado_app.problems import ProblemError
from tornado_app.settings import Settings

INTEROP = {"Upload-Draft-Interop-Version": "8"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, durable=False)


def post(uploads: Uploads, size: int | None, complete: str = "?0", **request: Any) -> ResumableUpload:
    headers = {"Upload-Complete": complete, "Content-Disposition": "inline; filename=a.txt", **INTEROP}
    request = {"headers": headers, **request}
    return ResumableUpload(UploadRequest("POST", content_length=size, **request), uploads)


def patch(uploads: Uploads, offset: int, size: int, complete: str = "?0", **headers: str) -> ResumableUpload:
    fields = {**PARTIAL, "Upload-Offset": str(offset), "Upload-Complete": complete, **headers}
    return ResumableUpload(UploadRequest("PATCH", fields, content_length=size), uploads)


async def new(uploads: Uploads, body: bytes = b"") -> str:
    response = await create(post(uploads, len(body)), body)
    return response.headers["Location"].rpartition("/")[2]


async def test_a_creation_announces_the_upload_before_its_body_is_read(uploads: Uploads) -> None:
    protocol = post(uploads, 2)
    receiver = await protocol.begin_creation()
    [upload] = uploads
    status, *fields = receiver.interim[0].decode().split("\r\n")
    assert status == "HTTP/1.1 104 Upload Resumption Supported"
    assert f"Location: /v1/uploads/{upload.id}" in fields
    assert len(receiver.interim) == 1
    await uploads.abandon(receiver.writer, "test")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "request_",
    [
        {"version": "HTTP/1.0"},
        {"headers": {"Upload-Complete": "?0"}},
        {"headers": {"Upload-Complete": "?0", "Upload-Draft-Interop-Version": "7"}},
        {"headers": {"Upload-Complete": "maybe", **INTEROP}},
    ],
)
async def test_a_client_of_another_draft_gets_no_interim_response(uploads: Uploads, request_: dict[str, Any]) -> None:
    protocol = post(uploads, 0, **request_)
    assert (await protocol.begin_creation()).interim == ()
    assert (await protocol.created()).status == 201
    assert protocol.progress(10 << 20) is None


async def test_progress_is_reported_once_a_mebibyte(uploads: Uploads) -> None:
    protocol = post(uploads, None)
    receiver = await protocol.begin_creation()
    assert receiver.has_progress
    assert protocol.progress(1 << 20) == (
        b"HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Draft-Interop-Version: 8\r\nUpload-Offset: 1048576\r\n\r\n"
    )
    await uploads.abandon(receiver.writer, "test")  # type: ignore[arg-type]


async def test_what_is_not_the_last_is_answered_with_the_state(uploads: Uploads) -> None:
    response = await create(post(uploads, 2), b"ab")
    assert (response.status, response.body) == (201, b"")
    assert list(response.headers) == ["Location", "Upload-Offset", "Upload-Complete", "Upload-Limit"]
    assert (response.headers["Upload-Offset"], response.headers["Upload-Complete"]) == ("2", "?0")
    id = response.headers["Location"].rpartition("/")[2]
    more = await append(patch(uploads, 2, 1), id, b"c")
    assert (more.status, more.headers["Upload-Offset"]) == (204, "3")


async def test_the_last_append_answers_with_the_file(uploads: Uploads) -> None:
    id = await new(uploads, b"ab")
    response = await append(patch(uploads, 2, 1, "?1"), id, b"c")
    assert response.status == 201
    assert response.headers["Upload-Complete"] == "?1"
    assert response.headers["Location"] == "/v1/files/a.txt"
    assert msgspec.json.decode(response.body)["size"] == 3


async def test_an_empty_append_replays_the_final_answer(uploads: Uploads) -> None:
    id = await new(uploads, b"ab")
    first = await append(patch(uploads, 2, 1, "?1"), id, b"c")
    assert await append(patch(uploads, 3, 0, "?1"), id) == first
    with pytest.raises(ProblemError, match="nothing can be appended") as caught:
        await patch(uploads, 3, 1, "?1").begin_append(id)
    assert caught.value.kind is problems.CONFLICT


async def test_a_head_answers_with_the_state(uploads: Uploads) -> None:
    id = await new(uploads, b"ab")
    protocol = ResumableUpload(UploadRequest("HEAD", {}), uploads, max_size=99)
    response = await protocol.head(id)
    assert response.status == 204
    assert (response.headers["Upload-Offset"], response.headers["Upload-Complete"]) == ("2", "?0")
    assert response.headers["Upload-Limit"].startswith("max-size=99, max-age=")


async def test_a_wrong_offset_is_named_as_the_draft_names_it(uploads: Uploads) -> None:
    id = await new(uploads, b"ab")
    protocol = patch(uploads, 5, 1)
    with pytest.raises(ProblemError) as caught:
        await protocol.begin_append(id)
    problem = protocol.problem(caught.value)
    assert problem.kind is problems.MISMATCHING_OFFSET
    assert problem.headers == {"Upload-Complete": "?0", "Upload-Offset": "2"}
    assert (problem.members["expected-offset"], problem.members["provided-offset"]) == (2, 5)


async def test_lengths_that_contradict_each_other_are_refused(uploads: Uploads) -> None:
    headers = {"Upload-Complete": "?1", "Upload-Length": "9"}
    with pytest.raises(ProblemError) as caught:
        await post(uploads, 3, headers=headers).begin_creation()
    assert caught.value.kind is problems.INCONSISTENT_LENGTH
    assert not list(uploads)


async def test_another_media_type_is_refused_with_the_right_one(uploads: Uploads) -> None:
    id = await new(uploads, b"ab")
    protocol = patch(uploads, 2, 1, **{"Content-Type": "text/plain"})
    with pytest.raises(ProblemError) as caught:
        await protocol.begin_append(id)
    assert protocol.problem(caught.value).headers["Accept-Patch"] == "application/partial-upload"
