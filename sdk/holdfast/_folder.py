"""Whole folders, file by file, a few at a time; what is there and equal is not sent again."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Generic

import msgspec

from holdfast import _dangers, calls, wire
from holdfast._download import Download, Target
from holdfast._job import Job, R, Surroundings
from holdfast._local import FileSource, sha256_of
from holdfast._pace import Throttle
from holdfast._upload import Upload
from holdfast.errors import LocalExists, ProtocolError
from holdfast.plans import Do, Plan, Together, ensured, request

AT_ONCE = 4


class SentFolder(msgspec.Struct, frozen=True):
    """What came of an upload: `sent` now, `same` as there already, `left_out` because no file can have such a name."""

    sent: list[wire.FileInfo]
    same: list[str]
    left_out: list[str]


class _Folder(Job[R], Generic[R]):
    """Runs a job for every file that is not there yet. A failure ends all; running again goes on."""

    def __init__(self, around: Surroundings, name: str, *, restart: bool, limit: float | None) -> None:
        self.name = name
        self.throttle = Throttle(limit)
        self._around = around
        self._restart = restart
        self._begun: set[str] = set()
        self._total: int | None = None
        self._over = 0
        self._ended: set[str] = set()
        self._running: dict[str, Job[Any]] = {}
        self._lock = threading.Lock()

    @property
    def done(self) -> int:
        with self._lock:
            return self._over + sum(job.done for job in self._running.values())

    @property
    def total(self) -> int | None:
        return self._total

    def begin(self) -> None:
        pass

    def settle(self) -> None:
        pass

    @abstractmethod
    def _job(self, name: str, *, restart: bool) -> Job[Any]:
        """What brings one file."""

    @abstractmethod
    def _came(self, name: str, result: Any) -> None:
        """A file is over."""

    def _bring(self, names: list[str]) -> Plan[None]:
        waiting = iter([name for name in names if name not in self._ended])

        def worker() -> Plan[None]:
            while True:
                with self._lock:
                    name = next(waiting, None)
                if name is None:
                    return
                yield from self._one(name)

        yield Together([worker() for _ in range(AT_ONCE)])

    def _one(self, name: str) -> Plan[None]:
        restart = self._restart and name not in self._begun  # once: a pause is gone on with
        self._begun.add(name)
        job: Job[Any] = yield Do(partial(self._job, name, restart=restart))
        job.throttle, job.moved = self.throttle, self._moved
        with self._lock:
            self._running[name] = job
        try:
            result = yield from ensured(_run(job), job.settle)
        finally:
            with self._lock:
                del self._running[name]
        with self._lock:
            self._over += job.done
            self._ended.add(name)
            self._came(name, result)

    def _moved(self) -> None:
        self.moved()

    def _listing(self, prefix: str) -> Plan[list[wire.FileInfo]]:
        found: list[wire.FileInfo] = []
        cursor: str | None = None
        while True:
            call = calls.list_files(prefix=prefix or None, cursor=cursor, limit=1000)
            page = yield from request(call, self._around.retries)
            found += page.items
            cursor = page.next
            if cursor is None:
                return found


class UploadFolder(_Folder[SentFolder]):
    """Every file below a folder, under a prefix of names."""

    kind = "upload"

    def __init__(
        self,
        around: Surroundings,
        folder: Path,
        prefix: str,
        *,
        overwrite: bool,
        restart: bool,
        limit: float | None,
    ) -> None:
        super().__init__(around, prefix or folder.absolute().name, restart=restart, limit=limit)
        self._folder = folder
        self._prefix = _as_prefix(prefix)
        self._overwrite = overwrite
        self._sent: list[wire.FileInfo] = []
        self._same: list[str] = []
        self._uploads: list[Job[Any]] = []

    def run(self) -> Plan[SentFolder]:
        names, left_out = yield Do(partial(_walk, self._folder))
        there = {file.name: file for file in (yield from self._listing(self._prefix))}
        sizes: dict[str, int] = yield Do(lambda: {name: (self._folder / name).stat().st_size for name in names})
        self._total = sum(sizes.values())
        for name, size in sizes.items():
            file = there.get(self._prefix + name)
            same = name not in self._ended and file is not None and file.sha256 is not None and file.size == size
            if same and file is not None and (yield Do(partial(sha256_of, self._folder / name))) == file.sha256:
                self._over += size
                self._ended.add(name)
                self._same.append(file.name)
                self.moved()
        yield from self._bring(names)
        return SentFolder(sorted(self._sent, key=lambda file: file.name), self._same, left_out)

    def _job(self, name: str, *, restart: bool) -> Job[Any]:
        source = FileSource(self._folder / name)
        job = Upload(self._around, source, self._prefix + name, overwrite=self._overwrite, restart=restart)
        self._uploads.append(job)
        return job

    def _came(self, name: str, result: Any) -> None:
        self._sent.append(result)

    def discard(self) -> Plan[None]:
        """Uploads in the making go; what has become a file stays, as after every cancelled upload."""
        for job in self._uploads:
            yield from job.discard()


class DownloadFolder(_Folder[list[Path]]):
    """Every file whose name begins with a prefix, into a folder."""

    kind = "download"

    def __init__(
        self,
        around: Surroundings,
        prefix: str,
        to: Path,
        *,
        overwrite: bool,
        restart: bool,
        allow_dangerous: bool,
        limit: float | None,
    ) -> None:
        super().__init__(around, prefix, restart=restart, limit=limit)
        self._prefix = _as_prefix(prefix)
        self._to = to.absolute()
        self._allow_dangerous = allow_dangerous
        self._overwrite = overwrite
        self._came_down: dict[str, Path] = {}
        self._downloads: list[Job[Any]] = []

    def run(self) -> Plan[list[Path]]:
        files = yield from self._listing(self._prefix)
        yield Do(partial(self._check, [file.name for file in files]))
        self._total = sum(file.size for file in files)
        yield from self._bring([file.name for file in files])
        return [self._came_down[file.name] for file in files]

    def _target(self, name: str) -> Path:
        parts = PurePosixPath(name.removeprefix(self._prefix)).parts
        if not parts or ".." in parts or parts[0].startswith("/") or "\0" in name:
            raise ProtocolError(f"the server lists {name!r}, which is no name of a file in a folder")
        return self._to.joinpath(*parts)

    def _check(self, names: list[str]) -> None:
        """Refuse before anything comes: names that would be dangerous, and two that are one here."""
        targets = {name: self._target(name) for name in names}
        if not self._allow_dangerous:
            _dangers.refuse(targets.items(), self._to)
        taken: dict[Path, str] = {}
        for name, target in targets.items():
            place = Path(os.path.realpath(target.parent), target.name)
            if (other := taken.setdefault(place, name)) != name:
                raise LocalExists(f"{other!r} and {name!r} would both land at {target}; fetch one of them by itself")

    def _job(self, name: str, *, restart: bool) -> Job[Any]:
        target = Target(self._target(name), exact=True)
        job = Download(
            self._around,
            name,
            target,
            overwrite=self._overwrite,
            restart=restart,
            allow_dangerous=self._allow_dangerous,
        )
        self._downloads.append(job)
        return job

    def _came(self, name: str, result: Any) -> None:
        self._came_down[name] = result

    def discard(self) -> Plan[None]:
        """What is half there goes; whole files stay."""
        for job in self._downloads:
            yield from job.discard()


def _run(job: Job[R]) -> Plan[R]:
    yield Do(job.begin)
    return (yield from job.run())


def _as_prefix(prefix: str) -> str:
    return prefix if not prefix or prefix.endswith("/") else prefix + "/"


def _walk(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the regular files below a folder, and of what can't be sent: hidden, no text, not a regular file."""
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    names: list[str] = []
    left_out: list[str] = []
    for path in _below(folder):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        usable = not hidden and path.is_file() and name.isprintable() and "\\" not in name
        (names if usable and _is_text(name) else left_out).append(name)
    return names, left_out


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(root, name) for name in sorted(files))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
