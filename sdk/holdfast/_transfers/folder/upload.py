"""Upload of a folder: files that the server has already are skipped, and names that it refuses are left out."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from holdfast import wire
from holdfast._local_files.records import ResumeRecord
from holdfast._local_files.sources import FileSource
from holdfast._local_files.walk import NO_NAME, Links, checked_links, walk
from holdfast._transfers.folder.base import FolderJob
from holdfast._transfers.job import TransferContext, TransferJob
from holdfast._transfers.small_files.upload import SmallFileUploads
from holdfast._transfers.upload.job import UploadJob, checked_name
from holdfast._transfers.verification import is_same
from holdfast.errors import BadRequest
from holdfast.plans import Do, Plan


class SentFolder(msgspec.Struct, frozen=True):
    """Result of a folder's upload: files `sent` now, those that were the `same` already, and names `left_out` with
    their `reasons`."""

    sent: list[wire.FileInfo]
    same: list[str]
    left_out: list[str]
    reasons: dict[str, str] = {}


class UploadFolder(FolderJob[SentFolder]):
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
