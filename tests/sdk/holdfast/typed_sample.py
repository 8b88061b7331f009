"""Program of a user, for the type checkers: mypy --strict and pyright's strict mode find nothing in it. Not run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import holdfast
from holdfast import errors
from holdfast._transfers.handles import TransferProgress
from holdfast.wire import BulkAnswer, Event, FileInfo, LogLine, Process, State
from holdfast.work import Job, NoParams, Progress


def processes(client: holdfast.Client) -> None:
    process = client.processes.start("import-csv", id="nightly", file_name="flights.csv", table="flights")
    assert_type(process, holdfast.Process)
    assert_type(process.state, State)
    assert_type(process.pause(), holdfast.Process)
    assert_type(process.wait(10, until="paused"), holdfast.Process)
    assert_type(process.info, Process)
    for event in process.events():
        assert_type(event, Event)
    for line in process.log():
        assert_type(line, LogLine)
    for other in client.processes.list(state=["failed", State.PAUSED], labels={"team": "a"}):
        assert_type(other, holdfast.Process)
    assert_type(client.processes.pause_all(work_type="import-csv"), BulkAnswer)
    try:
        print(process.result(timeout=60))
    except errors.ProcessFailed as failed:
        print(failed.process.error)
    except errors.IllegalState as refused:
        print(refused.possible)


def files(client: holdfast.Client) -> None:
    upload = client.files.upload(Path("flights.csv"), overwrite=True)
    assert_type(upload, holdfast.Transfer[FileInfo])
    assert_type(upload.progress, TransferProgress)
    upload.on_change(lambda transfer: print(transfer.progress.rate))
    assert_type(upload.wait(), FileInfo)
    assert_type(client.files.download("flights.csv").wait(), Path)
    assert_type(client.files.download_folder("data", "here").wait(), list[Path])
    assert_type(client.files.read("flights.csv", 0, 10), bytes)
    with client.files.open("flights.csv") as file:
        assert_type(file.read(), bytes)
    for info in client.files.list("data/"):
        assert_type(info, FileInfo)
    for record in client.transfers.pending():
        client.transfers.resume(record).wait()


def sent(client: holdfast.Client) -> None:
    @client.process
    def count(job: Job[NoParams], to: int, *, by: int = 1) -> Iterator[Progress]:
        for i in range(0, to, by):
            yield Progress(i, to, {"i": i})

    assert_type(count(10, by=2), holdfast.Process)


async def awaited() -> None:
    async with holdfast.AsyncClient("http://127.0.0.1:8000", token=lambda: "secret", timeout=5, retries=3) as client:
        process = await client.processes.start("manifest")
        assert_type(process, holdfast.AsyncProcess)
        assert_type(await process.pause(), holdfast.AsyncProcess)
        async for event in process.events():
            assert_type(event, Event)
        upload = client.files.upload(b"bytes", "name")
        assert_type(upload, holdfast.AsyncTransfer[FileInfo])
        assert_type(await upload, FileInfo)
        assert_type(await client.files.download("name"), Path)


def local() -> None:
    with holdfast.local_server() as server:
        assert_type(server, holdfast.LocalServer)
        with server.client() as client:
            processes(client)
