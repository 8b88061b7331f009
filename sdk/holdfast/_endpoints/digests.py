"""Endpoints of block digests: of a file, and of an upload whose wrong blocks are then replaced."""

from __future__ import annotations

from holdfast import wire
from holdfast._endpoints.call import Parts, Source, endpoint, read_nothing


@endpoint("GET", "/v1/digests/{name}", wire.BlockDigests)
def file_digests(name: str, *, etag: str | None = None) -> Parts:
    """Read the digests of all blocks of a file; of the version `etag` alone, if it is given."""
    return Parts(path={"name": name}, headers={"If-Match": None if etag is None else f'"{etag}"'})


@endpoint("GET", "/v1/uploads/{id}/digests", wire.BlockDigests)
def upload_digests(id: str) -> Parts:
    """Read the digests of the blocks of an upload that have come."""
    return Parts(path={"id": id})


@endpoint("PUT", "/v1/uploads/{id}/blocks/{first}", type(None), read=read_nothing)
def replace_blocks(id: str, first: int, data: bytes | Source) -> Parts:
    """Replace whole blocks of an upload that have come wrong, at most 8, from the index `first`."""
    return Parts(
        path={"id": id, "first": str(first)}, headers={"Content-Type": "application/octet-stream"}, content=data
    )
