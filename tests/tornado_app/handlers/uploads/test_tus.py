"""tus 1.0.0 as values: requests in, responses out, on the upload service and without a server."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from tests.support.block_digests import etag_of
from tests.support.uploads import OCTETS, TUS, append, create, metadata
from tornado_app import problems
from tornado_app.files.uploads.service import Uploads
from tornado_app.handlers.uploads.messages import UploadRequest
from tornado_app.handlers.uploads.tus import ChecksumCheck, Tus
from tornado_app.problems import ProblemError


def post(uploads: Uploads, headers: dict[str, str], **request: Any) -> Tus:
    return Tus(UploadRequest("POST", {**TUS, **headers}, **request), uploads)


def patch(uploads: Uploads, offset: int, size: int, **headers: str) -> Tus:
    return Tus(
        UploadRequest("PATCH", {**OCTETS, "Upload-Offset": str(offset), **headers}, content_length=size), uploads
    )


async def new(uploads: Uploads, length: int = 5) -> str:
    response = await create(post(uploads, {"Upload-Length": str(length), **metadata(filename="a.txt")}))
    return response.headers["Location"].rpartition("/")[2]


async def test_a_creation_answers_where_and_until_when(uploads: Uploads) -> None:
    response = await create(post(uploads, {"Upload-Length": "5"}, root="/hub/x"))
    [upload] = uploads
    assert (response.status, response.body) == (201, b"")
    assert list(response.headers) == ["Location", "Upload-Expires"]
    assert response.headers["Location"] == f"/hub/x/v1/uploads/{upload.id}"


async def test_a_creation_with_content_answers_with_the_offset(uploads: Uploads) -> None:
    response = await create(
        Tus(UploadRequest("POST", {**OCTETS, "Upload-Length": "5"}, content_length=2), uploads), b"ab"
    )
    assert (response.status, response.headers["Upload-Offset"]) == (201, "2")


async def test_pieces_are_appended_and_the_last_one_has_no_expiry(uploads: Uploads) -> None:
    id = await new(uploads)
    first = await append(patch(uploads, 0, 2), id, b"ab")
    assert (first.status, first.headers["Upload-Offset"], "Upload-Expires" in first.headers) == (204, "2", True)
    last = await append(patch(uploads, 2, 3), id, b"cde")
    assert (last.status, last.headers["Upload-Offset"], "Upload-Expires" in last.headers) == (204, "5", False)
    assert last.headers["ETag"] == etag_of(b"abcde")


async def test_a_head_answers_with_the_state(uploads: Uploads) -> None:
    id = await new(uploads)
    await append(patch(uploads, 0, 2), id, b"ab")
    response = await Tus(UploadRequest("HEAD", TUS), uploads).head(id)
    assert response.status == 200
    assert list(response.headers) == ["Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Expires"]
    assert (response.headers["Upload-Offset"], response.headers["Upload-Length"]) == ("2", "5")


async def test_a_length_that_is_not_known_yet_is_said_to_be_deferred(uploads: Uploads) -> None:
    created = await create(post(uploads, {"Upload-Defer-Length": "1"}))
    response = await Tus(UploadRequest("HEAD", TUS), uploads).head(created.headers["Location"].rpartition("/")[2])
    assert response.headers["Upload-Defer-Length"] == "1"
    assert "Upload-Length" not in response.headers


async def test_a_delete_forgets_the_upload(uploads: Uploads) -> None:
    id = await new(uploads)
    assert (await Tus(UploadRequest("DELETE", TUS), uploads).delete(id)).status == 204
    assert uploads.find(id) is None


async def test_another_version_is_refused_with_the_right_one(uploads: Uploads) -> None:
    for headers in ({}, {"Tus-Resumable": "0.2.2"}):
        protocol = Tus(UploadRequest("POST", {"Upload-Length": "5", **headers}), uploads)
        with pytest.raises(ProblemError, match="Tus-Resumable") as caught:
            await protocol.begin_creation()
        assert caught.value.kind is problems.PRECONDITION_FAILED
        assert protocol.problem(caught.value).headers == {"Tus-Version": "1.0.0"}
    assert not list(uploads)


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "Upload-Length"),
        ({"Upload-Length": "1", "Upload-Defer-Length": "1"}, "twice or not at all"),
        ({"Upload-Length": "-1"}, "whole number"),
        ({"Upload-Length": "1", "Upload-Metadata": "filename ?"}, "base64"),
        ({"Upload-Length": "1", "Upload-Checksum": "sha9 AAAA"}, "known are"),
        ({"Upload-Concat": "final;/elsewhere"}, "not the URL of an upload"),
    ],
)
async def test_a_creation_that_is_refused_makes_nothing(uploads: Uploads, headers: dict[str, str], says: str) -> None:
    with pytest.raises(ProblemError, match=says):
        await post(uploads, headers).begin_creation()
    assert not list(uploads)


async def test_a_wrong_offset_is_found_before_a_wrong_length(uploads: Uploads) -> None:
    id = await new(uploads)
    with pytest.raises(ProblemError) as caught:
        await patch(uploads, 3, 99).begin_append(id)
    assert caught.value.kind is problems.OFFSET_MISMATCH


async def test_a_refused_append_says_where_to_go_on_and_keeps_nobody_out(uploads: Uploads) -> None:
    id = await new(uploads)
    protocol = patch(uploads, 0, 99)
    with pytest.raises(ProblemError, match="past the upload's length") as caught:
        await protocol.begin_append(id)
    assert protocol.problem(caught.value).headers["Upload-Offset"] == "0"
    assert (await append(patch(uploads, 0, 1), id, b"a")).headers["Upload-Offset"] == "1"


async def test_a_creation_whose_checksum_fails_is_taken_back(uploads: Uploads) -> None:
    field = "sha1 " + base64.b64encode(hashlib.sha1(b"other", usedforsecurity=False).digest()).decode()
    headers = {**OCTETS, "Upload-Length": "5", "Upload-Checksum": field}
    protocol = Tus(UploadRequest("POST", headers, content_length=5), uploads)
    with pytest.raises(ProblemError) as caught:
        await create(protocol, b"ab123")
    assert caught.value.kind is problems.CHECKSUM_MISMATCH
    assert not list(uploads)
    assert protocol.problem(caught.value).headers == {}


def test_a_checksum_is_of_all_that_came() -> None:
    check = ChecksumCheck("sha256", hashlib.sha256(b"abc").digest())
    check.update(b"a")
    check.update(memoryview(b"bc"))
    check.verify()
    check.update(b"d")
    with pytest.raises(ProblemError, match="sha256"):
        check.verify()
