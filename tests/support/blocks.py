"""Shared by the tests of uploads by blocks: content, its digests, and requests by hand."""

from __future__ import annotations

import base64
import functools
import random
from typing import Any, Protocol

import httpx

from holdfast import digests, wire
from holdfast.digests import BLOCK, SIZE
from tornado_app.files.service import FileService
from tornado_app.files.uploads.blocks.service import BlockUploads
from tornado_app.files.uploads.upload import Upload

Client = httpx.Client | httpx.AsyncClient


@functools.cache
def content(size: int, seed: int = 0) -> bytes:
    """Bytes of which no two blocks are the same."""
    return random.Random(seed).randbytes(size)


def listed(data: bytes) -> bytes:
    """The digests of the blocks of `data`, one after another."""
    return b"".join(digests.of_block(data[at : at + BLOCK]) for at in range(0, len(data), BLOCK))


def whole(data: bytes) -> str:
    """The digest of a file, as hex."""
    return digests.of_blocks(listed(data)).hex()


def creation(name: str, data: bytes, *, known: bool = False, **more: Any) -> dict[str, Any]:
    """The body of a creation; with the digests if they are `known`."""
    if known:
        more["blocks"] = base64.b64encode(listed(data)).decode()
    return {"name": name, "size": len(data), **more}


def create(http: Client, name: str, data: bytes, *, known: bool = False, **more: Any) -> Any:
    """Create an upload; awaited where the client is async."""
    return http.post("/v1/block-uploads", json=creation(name, data, known=known, **more))


def put(http: Client, url: str, data: bytes, first: int, count: int = 1) -> Any:
    """Send `count` blocks of `data` from `first` on."""
    return http.put(f"{url}/blocks/{first}", content=data[first * BLOCK : (first + count) * BLOCK])


def end(http: Client, url: str, data: bytes, **more: Any) -> Any:
    """End an upload whose content should be `data`."""
    return http.post(f"{url}/end", json={"digest": whole(data), **more})


def there(answer: httpx.Response) -> list[int]:
    """The blocks of which a list of digests has one."""
    blocks = base64.b64decode(answer.json()["blocks"])
    found = [blocks[at : at + SIZE] for at in range(0, len(blocks), SIZE)]
    return [index for index, digest in enumerate(found) if digest != digests.ABSENT]


# -- by the service


class HasBlockUploads(Protocol):
    """A service or server."""

    @property
    def block_uploads(self) -> BlockUploads: ...


async def send(service: HasBlockUploads, upload: Upload, data: bytes, first: int, end: int) -> None:
    """Send the blocks from `first` up to, not including, `end`."""
    body = await service.block_uploads.receive(upload, first, None, lambda: None)
    room = body.write(data[first * BLOCK : end * BLOCK])
    if room is not None:
        await room
    await service.block_uploads.finish(upload, body)


async def send_missing(service: FileService, upload: Upload, data: bytes) -> list[tuple[int, int]]:
    """Send the missing blocks; return which they were."""
    missing = (await service.block_uploads.state(upload)).missing
    for first, end in missing:
        await send(service, upload, data, first, end)
    return missing


async def publish(service: FileService, name: str, data: bytes) -> str:
    """Upload a file by blocks and return its ETag."""
    request = wire.BlockUploadRequest(name, len(data), overwrite=True)
    upload = await service.block_uploads.create(request)
    await send_missing(service, upload, data)
    stat, _ = await service.block_uploads.end(upload, wire.BlockUploadEnd(whole(data)))
    return stat.etag


async def read(service: FileService, name: str) -> bytes:
    """Return the content of a file."""
    reader = await service.run(service.store.open, name)
    try:
        return await service.run(reader.read, 0, 1 << 30)
    finally:
        await service.run(reader.close)
