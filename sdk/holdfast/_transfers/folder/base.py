"""Transfer of the files of a folder, a few at a time. One record of the folder, to which those of its files refer."""

from __future__ import annotations

import threading
from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal

from holdfast import calls, wire
from holdfast._local_files import records
from holdfast._local_files.records import RecordFile, ResumeRecord
from holdfast._transfers.folder import file_jobs
from holdfast._transfers.job import R, TransferContext, TransferJob
from holdfast._transfers.pace import Throttle
from holdfast.plans import Do, Plan, Together, ensured, request

AT_ONCE = 4


class FolderJob(TransferJob[R], Generic[R]):
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
            yield from file_jobs.of(record, self._context).discard()

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
