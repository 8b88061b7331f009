"""Block digests by their definition, without a line of the product."""

from __future__ import annotations

import base64

from blake3 import blake3


def blocks_of(data: bytes) -> bytes:
    """The digests of the blocks, one after another."""
    return b"".join(blake3(data[at : at + 1_048_576]).digest() for at in range(0, len(data), 1_048_576))


def block_digest(data: bytes) -> str:
    """The digest of the whole, as hex."""
    return blake3(blocks_of(data)).hexdigest()


def etag_of(data: bytes) -> str:
    """The ETag field of a file that was published with its block digest."""
    return f'"{block_digest(data)[:32]}"'


def block_field(data: bytes) -> dict[str, str]:
    """A Block-Digest header."""
    return {"Block-Digest": f"blake3-1m=:{base64.b64encode(bytes.fromhex(block_digest(data))).decode()}:"}
