"""The async face: `AsyncClient`. Every method is one plan, run on the caller's asyncio loop.

async with holdfast.AsyncClient("http://127.0.0.1:8000") as client:
    process = await client.processes.start("import-csv", file_name="flights.csv", table="flights")
    print(await process.result())
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from holdfast import calls, plans, wire
from holdfast._download import Download
from holdfast._http import AsyncDriver, AsyncTransport, Connection, Token
from holdfast._job import Job, R, Surroundings
from holdfast._local import Content, name_of, source_of
from holdfast._records import Record, pending, records_dir
from holdfast._shown import ShowsFiles, ShowsProcesses, ShowsServer
from holdfast._upload import Upload
from holdfast._views import (
    ProcessView,
    Which,
    all_events,
    bulk,
    file_page,
    job_of,
    listing,
    new_id,
    process_events,
    states,
    upload_page,
)
from holdfast.client import target_of
from holdfast.plans import Retries
from holdfast.transfers import AsyncTransfer
from holdfast.wire import ENDED, State

__all__ = ["AsyncClient", "AsyncProcess"]


class AsyncClient(ShowsServer):
    """A Holdfast server. Safe to share between tasks; an async context manager that closes its connections.

    Args:
        base_url: the server; else `HOLDFAST_URL`, else http://127.0.0.1:8000. May have a path, behind a proxy.
        token: what `Authorization: Bearer` carries; else `HOLDFAST_TOKEN`. A function is asked before every request.
        timeout: seconds without a byte after which a request is given up.
        retries: how often what is safe to repeat is tried again; see `holdfast.plans.Retries`.
        transport: an async httpx transport in place of the network.

    Raises:
        ValueError: `base_url` is not an http or https URL.
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: Token = None,
        *,
        timeout: float = 30.0,
        retries: int | Retries | None = None,
        transport: AsyncTransport | None = None,
    ) -> None:
        self._connection = Connection.of(base_url, token, timeout, retries)
        self._driver = AsyncDriver(self._connection, transport)
        self.processes = AsyncProcesses(self)
        self.files = AsyncFiles(self)
        self.transfers = AsyncTransfers(self)
        self.seed = AsyncSeed(self)

    @property
    def base_url(self) -> str:
        """Where the server is, without a slash at the end."""
        return self._connection.base_url

    @property
    def token(self) -> Token:
        """The token in use; assign another one when it has changed."""
        return self._connection.token

    @token.setter
    def token(self, token: Token) -> None:
        self._connection.token = token

    async def work_types(self) -> list[wire.WorkTypeInfo]:
        """What this server can run."""
        return (await self._request(calls.list_work_types())).items

    def events(self, *, after: int | None = None) -> AsyncIterator[wire.Event]:
        """What happens on the server, without end: processes, files and uploads. Reconnects by itself.

        `after` is the `seq` of the last event that is known already; None begins with the next.
        """
        return self._iterate(plans.events(all_events, after, None, self._patience))

    async def close(self) -> None:
        """Close every connection; transfers that run are not waited for."""
        await self._driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}>"

    def _begin(self, job: Job[R]) -> AsyncTransfer[R]:
        transfer = AsyncTransfer(job, self._driver)
        transfer.resume()
        return transfer

    @property
    def _around(self) -> Surroundings:
        return Surroundings(self.base_url, self._patience, records_dir())

    @property
    def _retries(self) -> Retries:
        return self._connection.retries

    @property
    def _patience(self) -> Retries:
        return self._connection.patience

    async def _run(self, plan: plans.Plan[plans.T]) -> plans.T:
        return await self._driver.run(plan)

    def _iterate(self, plan: plans.Plan[None]) -> AsyncIterator[Any]:
        return self._driver.iterate(plan)

    async def _request(self, call: calls.Call[calls.T]) -> calls.T:
        return await self._driver.run(plans.request(call, self._connection.retries))


class AsyncProcess(ProcessView):
    """A process on the server, as it stood at the last answer."""

    def __init__(self, client: AsyncClient, info: wire.Process) -> None:
        super().__init__(info)
        self._client = client

    async def refresh(self) -> Self:
        """Ask how it stands now."""
        self._info = await self._client._request(calls.get_process(self.id))
        return self

    async def pause(self) -> Self:
        """Stop at the next yield and keep the checkpoint. Raises `IllegalState`."""
        return await self._verb("pause", calls.pause_process(self.id))

    async def resume(self) -> Self:
        """Go on from the last checkpoint; a failed process tries again. Raises `IllegalState`."""
        return await self._verb("resume", calls.resume_process(self.id))

    async def cancel(self) -> Self:
        """Stop at the next yield, then roll back. Raises `IllegalState`."""
        return await self._verb("cancel", calls.cancel_process(self.id))

    async def kill(self) -> Self:
        """End what does not yield. Raises `Conflict` where its place can't be killed (a thread)."""
        return await self._verb("kill", calls.kill_process(self.id))

    async def forget(self) -> None:
        """Remove it from the server; it must have ended. Raises `IllegalState`."""
        await self._client._run(plans.forget(calls.forget_process(self.id), self._client._retries))

    async def wait(self, timeout: float | None = None, *, until: Iterable[State | str] | State | str = ENDED) -> Self:
        """Return once it has ended, or is in one of the states of `until`.

        Raises:
            WaitTimeout: neither happened within `timeout` seconds; the process goes on.
        """
        self._info = await self._client._run(plans.wait(self._info, states(until), timeout, self._client._retries))
        return self

    async def result(self, timeout: float | None = None) -> Any:
        """Wait for the end, and what the work returned.

        Raises:
            ProcessFailed, ProcessCancelled: it ended without a result.
            WaitTimeout: it has not ended within `timeout` seconds.
        """
        return plans.result_of((await self.wait(timeout)).info)

    def log(self, *, after: int = 0) -> AsyncIterator[wire.LogLine]:
        """The lines that it has logged so far, past line number `after`."""
        return self._client._iterate(plans.log(self.id, after, self._client._retries))

    def events(self, *, after: int | None = 0) -> AsyncIterator[wire.Event]:
        """What happens to it, until it has ended: every state change, and progress and log lines as they come.

        Reconnects by itself and misses no state change. `after` is the `seq` of the last event that is known already;
        0 begins with the first there was, None with the next.
        """
        plan = plans.events(partial(process_events, self.id), after, self.id, self._client._patience)
        return self._client._iterate(plan)

    async def _verb(self, name: str, call: calls.Call[wire.Process]) -> Self:
        get = calls.get_process(self.id)
        self._info = await self._client._run(plans.verb(name, call, get, self._client._retries))
        return self


class AsyncProcesses(ShowsProcesses):
    """`client.processes`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def start(
        self,
        work_type: str,
        /,
        *,
        id: str | None = None,
        place: wire.Place | None = None,
        priority: int = 0,
        labels: Mapping[str, str] | None = None,
        retries: int | None = None,
        deadline: float | None = None,
        **params: Any,
    ) -> AsyncProcess:
        """Start a process. Starting the same `id` with the same request again gives the process as it stands.

        Args:
            work_type: what to run; `client.work_types()` lists what there is.
            id: what it is found by; one is made up when left out.
            place: where it runs, in place of the work type's own choice.
            priority: higher ones leave the queue first.
            labels: for filters of `list` and the bulk verbs.
            retries: how often a failed attempt is tried again, in place of the work type's own number.
            deadline: seconds from now after which it fails.
            params: the work type's parameters.

        Raises:
            BadRequest: an unknown work type, or parameters that do not fit; `field` names the parameter.
            IdTaken: the id belongs to another request.
        """
        request = wire.StartRequest(
            work_type, params, id or new_id(work_type), place, priority, dict(labels or {}), retries, deadline
        )
        return AsyncProcess(self._client, await self._client._request(calls.start_process(request)))

    async def get(self, id: str) -> AsyncProcess:
        """The process of this id. Raises `NotFound`."""
        return AsyncProcess(self._client, await self._client._request(calls.get_process(id)))

    async def list(
        self,
        *,
        state: Iterable[State | str] | State | str | None = None,
        work_type: str | None = None,
        labels: Mapping[str, str] | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[AsyncProcess]:
        """Processes that match, newest first; pages are fetched as the iteration reaches them."""
        page = listing(state, work_type, labels, page_size)
        async for info in self._client._iterate(plans.pages(page, self._client._retries)):
            yield AsyncProcess(self._client, info)

    async def pause(self, id: str) -> AsyncProcess:
        """As `AsyncProcess.pause`, by id."""
        return await self._verb("pause", id, calls.pause_process(id))

    async def resume(self, id: str) -> AsyncProcess:
        """As `AsyncProcess.resume`, by id."""
        return await self._verb("resume", id, calls.resume_process(id))

    async def cancel(self, id: str) -> AsyncProcess:
        """As `AsyncProcess.cancel`, by id."""
        return await self._verb("cancel", id, calls.cancel_process(id))

    async def kill(self, id: str) -> AsyncProcess:
        """As `AsyncProcess.kill`, by id."""
        return await self._verb("kill", id, calls.kill_process(id))

    async def wait(self, id: str, timeout: float | None = None) -> AsyncProcess:
        """As `AsyncProcess.wait`, by id."""
        return await (await self.get(id)).wait(timeout)

    async def forget(self, id: str) -> None:
        """As `AsyncProcess.forget`, by id."""
        await self._client._run(plans.forget(calls.forget_process(id), self._client._retries))

    async def pause_all(self, **which: Unpack[Which]) -> wire.BulkAnswer:
        """Pause all that match. Raises `BadRequest` when there is no filter at all."""
        return await self._client._request(calls.pause_processes(bulk(which)))

    async def resume_all(self, **which: Unpack[Which]) -> wire.BulkAnswer:
        """Resume all that match."""
        return await self._client._request(calls.resume_processes(bulk(which)))

    async def cancel_all(self, **which: Unpack[Which]) -> wire.BulkAnswer:
        """Cancel all that match."""
        return await self._client._request(calls.cancel_processes(bulk(which)))

    async def _verb(self, name: str, id: str, call: calls.Call[wire.Process]) -> AsyncProcess:
        plan = plans.verb(name, call, calls.get_process(id), self._client._retries)
        return AsyncProcess(self._client, await self._client._run(plan))


class AsyncFiles(ShowsFiles):
    """`client.files`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def upload(
        self,
        content: Content,
        name: str | None = None,
        *,
        overwrite: bool = False,
        restart: bool = False,
        segments: int | None = None,
        limit: float | None = None,
    ) -> AsyncTransfer[wire.FileInfo]:
        """Send a file in the background; awaiting it gives the file as the server has it.

        What an earlier kernel or process has sent of the same file is not sent again. Content that is published under
        this name already is done at once.

        Args:
            content: a path, bytes, a binary file or an iterable of bytes. What can't be sought can't be gone on with by
                another process, and what the server has not confirmed of it is kept in memory, at most 8 MiB.
            name: the file's name on the server; else the last part of the path.
            overwrite: replace another file of that name; else that is `FileExists`.
            restart: begin at byte 0, whatever there is.
            segments: connections at once; as many as pay, found out by measuring, when left out.
            limit: bytes a second at most.

        Raises:
            OSError: the path can't be read.
            ValueError: there is no name, and none can be told from `content`.
        """
        return self._client._begin(
            Upload(
                self._client._around,
                source_of(content),
                name or name_of(content),
                overwrite=overwrite,
                restart=restart,
                segments=segments,
                limit=limit,
            )
        )

    def download(
        self,
        name: str,
        to: str | os.PathLike[str] | None = None,
        *,
        overwrite: bool = False,
        restart: bool = False,
        segments: int | None = None,
        limit: float | None = None,
    ) -> AsyncTransfer[Path]:
        """Fetch a file in the background; awaiting it gives the path.

        What an earlier kernel or process left of the same download is gone on with. A target that is the same file
        already is done at once.

        Args:
            name: the file's name on the server.
            to: a file, or a folder that is there; else the working directory.
            overwrite: replace another file that is there; else that is `LocalExists`.
            restart: begin at byte 0, whatever there is.
            segments: connections at once; as many as pay, found out by measuring, when left out.
            limit: bytes a second at most.
        """
        return self._client._begin(
            Download(
                self._client._around,
                name,
                target_of(name, to),
                overwrite=overwrite,
                restart=restart,
                segments=segments,
                limit=limit,
            )
        )

    def uploads(self, *, page_size: int | None = None) -> AsyncIterator[wire.UploadInfo]:
        """Uploads in the making, of every client, and finished ones that the server still remembers."""
        page = partial(upload_page, page_size)
        return self._client._iterate(plans.pages(page, self._client._retries))

    def list(self, prefix: str = "", *, page_size: int | None = None) -> AsyncIterator[wire.FileInfo]:
        """Published files whose names begin with `prefix`, by name; pages are fetched as the iteration reaches them."""
        page = partial(file_page, prefix, page_size)
        return self._client._iterate(plans.pages(page, self._client._retries))

    async def info(self, name: str) -> wire.FileInfo:
        """Size, entity tag, digest and type of a file. Raises `NotFound`."""
        return await self._client._run(plans.info(name, self._client._retries))

    async def read(self, name: str, begin: int = 0, end: int | None = None, *, etag: str | None = None) -> bytes:
        """The bytes of a file from `begin` up to, not including, `end`, in memory.

        Raises:
            PreconditionFailed: `etag` is given and the file is another version.
            RangeNotSatisfiable: `begin` is at or past the end.
        """
        whole = begin == 0 and end is None
        call = calls.get_file(name, begin=None if whole else begin, end=end, etag=etag)
        return await self._client._request(call)

    async def write(self, name: str, data: bytes, *, overwrite: bool = False, etag: str | None = None) -> wire.FileInfo:
        """Publish `data` as a file in one request. Bigger ones go better by `upload`.

        Raises:
            PreconditionFailed: the file exists and `overwrite` is false, or it is not the version of `etag`.
        """
        absent = not overwrite and etag is None
        return await self._client._run(plans.put(name, data, etag, absent, self._client._retries))

    async def delete(self, name: str, *, etag: str | None = None) -> None:
        """Remove a file; with `etag`, only while it is that version. Raises `NotFound`, `PreconditionFailed`."""
        await self._client._run(plans.forget(calls.delete_file(name, etag=etag), self._client._retries))


class AsyncTransfers:
    """`client.transfers`: what was begun with this server from this machine and is not over."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def pending(self) -> list[Record]:
        """Transfers that can be gone on with, oldest first: paused, failed, cut off by the end of a kernel or process.

        Those that are running now are among them.
        """
        return [*pending(records_dir(), self._client.base_url)]

    def resume(self, record: Record) -> AsyncTransfer[Any]:
        """Go on with one of `pending()`, in the background. Raises `OSError` when the local file is gone."""
        return self._client._begin(job_of(record, self._client._around))


class AsyncSeed:
    """`client.seed`: the seed's endpoints, one request a method."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def start(self, id: str, work_type: str | None = None, **params: Any) -> wire.Process:
        """`GET /{id}/process/`: start it, or see how it stands."""
        return await self._client._request(calls.seed_start(id, work_type, params))

    async def pause(self, id: str) -> wire.Process:
        """`POST /{id}/process/pause/`."""
        return await self._client._request(calls.seed_pause(id))

    async def resume(self, id: str, work_types: list[str] | None = None) -> wire.Process:
        """`POST /{id}/process/resume/`."""
        return await self._client._request(calls.seed_resume(id, work_types))

    async def cancel(self, id: str) -> wire.Process:
        """`POST /{id}/process/cancel/`."""
        return await self._client._request(calls.seed_cancel(id))

    async def download(
        self, file_name: str, bytes_read: int = 0, *, encoding: calls.Encoding = "text", etag: str | None = None
    ) -> wire.DownloadPiece:
        """`GET /download/`: the piece at `bytes_read`."""
        return await self._client._request(calls.seed_download(file_name, bytes_read, encoding=encoding, etag=etag))

    async def upload_status(self, file_name: str) -> wire.UploadStatus:
        """`GET /upload/`: where to go on."""
        return await self._client._request(calls.seed_upload_status(file_name))

    async def upload(
        self,
        file_name: str,
        bytes_read: int,
        data: bytes,
        *,
        encoding: calls.Encoding = "text",
        file_size: int | None = None,
        overwrite: bool = False,
        is_complete: bool | None = None,
    ) -> wire.UploadStatus:
        """`POST /upload/`: append `data` at `bytes_read`."""
        call = calls.seed_upload(
            file_name,
            bytes_read,
            data,
            encoding=encoding,
            file_size=file_size,
            overwrite=overwrite,
            is_complete=is_complete,
        )
        return await self._client._request(call)

    async def upload_cancel(self, file_name: str) -> wire.UploadCancelled:
        """`POST /upload/cancel/`: delete the intermediate file."""
        return await self._client._request(calls.seed_upload_cancel(file_name))
