"""Headers of uploads by tus, as they are read and sent."""

from __future__ import annotations

from datetime import UTC, datetime

from holdfast import calls, digests
from holdfast._endpoints.call import CallResponse
from holdfast._endpoints.digest_fields import block_digest_field


def test_a_server_says_that_it_verifies_by_blocks() -> None:
    read = calls.create_upload(length=3).read
    assert read(CallResponse(201, {"want-block-digest": "blake3-1m=10"})).wants_blocks
    assert not read(CallResponse(201, {})).wants_blocks
    assert calls.upload_options().read(CallResponse(204, {"want-block-digest": "blake3-1m=10"})).wants_blocks


def test_the_last_request_has_the_digest_and_its_answer_the_file() -> None:
    digest = digests.of_file(b"abc")
    call = calls.append("id", 0, b"abc", block_digest=digest)
    assert call.headers["Block-Digest"] == block_digest_field(digest)
    headers = {
        "upload-offset": "3",
        "etag": '"v1"',
        "last-modified": "Sun, 06 Nov 1994 08:49:37 GMT",
        "block-digest": call.headers["Block-Digest"],
    }
    head = call.read(CallResponse(204, headers))
    assert (head.offset, head.etag, head.block_digest) == (3, "v1", digest.hex())
    assert head.modified == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
