"""The Python clients of `benchmarks/sdk.py`, each run in a process of its own, which says what the transfer took.

python -m benchmarks.peers.clients NAME '{"url": ..., "path": ...}'

Prints one JSON object: `wall` and `cpu`, the seconds between the first request and the last byte in its place (all
threads, by getrusage), and `memory`, the most that the process had in RAM, in bytes; async clients also `lag`. Imports
are not part of it.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

PIECE = 1 << 20
TICK = 0.005
CLIENTS: dict[str, Callable[..., Callable[[], object]]] = {}


def client(function: Callable[..., Callable[[], object]]) -> Callable[..., Callable[[], object]]:
    """Mark what imports and prepares a client, and gives back the transfer."""
    CLIENTS[function.__name__] = function
    return function


def _sdk(url: str) -> tuple[str, str]:
    """The server of a file's URL, and the file's name."""
    base_url, _, name = url.partition("/v1/files/")
    return base_url, name


@client
def holdfast_down(url: str, path: str, **options: Any) -> Callable[[], object]:
    """`client.files.download`."""
    import holdfast

    base_url, name = _sdk(url)
    sdk = holdfast.Client(base_url)
    return lambda: sdk.files.download(name, path, overwrite=True, restart=True, **options).wait()


@client
def holdfast_async_down(url: str, path: str, **options: Any) -> Callable[[], object]:
    """The same with `await`, while another task measures the lag of the loop."""
    from holdfast import AsyncClient

    base_url, name = _sdk(url)

    async def fetch() -> dict[str, float]:
        async with AsyncClient(base_url) as sdk, _measured_loop() as lag:
            await sdk.files.download(name, path, overwrite=True, restart=True, **options)
        return lag

    return lambda: asyncio.run(fetch())


@client
def holdfast_async_up(url: str, path: str, **options: Any) -> Callable[[], object]:
    """`await client.files.upload`, likewise."""
    from holdfast import AsyncClient

    base_url, name = _sdk(url)

    async def send() -> dict[str, float]:
        async with AsyncClient(base_url) as sdk, _measured_loop() as lag:
            await sdk.files.upload(path, name, overwrite=True, restart=True, **options)
        return lag

    return lambda: asyncio.run(send())


@asynccontextmanager
async def _measured_loop() -> AsyncIterator[dict[str, float]]:
    """Seconds by which timers of a loop come late meanwhile: `lag`, the 99th percentile, and the longest."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            late.append(time.perf_counter() - due)

    found: dict[str, float] = {}
    ticking = asyncio.create_task(tick())
    try:
        yield found
    finally:
        ticking.cancel()
        late.sort()
        found |= {"lag": late[int(len(late) * 0.99)], "longest_lag": late[-1]} if late else {}


@client
def httpx_down(url: str, path: str) -> Callable[[], object]:
    """Download as people write it with httpx."""
    import httpx

    def fetch() -> None:
        with httpx.Client() as session, session.stream("GET", url) as response:
            _write(response.raise_for_status().iter_raw(), path)

    return fetch


@client
def requests_down(url: str, path: str) -> Callable[[], object]:
    """Download as people write it with requests."""
    import requests  # type: ignore[import-untyped, unused-ignore]  # of the extra bench

    def fetch() -> None:
        with requests.get(url, stream=True) as response:
            response.raise_for_status()
            _write(response.iter_content(PIECE), path)

    return fetch


def _write(pieces: Any, path: str) -> None:
    with Path(path).open("wb") as file:
        for piece in pieces:
            file.write(piece)


@client
def holdfast_up(url: str, path: str, **options: Any) -> Callable[[], object]:
    """`client.files.upload`, and the bytes that it has sent."""
    import holdfast

    base_url, name = _sdk(url)
    sdk = holdfast.Client(base_url)

    def send() -> dict[str, float]:
        transfer = sdk.files.upload(path, name, overwrite=True, restart=True, **options)
        transfer.wait()
        return {"sent": transfer.sent}

    return send


@client
def holdfast_folder_up(url: str, path: str, prefix: str) -> Callable[[], object]:
    """`client.files.upload_folder`."""
    import holdfast

    sdk = holdfast.Client(url)
    return lambda: sdk.files.upload_folder(path, prefix).wait()


@client
def holdfast_folder_down(url: str, path: str, prefix: str) -> Callable[[], object]:
    """`client.files.download_folder`."""
    import holdfast

    sdk = holdfast.Client(url)
    return lambda: sdk.files.download_folder(prefix, path).wait()


@client
def holdfast_async_folder_up(url: str, path: str, prefix: str) -> Callable[[], object]:
    """The same with `await`."""
    from holdfast import AsyncClient

    async def send() -> None:
        async with AsyncClient(url) as sdk:
            await sdk.files.upload_folder(path, prefix)

    return lambda: asyncio.run(send())


@client
def holdfast_async_folder_down(url: str, path: str, prefix: str) -> Callable[[], object]:
    """The same with `await`."""
    from holdfast import AsyncClient

    async def fetch() -> None:
        async with AsyncClient(url) as sdk:
            await sdk.files.download_folder(prefix, path)

    return lambda: asyncio.run(fetch())


@client
def tuspy_up(url: str, path: str, file_name: str, chunk_size: int | None = None) -> Callable[[], object]:
    """tuspy; its default is one request with the whole file, read into memory at once."""
    from tusclient.client import TusClient  # type: ignore[import-untyped, unused-ignore]  # of the extra bench

    options = {} if chunk_size is None else {"chunk_size": chunk_size}
    metadata = {"filename": file_name, "overwrite": "true"}
    return lambda: TusClient(url).uploader(file_path=path, metadata=metadata, **options).upload()


def _s3(url: str) -> Any:
    import boto3  # type: ignore[import-not-found, import-untyped, unused-ignore]  # of the extra bench

    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    found = boto3.client("s3", endpoint_url=url, **keys)
    found.create_bucket(Bucket="bench")
    return found


@client
def s3_up(url: str, path: str) -> Callable[[], object]:
    """s3transfer, by boto3's `upload_file`."""
    s3 = _s3(url)
    return lambda: s3.upload_file(path, "bench", "big.bin")


@client
def s3_down(url: str, path: str) -> Callable[[], object]:
    """s3transfer, by boto3's `download_file`."""
    s3 = _s3(url)
    return lambda: s3.download_file("bench", "big.bin", path)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(name: str, options: str) -> None:
    """Run one and say what it took."""
    transfer = CLIENTS[name](**json.loads(options))
    cpu, start = _cpu(), time.perf_counter()
    more = transfer()
    told = {"wall": time.perf_counter() - start, "cpu": _cpu() - cpu} | (more if isinstance(more, dict) else {})
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps(told | {"memory": memory}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
