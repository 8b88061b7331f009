"""Fields with digests, as RFC 9530 writes them."""

from __future__ import annotations

import pytest

from holdfast import digests
from holdfast._endpoints import digest_fields

DIGEST = digests.of_file(b"abc")


def test_a_block_digest_is_written_and_read() -> None:
    field = digest_fields.block_digest_field(DIGEST)
    assert field is not None
    assert field.startswith("blake3-1m=:")
    assert digest_fields.block_digest_of({"block-digest": f"md5=:AAAA:, {field}"}) == DIGEST.hex()
    assert digest_fields.block_digest_field(None) is None


@pytest.mark.parametrize("field", ["", "blake3-1m", "blake3-1m=:AAAA:", "xblake3-1m=:" + "A" * 43 + "=:"])
def test_any_other_field_is_no_digest(field: str) -> None:
    assert digest_fields.block_digest_of({"block-digest": field}) is None


@pytest.mark.parametrize(
    ("field", "wanted"), [("blake3-1m=10", True), ("sha-256=5, blake3-1m=1", True), ("blake3-1m=0", False), ("", False)]
)
def test_a_server_says_which_digests_it_wants(field: str, wanted: bool) -> None:
    assert digest_fields.wants_blocks({"want-block-digest": field}) is wanted
