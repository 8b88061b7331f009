"""Resume records: the data that a new process needs to resume a transfer of an earlier one. Blocks."""

from __future__ import annotations

import fcntl
import functools
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
    """Upload on the server of the bytes from `begin` to `end`. `id` is empty until it was created."""

    begin: int
    end: int
    id: str = ""


class PartMark(msgspec.Struct, frozen=True):
    """Identity of a part file: its name, its inode and its owner."""

    name: str
    inode: int
    owner: int


class PartState(msgspec.Struct, frozen=True):
    """State of a part file when digests of its blocks were saved. `modified_ns` is 0 while it is still written to."""

    boot: str
    modified_ns: int
    size: int


class CompletedFile(msgspec.Struct, frozen=True):
    """File that a folder's download has completed: its version, and its status on disk right after that."""

    name: str
    etag: str
    size: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, name: str, etag: str, path: Path) -> CompletedFile | None:
        """Return the entry for a file as it is now; None if it does not exist."""
        try:
            status = path.lstat()
        except OSError:
            return None
        return cls(name, etag, status.st_size, status.st_mtime_ns, status.st_ino)


class ResumeRecord(msgspec.Struct):
    """A transfer that has begun. It contains no secret: no token, no credentials in the URL.

    `digest` is the block digest of the whole, if it is known. `parts` are uploads by tus, `blocks` is the id of one by
    blocks. The digests of the blocks that were sent or received are in a file beside the record
    (`RecordFile.save_digests`); those of a download are as of the `state` of the part file.

    The record of a `folder` has the prefix of its names as `name` (`./` for none) and the local folder as `path`. The
    records of its files have its key as `within`. With `archive` the name is that of an archive of a folder.
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
    state: PartState | None = None
    allow_dangerous: bool = False
    parts: list[PartUpload] = []
    blocks: str = ""
    digest: str = ""
    delta: bool = False
    folder: bool = False
    links: str = ""
    within: str = ""
    archive: bool = False
    version: int = 2

    @property
    def prefix(self) -> str:
        """Prefix of the names on the server, for a folder."""
        return "" if self.name == "./" else self.name

    @property
    def key(self) -> str:
        """Key of the record: made from server, name and path for an upload, from the path alone for a download.

        So there is one record for each target of a download.
        """
        parts = (self.server, self.name) if self.kind == "upload" or self.folder else ()
        parts = ("folder", *parts) if self.folder else parts
        text = "\0".join((self.kind, *parts, self.path))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def server_of(base_url: str) -> str:
    """Return the URL of a server without credentials."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def new(kind: Literal["upload", "download"], base_url: str, name: str, path: str) -> ResumeRecord:
    """Return a record of a transfer that begins now."""
    return ResumeRecord(kind, server_of(base_url), name, path, datetime.now(UTC))


def new_folder(kind: Literal["upload", "download"], base_url: str, prefix: str, path: str) -> ResumeRecord:
    """Return a record of a folder's transfer that begins now."""
    record = new(kind, base_url, prefix or "./", path)
    record.folder = True
    return record


def records_dir() -> Path:
    """Return the folder of the records, in `HOLDFAST_STATE_DIR` or the user's state folder."""
    return state_dir() / "transfers"


@functools.cache
def boot_id() -> str:
    """Return what tells one start of the machine from another; "" if it can't be known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class RecordFile:
    """One record on disk, locked by one transfer at a time."""

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / f"{key}.json"
        self._lock_path = folder / f"{key}.lock"
        self._digests_path = folder / f"{key}.blocks"
        self._lock: int | None = None

    def take(self) -> ResumeRecord | None:
        """Lock it and return the record; None if there is none or it can't be read.

        Raises:
            TransferBusy: another transfer, here or in another process, has locked it.
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
            else:  # its last owner has removed it since it was opened
                os.close(number)
        return read(self.path)

    @property
    def is_held(self) -> bool:
        """True while this transfer has the lock."""
        return self._lock is not None

    def save(self, record: ResumeRecord) -> None:
        """Write the record atomically."""
        fresh = self.path.with_suffix(".new")
        fresh.unlink(missing_ok=True)  # left by a process that was killed
        number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(number, "wb") as file:
            file.write(_encode(record))
        fresh.replace(self.path)

    def save_digests(self, blocks: bytes | bytearray, offset: int = 0) -> None:
        """Write digests of blocks, one after another, at `offset`. A killed process may leave fewer."""
        number = os.open(self._digests_path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(number, blocks, offset)
        finally:
            os.close(number)

    def read_digests(self) -> bytes:
        """Return the digests that were saved; b"" if there are none."""
        try:
            with open(os.open(self._digests_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                return file.read()
        except OSError:
            return b""

    def remove(self) -> None:
        """Delete the record, after the end of the transfer."""
        self.path.unlink(missing_ok=True)
        self._digests_path.unlink(missing_ok=True)

    def release(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            if not self.path.exists():
                self._lock_path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None


def _encode(record: ResumeRecord) -> bytes:
    """Return a record as JSON. A path that is not UTF-8 is kept, as escapes of its surrogates."""
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
    """Read a record; None for any other file, such as one of a later version or of another user."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if os.fstat(file.fileno()).st_uid not in (os.geteuid(), os.stat(path.parent).st_uid):
                return None
            record = _decode(file.read())
    except (OSError, ValueError):  # errors of msgspec are ValueErrors
        return None
    return record if record.version in (1, 2) else None


def pending(folder: Path, base_url: str) -> Iterator[ResumeRecord]:
    """Iterate over the records of a server, oldest first. A folder's record stands for those of its files."""
    found = [record for record in _all(folder) if record.server == server_of(base_url)]
    folders = {record.key for record in found if record.folder}
    yield from sorted((r for r in found if r.within not in folders), key=lambda record: record.created)


def within(folder: Path, key: str) -> Iterator[ResumeRecord]:
    """Iterate over the records of files that a folder's transfer has begun and not ended."""
    return (record for record in _all(folder) if record.within == key)


def _all(folder: Path) -> Iterator[ResumeRecord]:
    return (record for path in [*folder.glob("*.json")] if (record := read(path)) is not None)


class Ledger:
    """Log of the completed files of a folder's download, beside its record. Appending to it takes constant time."""

    def __init__(self, record: Path) -> None:
        self._path = record.with_suffix(".came")
        self._number: int | None = None

    def read(self) -> dict[str, CompletedFile]:
        """Return all complete lines, by name."""
        found: dict[str, CompletedFile] = {}
        try:
            with open(os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                lines = file.read().splitlines()
        except OSError:
            return found
        for line in lines:
            try:
                entry = msgspec.json.decode(line, type=CompletedFile)
            except (msgspec.DecodeError, UnicodeDecodeError):  # cut off when its process ended
                continue
            found[entry.name] = entry
        return found

    def add(self, *entries: CompletedFile) -> None:
        """Append files."""
        if self._number is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._number = os.open(self._path, flags, 0o600)
        os.write(self._number, b"".join(b"\n" + msgspec.json.encode(entry) + b"\n" for entry in entries))

    def close(self) -> None:
        """Close it; the lines stay."""
        if self._number is not None:
            os.close(self._number)
            self._number = None

    def remove(self) -> None:
        """Remove the log."""
        self.close()
        self._path.unlink(missing_ok=True)
