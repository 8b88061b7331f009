"""Download of a folder: files that an earlier run has completed are skipped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from holdfast import wire
from holdfast._local_files import dangerous_names
from holdfast._local_files.records import CompletedFile, Ledger, ResumeRecord
from holdfast._local_files.target import Target
from holdfast._transfers.download import DownloadJob
from holdfast._transfers.folder.base import FolderJob
from holdfast._transfers.job import TransferContext, TransferJob
from holdfast._transfers.small_files.download import Landed, SmallFileDownloads
from holdfast.errors import LocalExists, NotFound, ProtocolError
from holdfast.plans import Do, Plan


class DownloadFolder(FolderJob[list[Path]]):
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
