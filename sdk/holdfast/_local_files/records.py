"""Resume records: what a new kernel or process needs to go on with a transfer where an old one stopped. They block."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from holdfast._environment.known_servers import state_dir
from holdfast._local_files.sources import is_at
from holdfast.errors import TransferBusy

__all__ = ["PartMark", "PartUpload", "RecordFile", "ResumeRecord", "records_dir"]


class PartUpload(msgspec.Struct):
    """An upload on the server that takes the bytes from `begin` to `end`; `id` is empty until it was created."""

    begin: int
    end: int
    id: str = ""


class PartMark(msgspec.Struct, frozen=True):
    """Proof that a file is the one that a download has begun to write: its name, its inode, its owner."""

    name: str
    inode: int
    owner: int


class Came(msgspec.Struct, frozen=True):
    """A file that a folder's download has brought: its version, and how it stood when it had come."""

    name: str
    etag: str
    size: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, name: str, etag: str, path: Path) -> Came | None:
        """As it stands now; None when it is not there."""
        try:
            status = path.lstat()
        except OSError:
            return None
        return cls(name, etag, status.st_size, status.st_mtime_ns, status.st_ino)


class ResumeRecord(msgspec.Struct):
    """A transfer that has begun. Says nothing that is secret: no token, no credentials in the URL.

    One of a `folder` has the prefix of its names as `name` (`./` for none), and the local folder as `path`; those of
    its files are `within` it, by its key.
    """

    kind: Literal["upload", "download"]
    server: str
    name: str
    path: str
    created: datetime
    size: int | None = None
    modified_ns: int | None = None
    head: str = ""
    overwrite: bool = False
    etag: str = ""
    sha256: str = ""
    done: list[tuple[int, int]] = []
    part: PartMark | None = None
    allow_dangerous: bool = False
    parts: list[PartUpload] = []
    folder: bool = False
    links: str = ""
    within: str = ""
    version: int = 2

    @property
    def prefix(self) -> str:
        """The beginning of the names on the server, of a folder."""
        return "" if self.name == "./" else self.name

    @property
    def key(self) -> str:
        """What it is found by: an upload by server, name and path, a download by its path alone.

        Of whatever comes down to one path, one record says how much of it is there.
        """
        whose = (self.server, self.name) if self.kind == "upload" or self.folder else ()
        whose = ("folder", *whose) if self.folder else whose
        text = "\0".join((self.kind, *whose, self.path))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def server_of(base_url: str) -> str:
    """A server's URL without credentials."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def new(kind: Literal["upload", "download"], base_url: str, name: str, path: str) -> ResumeRecord:
    """A record of a transfer that begins now."""
    return ResumeRecord(kind, server_of(base_url), name, path, datetime.now(UTC))


def new_folder(kind: Literal["upload", "download"], base_url: str, prefix: str, path: str) -> ResumeRecord:
    """A record of a folder's transfer that begins now."""
    record = new(kind, base_url, prefix or "./", path)
    record.folder = True
    return record


def records_dir() -> Path:
    """Where records are kept: `HOLDFAST_STATE_DIR`, else the user's own folder for state."""
    return state_dir() / "transfers"


class RecordFile:
    """One record on disk, held by one transfer at a time."""

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / f"{key}.json"
        self._lock_path = folder / f"{key}.lock"
        self._lock: int | None = None

    def take(self) -> ResumeRecord | None:
        """Hold it, and what it says; None when there is none or it can't be read.

        Raises:
            TransferBusy: another transfer, here or in another process, holds it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        while self._lock is None:
            number = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(number)
                raise TransferBusy("the same transfer is running already, here or in another process") from None
            if is_at(number, self._lock_path):
                self._lock = number
            else:  # its last holder has removed it since it was opened
                os.close(number)
        return read(self.path)

    @property
    def is_held(self) -> bool:
        """Whether this transfer holds it."""
        return self._lock is not None

    def save(self, record: ResumeRecord) -> None:
        """Write it, whole or not at all."""
        fresh = self.path.with_suffix(".new")
        fresh.unlink(missing_ok=True)  # of a process that was killed
        number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(number, "wb") as file:
            file.write(_encode(record))
        fresh.replace(self.path)

    def remove(self) -> None:
        """The transfer is over: forget it."""
        self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Hold it no more."""
        if self._lock is not None:
            if not self.path.exists():
                self._lock_path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None


def _encode(record: ResumeRecord) -> bytes:
    """JSON; a path that is not UTF-8 keeps its bytes, as escapes of the surrogates that stand for them."""
    try:
        return msgspec.json.encode(record)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(record)).encode()


def _decode(data: bytes) -> ResumeRecord:
    try:
        return msgspec.json.decode(data, type=ResumeRecord)
    except msgspec.DecodeError:
        return msgspec.convert(json.loads(data), ResumeRecord)


def read(path: Path) -> ResumeRecord | None:
    """The record in a file; None for what is none, such as one of a later version or of another user."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if os.fstat(file.fileno()).st_uid not in (os.geteuid(), os.stat(path.parent).st_uid):
                return None
            record = _decode(file.read())
    except (OSError, ValueError):  # msgspec's errors are ValueErrors, too
        return None
    return record if record.version in (1, 2) else None


def pending(folder: Path, base_url: str) -> Iterator[ResumeRecord]:
    """Every record of a server, oldest first; that of a folder stands for those of its files."""
    found = [record for record in _all(folder) if record.server == server_of(base_url)]
    folders = {record.key for record in found if record.folder}
    yield from sorted((r for r in found if r.within not in folders), key=lambda record: record.created)


def within(folder: Path, key: str) -> Iterator[ResumeRecord]:
    """Records of files that a folder's transfer has begun and not ended."""
    return (record for record in _all(folder) if record.within == key)


def _all(folder: Path) -> Iterator[ResumeRecord]:
    return (record for path in [*folder.glob("*.json")] if (record := read(path)) is not None)


class Ledger:
    """Lines beside a record, one for each file that has come: appending one costs the same however many there are."""

    def __init__(self, record: Path) -> None:
        self._path = record.with_suffix(".came")
        self._number: int | None = None

    def read(self) -> dict[str, Came]:
        """All that was written whole, by name."""
        found: dict[str, Came] = {}
        try:
            with open(os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                lines = file.read().splitlines()
        except OSError:
            return found
        for line in lines:
            try:
                came = msgspec.json.decode(line, type=Came)
            except (msgspec.DecodeError, UnicodeDecodeError):  # cut off by the end of its process
                continue
            found[came.name] = came
        return found

    def add(self, came: Came) -> None:
        """Append a line."""
        if self._number is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._number = os.open(self._path, flags, 0o600)
        os.write(self._number, b"\n" + msgspec.json.encode(came) + b"\n")

    def close(self) -> None:
        """Close it; the lines stay."""
        if self._number is not None:
            os.close(self._number)
            self._number = None

    def remove(self) -> None:
        """Forget them all."""
        self.close()
        self._path.unlink(missing_ok=True)
