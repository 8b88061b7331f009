"""Upload and download of folders, a few files at a time. Files that are equal already are skipped."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal

import msgspec

from holdfast import calls, wire
from holdfast._local_files import dangerous_names, records
from holdfast._local_files.records import CompletedFile, Ledger, RecordFile, ResumeRecord
from holdfast._local_files.sources import FileSource
from holdfast._local_files.target import Target
from holdfast._local_files.walk import NO_NAME, Links, checked_links, walk
from holdfast._transfers.archive import ArchiveDownload
from holdfast._transfers.download import DownloadJob
from holdfast._transfers.job import R, TransferContext, TransferJob
from holdfast._transfers.pace import Throttle
from holdfast._transfers.small_files.download import Landed, SmallFileDownloads
from holdfast._transfers.small_files.upload import SmallFileUploads
from holdfast._transfers.upload.job import UploadJob, checked_name
from holdfast._transfers.verification import is_same
from holdfast.errors import BadRequest, LocalExists, NotFound, ProtocolError
from holdfast.plans import Do, Plan, Together, ensured, request

AT_ONCE = 4


class SentFolder(msgspec.Struct, frozen=True):
    """Result of a folder's upload: files `sent` now, those that were the `same` already, and names `left_out` with
    their `reasons`."""

    sent: list[wire.FileInfo]
    same: list[str]
    left_out: list[str]
    reasons: dict[str, str] = {}


class _Folder(TransferJob[R], Generic[R]):
    """Runs a job for each file that is not complete. A failure ends the run; another run continues."""

    kind: Literal["upload", "download"]

    def __init__(
        self, context: TransferContext, name: str, path: Path, prefix: str, *, restart: bool, limit: float | None
    ) -> None:
        self.name = name
        self.throttle = Throttle(limit)
        self._context = context
        self._path = path
        self._prefix = prefix if not prefix or prefix.endswith("/") else prefix + "/"
        self._restart = restart
        self._begun: set[str] = set()
        self._total: int | None = None
        self._completed_bytes = 0
        self._completed_sent = 0
        self._completed: set[str] = set()
        self._running: dict[str, TransferJob[Any]] = {}
        self._jobs: dict[str, TransferJob[Any]] = {}  # of files that are not complete
        self._lock = threading.Lock()
        self._record: ResumeRecord
        self._file: RecordFile | None = None
        self._is_done = False
        self._has_failed = False

    @property
    def done(self) -> int:
        with self._lock:
            return self._completed_bytes + sum(job.done for job in self._running.values()) + self._small_done()

    def _small_done(self) -> int:
        """Return the bytes of small files that are on their way together."""
        return 0

    @property
    def total(self) -> int | None:
        return self._total

    @property
    def sent(self) -> int:
        with self._lock:
            return self._completed_sent + sum(job.sent for job in self._jobs.values()) + self._small_done()

    # -- the records: one of the folder, to which those of its files refer

    @abstractmethod
    def _set_options(self, record: ResumeRecord) -> None:
        """Write the options of the call into a record."""

    def check_local(self) -> None:
        """Open the record."""
        self._own_file()

    def _own_file(self) -> RecordFile:
        if self._file is None:
            self._record = records.new_folder(self.kind, self._context.base_url, self._prefix, str(self._path))
            self._file = RecordFile(self._context.records, self._record.key)
        return self._file

    def begin(self) -> None:
        self._is_done = self._has_failed = False
        file = self._own_file()
        saved = file.take()
        if saved is not None:
            self._record = saved
        self._set_options(self._record)
        file.save(self._record)

    def close(self) -> None:
        file = self._own_file()
        nothing = (
            self._has_failed
            and not self._completed_bytes
            and not [*records.within(self._context.records, self._record.key)]
        )
        if file.is_held and (self._is_done or nothing):
            self._remove()
        file.release()

    def _remove(self) -> None:
        self._own_file().remove()

    def is_recorded(self) -> bool:
        return self._own_file().path.exists()

    def discard(self) -> Plan[None]:
        """Remove incomplete files on both sides; complete ones stay."""
        file: RecordFile = yield Do(self._own_file)
        yield from ensured(self._discard_all(file), file.release)

    def _discard_all(self, file: RecordFile) -> Plan[None]:
        yield Do(file.take)
        for job in self._jobs.values():
            yield from job.discard()
        yield from self._discard_the_rest()
        yield Do(self._remove)

    def _discard_the_rest(self) -> Plan[None]:
        """Discard jobs of an earlier run that this one did not need, such as one of a file that was just complete."""
        left: list[ResumeRecord] = yield Do(lambda: [*records.within(self._context.records, self._record.key)])
        for record in left:
            yield from job_of(record, self._context).discard()

    # -- the plan

    def run(self) -> Plan[R]:
        try:
            result = yield from self._transfer_all()
            yield from self._discard_the_rest()
        except Exception:
            self._has_failed = True
            raise
        self._is_done = True
        return result

    @abstractmethod
    def _transfer_all(self) -> Plan[R]:
        """Transfer every file."""

    @abstractmethod
    def _job(self, name: str, *, restart: bool) -> TransferJob[Any]:
        """Return the job for one file."""

    @abstractmethod
    def _on_completed(self, name: str, result: Any) -> None:
        """Note the result of a file. Blocks."""

    def _run_jobs(self, names: list[str]) -> Plan[None]:
        waiting = iter([name for name in names if name not in self._completed])

        def worker() -> Plan[None]:
            while True:
                with self._lock:
                    name = next(waiting, None)
                if name is None:
                    return
                yield from self._one(name)

        yield Together([worker() for _ in range(AT_ONCE)])

    def _one(self, name: str) -> Plan[None]:
        restart = self._restart and name not in self._begun  # only once: a resumed run continues
        self._begun.add(name)
        job: TransferJob[Any] = yield Do(partial(self._job, name, restart=restart))
        job.throttle, job.on_progress = self.throttle, self._on_progress
        with self._lock:
            self._jobs[name] = self._running[name] = job
        try:
            yield from ensured(self._run_one(name, job), job.close)
        finally:
            with self._lock:
                self._running.pop(name, None)

    def _run_one(self, name: str, job: TransferJob[Any]) -> Plan[None]:
        yield Do(job.begin)
        result = yield from job.run()
        yield Do(partial(self._end, name, job, result), always=True)

    def _end(self, name: str, job: TransferJob[Any], result: Any) -> None:
        with self._lock:
            self._on_completed(name, result)
            del self._running[name], self._jobs[name]
            self._completed_bytes += job.done
            self._completed_sent += job.sent
            self._completed.add(name)

    def _skip(self, name: str, size: int) -> None:
        """Count a file that was complete before this run."""
        with self._lock:
            self._completed_bytes += size
            self._completed.add(name)

    def _on_progress(self) -> None:
        self.on_progress()

    def _listing(self) -> Plan[list[wire.FileInfo]]:
        found: list[wire.FileInfo] = []
        cursor: str | None = None
        while True:
            call = calls.list_files(prefix=self._prefix or None, cursor=cursor, limit=1000)
            page = yield from request(call, self._context.retries)
            found += page.items
            cursor = page.next
            if cursor is None:
                return found


class UploadFolder(_Folder[SentFolder]):
    """Upload of every file below a folder, under a prefix of names."""

    kind: Literal["upload", "download"] = "upload"

    def __init__(
        self,
        context: TransferContext,
        folder: Path,
        prefix: str,
        *,
        overwrite: bool,
        restart: bool,
        delta: bool,
        links: str,
        limit: float | None,
    ) -> None:
        path = Path(os.path.abspath(folder))
        super().__init__(context, prefix or path.name, path, checked_name(prefix), restart=restart, limit=limit)
        self._overwrite = overwrite
        self._delta = delta
        self._links: Links = checked_links(links)
        self._sent: list[wire.FileInfo] = []
        self._same: list[str] = []
        self._refused: dict[str, BadRequest] = {}
        self._small = SmallFileUploads(
            context,
            path,
            self._prefix,
            overwrite=overwrite,
            throttle=self.throttle,
            on_progress=self._on_progress,
            on_landed=self._on_landed,
        )

    def _small_done(self) -> int:
        return self._small.done

    def _on_landed(self, name: str, file: wire.FileInfo) -> None:
        with self._lock:
            self._sent.append(file)
            self._completed_bytes += file.size
            self._completed_sent += file.size
            self._completed.add(name)

    def _set_options(self, record: ResumeRecord) -> None:
        record.overwrite, record.delta, record.links = self._overwrite, self._delta, self._links

    def begin(self) -> None:
        if not self._path.is_dir():
            raise NotADirectoryError(f"{self._path} is not a folder")
        super().begin()

    def _transfer_all(self) -> Plan[SentFolder]:
        found = yield Do(partial(walk, self._path, self._links))
        there = {file.name: file for file in (yield from self._listing())}
        self._total = sum(size for name, size in found.files.items() if name not in self._refused)  # by an earlier run
        for name, size in found.files.items():
            file = there.get(self._prefix + name)
            if name in self._completed or file is None or file.size != size:
                continue
            if (yield from is_same(self._path / name, file.name, file, self._context.retries)):
                self._skip(name, size)
                self._same.append(file.name)
                self.on_progress()
        yield from self._small.run({name: size for name, size in found.files.items() if name not in self._completed})
        yield from self._run_jobs([*found.files])
        if self._refused and not self._sent and not self._same:  # the prefix is refused, not some names
            raise next(iter(self._refused.values()))
        sent = sorted(self._sent, key=lambda file: file.name)
        left_out = dict(sorted({**found.left_out, **dict.fromkeys(self._refused, NO_NAME)}.items()))
        return SentFolder(sent, self._same, [*left_out], left_out)

    def _run_one(self, name: str, job: TransferJob[Any]) -> Plan[None]:
        """Leave out a file whose name the server refuses."""
        try:
            yield from super()._run_one(name, job)
        except BadRequest as error:
            if error.type.rpartition("/")[2] != "bad-name":
                raise
            self._leave_out(name, job, error)

    def _leave_out(self, name: str, job: TransferJob[Any], error: BadRequest) -> None:
        with self._lock:
            del self._running[name], self._jobs[name]
            self._completed.add(name)
            self._refused[name] = error
            self._total = (self._total or 0) - (job.total or 0)

    def _job(self, name: str, *, restart: bool) -> TransferJob[Any]:
        return UploadJob(
            self._context,
            FileSource(self._path / name),
            self._prefix + name,
            overwrite=self._overwrite,
            restart=restart,
            delta=self._delta,
            within=self._record.key,
        )

    def _on_completed(self, name: str, result: Any) -> None:
        self._sent.append(result)


class DownloadFolder(_Folder[list[Path]]):
    """Download of every file whose name begins with a prefix into a folder."""

    kind: Literal["upload", "download"] = "download"

    def __init__(
        self,
        context: TransferContext,
        prefix: str,
        to: Path,
        *,
        overwrite: bool,
        restart: bool,
        allow_dangerous: bool,
        limit: float | None,
    ) -> None:
        super().__init__(context, prefix, to.absolute(), prefix, restart=restart, limit=limit)
        self._overwrite = overwrite
        self._allow_dangerous = allow_dangerous
        self._etags: dict[str, str] = {}
        self._targets: dict[str, Path] = {}
        self._downloaded: dict[str, Path] = {}
        self._ledger: Ledger | None = None
        self._small = SmallFileDownloads(context, self._prefix, throttle=self.throttle, on_landed=self._on_landed)

    def _small_done(self) -> int:
        return self._small.done

    def _on_landed(self, landed: Sequence[Landed]) -> None:
        """Note small files that came together."""
        entries = [
            CompletedFile(file.name, file.etag, status.st_size, status.st_mtime_ns, status.st_ino)
            for file, _, status in landed
        ]
        with self._lock:
            for file, target, _ in landed:
                self._downloaded[file.name] = target
                self._completed_bytes += file.size
                self._completed_sent += file.size
                self._completed.add(file.name)
            if self._ledger is not None:
                self._ledger.add(*entries)
        self._on_progress()

    def _set_options(self, record: ResumeRecord) -> None:
        record.overwrite, record.allow_dangerous = self._overwrite, self._allow_dangerous

    def begin(self) -> None:
        super().begin()
        self._ledger = Ledger(self._own_file().path)
        if self._restart and not self._begun:
            self._ledger.remove()

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
        super().close()

    def _remove(self) -> None:
        Ledger(self._own_file().path).remove()
        super()._remove()

    def _transfer_all(self) -> Plan[list[Path]]:
        files = yield from self._listing()
        if not files and self._prefix:
            raise NotFound(404, "There is no such folder", f"the server has no file below {self._prefix!r}")
        yield Do(partial(self._check, [file.name for file in files]))
        self._total = sum(file.size for file in files)
        self._etags = {file.name: file.etag for file in files}
        yield Do(partial(self._skip_completed, files))
        targets = {file.name: self._target(file.name) for file in files if file.name not in self._completed}
        yield from self._small.run(files, targets)
        yield from self._run_jobs([file.name for file in files])
        return [self._downloaded[file.name] for file in files]

    def _skip_completed(self, files: list[wire.FileInfo]) -> None:
        """Skip files that an earlier run has completed and that have not changed since, here or on the server."""
        entries = self._ledger.read() if self._ledger is not None else {}
        for file in files:
            saved = entries.get(file.name)
            if file.name in self._completed or saved is None or not file.etag or saved.etag != file.etag:
                continue
            if saved == CompletedFile.of(file.name, file.etag, self._target(file.name)):
                self._downloaded[file.name] = self._target(file.name)
                self._skip(file.name, file.size)

    def _target(self, name: str) -> Path:
        known = self._targets.get(name)
        if known is None:
            relative = name.removeprefix(self._prefix)
            parts = [part for part in relative.split("/") if part not in ("", ".")]
            if not parts or ".." in parts or relative.startswith("/") or "\0" in name:
                raise ProtocolError(f"the server lists {name!r}, which is not the name of a file in a folder")
            known = self._targets[name] = Path(self._path, *parts)
        return known

    def _check(self, names: list[str]) -> None:
        """Check all targets before the first download: dangerous ones, and two names with the same target."""
        targets = {name: self._target(name) for name in names}
        if not self._allow_dangerous:
            dangerous_names.refuse(targets.items(), self._path)
        taken: dict[tuple[str, str], str] = {}
        folders: dict[str, str] = {}
        for name, target in targets.items():
            folder, last = os.path.split(target)
            if folder not in folders:
                folders[folder] = os.path.realpath(folder)
            place = folders[folder], last
            if (other := taken.setdefault(place, name)) != name:
                raise LocalExists(
                    f"{other!r} and {name!r} have the same target {target}. Download one of them by itself"
                )

    def _job(self, name: str, *, restart: bool) -> TransferJob[Any]:
        earlier = self._jobs.get(name)
        if isinstance(earlier, DownloadJob) and earlier.has_ended:  # it was paused just before its end
            return earlier
        return DownloadJob(
            self._context,
            name,
            Target(self._target(name), exact=True),
            overwrite=self._overwrite,
            restart=restart,
            allow_dangerous=self._allow_dangerous,
            within=self._record.key,
        )

    def _on_completed(self, name: str, result: Any) -> None:
        self._downloaded[name] = result
        entry = CompletedFile.of(name, self._etags.get(name, ""), result)
        if self._ledger is not None and entry is not None:
            self._ledger.add(entry)


def job_of(record: ResumeRecord, context: TransferContext) -> TransferJob[Any]:
    """Return the job that resumes the transfer of a record."""
    path, overwrite = Path(record.path), record.overwrite
    if record.kind == "upload":
        if record.folder:
            links = record.links or "inside"
            return UploadFolder(
                context,
                path,
                record.prefix,
                overwrite=overwrite,
                restart=False,
                delta=record.delta,
                links=links,
                limit=None,
            )
        return UploadJob(
            context, FileSource(path), record.name, overwrite=overwrite, delta=record.delta, within=record.within
        )
    allowed = record.allow_dangerous
    if record.folder:
        return DownloadFolder(
            context, record.prefix, path, overwrite=overwrite, restart=False, allow_dangerous=allowed, limit=None
        )
    target = Target(path, exact=True)
    if record.archive:
        return ArchiveDownload(context, record.name, target, overwrite=overwrite, allow_dangerous=allowed)
    return DownloadJob(context, record.name, target, overwrite=overwrite, allow_dangerous=allowed, within=record.within)
