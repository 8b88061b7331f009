"""Headers of published files, as they are read and sent."""

from __future__ import annotations

from holdfast import calls, digests
from holdfast._endpoints.call import CallResponse
from holdfast._endpoints.digest_fields import block_digest_field


def test_a_block_digest_goes_with_a_file_and_comes_back() -> None:
    digest = digests.of_file(b"abc")
    sent = calls.put_file("a", b"abc", block_digest=digest).headers
    assert sent["Block-Digest"] == block_digest_field(digest)
    assert "Block-Digest" not in calls.put_file("a", b"abc").headers
    head = calls.file_head(CallResponse(200, {"content-length": "3", "block-digest": sent["Block-Digest"]}))
    assert (head.size, head.block_digest, head.sha256) == (3, digest.hex(), None)
