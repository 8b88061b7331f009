"""What the tests of uploads by blocks share: content, its digests, and requests by hand."""

from __future__ import annotations

import base64
import functools
import random
from typing import Any

import httpx

from holdfast import digests
from holdfast.digests import BLOCK, SIZE

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
