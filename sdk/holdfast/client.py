"""The sync face: `Client`. Every method is one plan, run in the calling thread.

with holdfast.Client("http://127.0.0.1:8000") as client:
    process = client.processes.start("import-csv", file_name="flights.csv", table="flights")
    print(process.wait().result())
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from holdfast import calls, plans, wire
from holdfast._download import Download
from holdfast._http import Connection, SyncDriver, SyncTransport, Token
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
from holdfast.plans import Retries
from holdfast.transfers import Transfer
from holdfast.wire import ENDED, State

__all__ = ["Client", "Process"]


class Client(ShowsServer):
    """A Holdfast server. Safe to share between threads; a context manager that closes its connections.

    Args:
        base_url: the server; else `HOLDFAST_URL`, else http://127.0.0.1:8000. May have a path, behind a proxy.
        token: what `Authorization: Bearer` carries; else `HOLDFAST_TOKEN`. A function is asked before every request.
        timeout: seconds without a byte after which a request is given up.
        retries: how often what is safe to repeat is tried again; see `holdfast.plans.Retries`.
        transport: an httpx transport in place of the network.

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
        transport: SyncTransport | None = None,
    ) -> None:
        self._connection = Connection.of(base_url, token, timeout, retries)
        self._driver = SyncDriver(self._connection, transport)
        self.processes = Processes(self)
        self.files = Files(self)
        self.transfers = Transfers(self)
        self.seed = Seed(self)

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

    def work_types(self) -> list[wire.WorkTypeInfo]:
        """What this server can run."""
        return self._request(calls.list_work_types()).items

    def events(self, *, after: int | None = None) -> Iterator[wire.Event]:
        """What happens on the server, without end: processes, files and uploads. Reconnects by itself.

        `after` is the `seq` of the last event that is known already; None begins with the next.
        """
        return self._iterate(plans.events(all_events, after, None, self._patience))

    def close(self) -> None:
        """Close every connection; transfers that run are not waited for."""
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}>"

    def _begin(self, job: Job[R]) -> Transfer[R]:
        transfer = Transfer(job, self._driver)
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

    def _run(self, plan: plans.Plan[plans.T]) -> plans.T:
        return self._driver.run(plan)

    def _iterate(self, plan: plans.Plan[None]) -> Iterator[Any]:
        return self._driver.iterate(plan)

    def _request(self, call: calls.Call[calls.T]) -> calls.T:
        return self._driver.run(plans.request(call, self._connection.retries))


class Process(ProcessView):
    """A process on the server, as it stood at the last answer."""

    def __init__(self, client: Client, info: wire.Process) -> None:
        super().__init__(info)
        self._client = client

    def refresh(self) -> Self:
        """Ask how it stands now."""
        self._info = self._client._request(calls.get_process(self.id))
        return self

    def pause(self) -> Self:
        """Stop at the next yield and keep the checkpoint. Raises `IllegalState`."""
        return self._verb("pause", calls.pause_process(self.id))

    def resume(self) -> Self:
        """Go on from the last checkpoint; a failed process tries again. Raises `IllegalState`."""
        return self._verb("resume", calls.resume_process(self.id))

    def cancel(self) -> Self:
        """Stop at the next yield, then roll back. Raises `IllegalState`."""
        return self._verb("cancel", calls.cancel_process(self.id))

    def kill(self) -> Self:
        """End what does not yield. Raises `Conflict` where its place can't be killed (a thread)."""
        return self._verb("kill", calls.kill_process(self.id))

    def forget(self) -> None:
        """Remove it from the server; it must have ended. Raises `IllegalState`."""
        self._client._run(plans.forget(calls.forget_process(self.id), self._client._retries))

    def wait(self, timeout: float | None = None, *, until: Iterable[State | str] | State | str = ENDED) -> Self:
        """Return once it has ended, or is in one of the states of `until`.

        Raises:
            WaitTimeout: neither happened within `timeout` seconds; the process goes on.
        """
        self._info = self._client._run(plans.wait(self._info, states(until), timeout, self._client._retries))
        return self

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end, and what the work returned.

        Raises:
            ProcessFailed, ProcessCancelled: it ended without a result.
            WaitTimeout: it has not ended within `timeout` seconds.
        """
        return plans.result_of(self.wait(timeout).info)

    def log(self, *, after: int = 0) -> Iterator[wire.LogLine]:
        """The lines that it has logged so far, past line number `after`."""
        return self._client._iterate(plans.log(self.id, after, self._client._retries))

    def events(self, *, after: int | None = 0) -> Iterator[wire.Event]:
        """What happens to it, until it has ended: every state change, and progress and log lines as they come.

        Reconnects by itself and misses no state change. `after` is the `seq` of the last event that is known already;
        0 begins with the first there was, None with the next.
        """
        plan = plans.events(partial(process_events, self.id), after, self.id, self._client._patience)
        return self._client._iterate(plan)

    def _verb(self, name: str, call: calls.Call[wire.Process]) -> Self:
        get = calls.get_process(self.id)
        self._info = self._client._run(plans.verb(name, call, get, self._client._retries))
        return self


class Processes(ShowsProcesses):
    """`client.processes`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def start(
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
    ) -> Process:
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
        return Process(self._client, self._client._request(calls.start_process(request)))

    def get(self, id: str) -> Process:
        """The process of this id. Raises `NotFound`."""
        return Process(self._client, self._client._request(calls.get_process(id)))

    def list(
        self,
        *,
        state: Iterable[State | str] | State | str | None = None,
        work_type: str | None = None,
        labels: Mapping[str, str] | None = None,
        page_size: int | None = None,
    ) -> Iterator[Process]:
        """Processes that match, newest first; pages are fetched as the iteration reaches them."""
        page = listing(state, work_type, labels, page_size)
        for info in self._client._iterate(plans.pages(page, self._client._retries)):
            yield Process(self._client, info)

    def pause(self, id: str) -> Process:
        """As `Process.pause`, by id."""
        return self._verb("pause", id, calls.pause_process(id))

    def resume(self, id: str) -> Process:
        """As `Process.resume`, by id."""
        return self._verb("resume", id, calls.resume_process(id))

    def cancel(self, id: str) -> Process:
        """As `Process.cancel`, by id."""
        return self._verb("cancel", id, calls.cancel_process(id))

    def kill(self, id: str) -> Process:
        """As `Process.kill`, by id."""
        return self._verb("kill", id, calls.kill_process(id))

    def wait(self, id: str, timeout: float | None = None) -> Process:
        """As `Process.wait`, by id."""
        return self.get(id).wait(timeout)

    def forget(self, id: str) -> None:
        """As `Process.forget`, by id."""
        self._client._run(plans.forget(calls.forget_process(id), self._client._retries))

    def pause_all(self, **which: Unpack[Which]) -> wire.BulkAnswer:
        """Pause all that match. Raises `BadRequest` when there is no filter at all."""
        return self._client._request(calls.pause_processes(bulk(which)))

    def resume_all(self, **which: Unpack[Which]) -> wire.BulkAnswer:
        """Resume all that match."""
        return self._client._request(calls.resume_processes(bulk(which)))

    def cancel_all(self, **which: Unpack[Which]) -> wire.BulkAnswer:
        """Cancel all that match."""
        return self._client._request(calls.cancel_processes(bulk(which)))

    def _verb(self, name: str, id: str, call: calls.Call[wire.Process]) -> Process:
        plan = plans.verb(name, call, calls.get_process(id), self._client._retries)
        return Process(self._client, self._client._run(plan))


class Files(ShowsFiles):
    """`client.files`."""

    def __init__(self, client: Client) -> None:
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
    ) -> Transfer[wire.FileInfo]:
        """Send a file in the background; `wait()` gives the file as the server has it.

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
    ) -> Transfer[Path]:
        """Fetch a file in the background; `wait()` gives the path.

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

    def uploads(self, *, page_size: int | None = None) -> Iterator[wire.UploadInfo]:
        """Uploads in the making, of every client, and finished ones that the server still remembers."""
        page = partial(upload_page, page_size)
        return self._client._iterate(plans.pages(page, self._client._retries))

    def list(self, prefix: str = "", *, page_size: int | None = None) -> Iterator[wire.FileInfo]:
        """Published files whose names begin with `prefix`, by name; pages are fetched as the iteration reaches them."""
        page = partial(file_page, prefix, page_size)
        return self._client._iterate(plans.pages(page, self._client._retries))

    def info(self, name: str) -> wire.FileInfo:
        """Size, entity tag, digest and type of a file. Raises `NotFound`."""
        return self._client._run(plans.info(name, self._client._retries))

    def read(self, name: str, begin: int = 0, end: int | None = None, *, etag: str | None = None) -> bytes:
        """The bytes of a file from `begin` up to, not including, `end`, in memory.

        Raises:
            PreconditionFailed: `etag` is given and the file is another version.
            RangeNotSatisfiable: `begin` is at or past the end.
        """
        whole = begin == 0 and end is None
        call = calls.get_file(name, begin=None if whole else begin, end=end, etag=etag)
        return self._client._request(call)

    def write(self, name: str, data: bytes, *, overwrite: bool = False, etag: str | None = None) -> wire.FileInfo:
        """Publish `data` as a file in one request. Bigger ones go better by `upload`.

        Raises:
            PreconditionFailed: the file exists and `overwrite` is false, or it is not the version of `etag`.
        """
        absent = not overwrite and etag is None
        return self._client._run(plans.put(name, data, etag, absent, self._client._retries))

    def delete(self, name: str, *, etag: str | None = None) -> None:
        """Remove a file; with `etag`, only while it is that version. Raises `NotFound`, `PreconditionFailed`."""
        self._client._run(plans.forget(calls.delete_file(name, etag=etag), self._client._retries))


def target_of(name: str, to: str | os.PathLike[str] | None) -> Path:
    """Where a download of `name` lands."""
    path = Path(to) if to is not None else Path()
    return path / name.rpartition("/")[2] if path.is_dir() else path


class Transfers:
    """`client.transfers`: what was begun with this server from this machine and is not over."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def pending(self) -> list[Record]:
        """Transfers that can be gone on with, oldest first: paused, failed, cut off by the end of a kernel or process.

        Those that are running now are among them.
        """
        return [*pending(records_dir(), self._client.base_url)]

    def resume(self, record: Record) -> Transfer[Any]:
        """Go on with one of `pending()`, in the background. Raises `OSError` when the local file is gone."""
        return self._client._begin(job_of(record, self._client._around))


class Seed:
    """`client.seed`: the seed's endpoints, one request a method."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def start(self, id: str, work_type: str | None = None, **params: Any) -> wire.Process:
        """`GET /{id}/process/`: start it, or see how it stands."""
        return self._client._request(calls.seed_start(id, work_type, params))

    def pause(self, id: str) -> wire.Process:
        """`POST /{id}/process/pause/`."""
        return self._client._request(calls.seed_pause(id))

    def resume(self, id: str, work_types: list[str] | None = None) -> wire.Process:
        """`POST /{id}/process/resume/`."""
        return self._client._request(calls.seed_resume(id, work_types))

    def cancel(self, id: str) -> wire.Process:
        """`POST /{id}/process/cancel/`."""
        return self._client._request(calls.seed_cancel(id))

    def download(
        self, file_name: str, bytes_read: int = 0, *, encoding: calls.Encoding = "text", etag: str | None = None
    ) -> wire.DownloadPiece:
        """`GET /download/`: the piece at `bytes_read`."""
        return self._client._request(calls.seed_download(file_name, bytes_read, encoding=encoding, etag=etag))

    def upload_status(self, file_name: str) -> wire.UploadStatus:
        """`GET /upload/`: where to go on."""
        return self._client._request(calls.seed_upload_status(file_name))

    def upload(
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
        return self._client._request(call)

    def upload_cancel(self, file_name: str) -> wire.UploadCancelled:
        """`POST /upload/cancel/`: delete the intermediate file."""
        return self._client._request(calls.seed_upload_cancel(file_name))
