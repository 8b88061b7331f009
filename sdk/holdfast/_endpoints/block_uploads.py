"""Endpoints of uploads by blocks."""

from __future__ import annotations

from holdfast import wire
from holdfast._endpoints.call import Parts, Source, endpoint, read_nothing


@endpoint("POST", "/v1/block-uploads", wire.BlockUpload, takes=wire.BlockUploadRequest, repeatable=True)
def create_block_upload(
    name: str,
    size: int,
    *,
    overwrite: bool = False,
    etag: str | None = None,
    base: str | None = None,
    blocks: bytes | None = None,
) -> Parts:
    """Create an upload whose blocks come in any order.

    `blocks` are the digests of all blocks, if known; `base` is the ETag of the version of the file that has some of
    them. Repeatable: an upload whose response was lost has no bytes and expires.
    """
    return Parts(body=wire.BlockUploadRequest(name, size, overwrite, etag, base, blocks))


@endpoint("GET", "/v1/block-uploads/{id}", wire.BlockUpload)
def get_block_upload(id: str) -> Parts:
    """Read which blocks of an upload are missing."""
    return Parts(path={"id": id})


@endpoint("PUT", "/v1/block-uploads/{id}/blocks/{first}", wire.BlockUpload)
def put_blocks(id: str, first: int, data: bytes | Source) -> Parts:
    """Send whole blocks, one after another from `first` on. Several calls at once may do so."""
    return Parts(
        path={"id": id, "first": str(first)}, headers={"Content-Type": "application/octet-stream"}, content=data
    )


@endpoint("GET", "/v1/block-uploads/{id}/digests", wire.BlockDigests)
def block_upload_digests(id: str) -> Parts:
    """Read the digests of the blocks that the server has."""
    return Parts(path={"id": id})


@endpoint("POST", "/v1/block-uploads/{id}/end", wire.FileInfo, takes=wire.BlockUploadEnd, repeatable=True)
def end_block_upload(id: str, digest: str, *, proof: str | None = None) -> Parts:
    """Publish an upload that has all blocks; `digest` is that of the whole file, in hex."""
    return Parts(path={"id": id}, body=wire.BlockUploadEnd(digest, proof))


@endpoint("DELETE", "/v1/block-uploads/{id}", type(None), read=read_nothing)
def delete_block_upload(id: str) -> Parts:
    """Delete an upload. A published file stays."""
    return Parts(path={"id": id})


@endpoint("GET", "/v1/known-content", wire.ContentHint)
def known_content(size: int, first: str) -> Parts:
    """Ask whether the server may have a file of this size, whose first block has the digest `first`, in hex."""
    return Parts(query={"size": size, "first": first})
