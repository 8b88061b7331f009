"""Digests of published files, by inode, valid while inode, size, mtime and ctime stay the same.

| file | holds |
| --- | --- |
| `<inode>` | `v2 size mtime_ns ctime_ns etag sha256 block_digest`; `-` for a digest that is not known |
| `<inode>.crc32` | see `digests/crc32_records.py` |
| `<inode>.blocks` | the digests of all blocks, 32 bytes each; counts while their digest is the record's |

Records of earlier versions, without `v2` and `block_digest`, have the SHA-256 as entity tag, some of them no ctime.

The ctime can't be set by hand, so every edit changes it, but chmod, a rename or another link change it, too. A record
whose file has another ctime is unconfirmed: the file is read again, and the record counts if the file still has its
block digest or, where that is not known, its SHA-256.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from holdfast import digests as block_digests
from tornado_app.files.store.interface import FileDigests
from tornado_app.files.store.local import atomic_file
from tornado_app.files.store.local.digests import crc32_records
from tornado_app.files.store.local.digests.crc32_records import Crc32Records

log = logging.getLogger("holdfast.files")

AT_ONCE = 64 << 20
"""Most bytes that `confirm` reads at once; larger files are read in the background."""
_PIECE = 1 << 20
_CACHED = 65536
_WAITING = 64  # files that wait to be read in the background; a further one is tried again at the next request
_BLOCKS = ".blocks"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TAG = re.compile(r"[0-9a-f-]{1,128}")

TICK_NS = 30_000_000
"""More than the coarsest tick of the kernels' clocks for files, of 10 ms."""

Version = tuple[int, int, int, int]  # inode, size, mtime and ctime in ns


def has_aged(status: os.stat_result) -> bool:
    """Return whether a write from now on changes the times of a file with this status.

    Two writes within one tick of the file system's clock leave the same times.
    """
    return abs(time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns)) > TICK_NS


class DigestRecord(NamedTuple):
    """Entity tag of a version, and its digests as hex, None where not known; at least one is."""

    etag: str
    sha256: str | None
    block_digest: str | None


def version(status: os.stat_result) -> Version:
    """Return what changes with every change of a file."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def stamp(status: os.stat_result) -> int:
    """Return a number for this version, while this process lives; 0 while another one could have the same."""
    return hash(version(status)) if has_aged(status) else 0


def etag(status: os.stat_result) -> str:
    """Return the entity tag of a file without a record; every change by hand changes it."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}"


class DigestIndex:
    """Digests by file: one small record each, named by inode, in an open folder, which it closes."""

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self.crcs = Crc32Records(folder)
        self._cache: OrderedDict[Version, DigestRecord | None] = OrderedDict()
        self._publishing: dict[int, tuple[int, int, DigestRecord]] = {}
        self._waiting: set[Version] = set()
        self._reader: ThreadPoolExecutor | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._changing = threading.Lock()  # held while a record is read and written again

    def get(self, status: os.stat_result, *, keep: bool = True) -> tuple[DigestRecord | None, DigestRecord | None]:
        """Return the record of this version, if there is one, and else the unconfirmed one, if there is one.

        `keep`: remember that there is none.
        """
        key = version(status)
        with self._lock:
            if key in self._cache:
                return self._cache[key], None
            held = self._publishing.get(status.st_ino)
        if held is not None and held[:2] == (status.st_size, status.st_mtime_ns):
            return held[2], None
        record, ctime = _parse(atomic_file.read(self._folder, f"{status.st_ino:x}"), key)
        if record is not None and ctime != status.st_ctime_ns:
            return None, record
        if record is not None or keep:
            self._remember(key, record)
        return record, None

    def remembered(self, status: os.stat_result) -> DigestRecord | None:
        """Return what `get` has returned for this version and keeps in memory. Raises `KeyError` if it does not."""
        with self._lock:
            return self._cache[version(status)]

    def begin_publication(self, status: os.stat_result, record: DigestRecord) -> None:
        """Hold the record of a file that is being given its name, which changes its ctime, until it has it."""
        with self._lock:
            self._publishing[status.st_ino] = status.st_size, status.st_mtime_ns, record

    def end_publication(self, status: os.stat_result) -> None:
        """Stop holding it: the file has its name and its record, or will not have them."""
        with self._lock:
            self._publishing.pop(status.st_ino, None)

    def record(self, status: os.stat_result, record: DigestRecord) -> None:
        """Record the digests of a file that won't change any more. Without room on the disk they stay in memory."""
        self._remember(version(status), record)
        self._write(status, status.st_ctime_ns, record)

    def record_unconfirmed(self, status: os.stat_result, record: DigestRecord) -> None:
        """Record digests that a file had earlier, unless there is a record; `confirm` checks them when needed."""
        if self.get(status, keep=False) == (None, None):
            self._write(status, 0, record)

    def add(self, fd: int, status: os.stat_result, digests: FileDigests) -> DigestRecord | None:
        """Record digests of the open file `fd`, of the version `status`, beside those that are known.

        None when the file was changed or removed meanwhile, or while its record is unconfirmed: nothing is recorded.
        """
        with self._changing:
            now = os.fstat(fd)  # while it is open nothing else gets its inode
            known, unconfirmed = self.get(status, keep=False)
            if version(now) != version(status) or now.st_nlink == 0 or unconfirmed is not None:
                return None
            if known is None:
                known = DigestRecord(etag(status), None, None)
            record = DigestRecord(
                known.etag, digests.sha256 or known.sha256, digests.block_digest or known.block_digest
            )
            if record[1:] == (None, None):
                return record
            if digests.blocks is not None:
                self._write_blocks(status, digests.blocks)
            if record != known:
                self.record(status, record)
            return record

    def blocks(self, status: os.stat_result, block_digest: str) -> bytes | None:
        """Return the digests of the blocks of the file that has this digest; None where they were not kept."""
        found = b"" if status.st_size == 0 else atomic_file.read(self._folder, f"{status.st_ino:x}{_BLOCKS}")
        if found is None or not block_digests.AVAILABLE or block_digests.of_blocks(found).hex() != block_digest:
            return None
        return found

    def take_blocks(self, status: os.stat_result, folder: int, name: str) -> None:
        """Move the file `name` of an open folder here, as the digests of the blocks of a file."""
        try:
            os.rename(name, f"{status.st_ino:x}{_BLOCKS}", src_dir_fd=folder, dst_dir_fd=self._folder)
        except FileNotFoundError:
            pass

    def confirm(
        self, fd: int, status: os.stat_result, record: DigestRecord, *, at_once: int = AT_ONCE
    ) -> DigestRecord | None:
        """Read an open file again and return the record if the file still has its content.

        None when it has not, or while it is not known: more than `at_once` bytes are read in the background.
        """
        if status.st_size <= at_once:
            return self.verify(fd, status, record)
        key = version(status)
        with self._lock:
            if self._closed or key in self._waiting or len(self._waiting) >= _WAITING:
                return None
            self._waiting.add(key)
            if self._reader is None:
                self._reader = ThreadPoolExecutor(1, "holdfast-digests")
            self._reader.submit(self._check_later, os.dup(fd), status, record)
        return None

    def forget(self, status: os.stat_result) -> None:
        """Remove the record of a file that is removed: its inode may be used for another file."""
        if status.st_nlink <= 1:
            self._drop(status)

    def close(self) -> None:
        """Close the folder, after the file that is being read."""
        with self._lock:
            self._closed = True
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.shutdown()
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def _check_later(self, fd: int, status: os.stat_result, record: DigestRecord) -> None:
        try:
            self.verify(fd, status, record)
        except OSError as error:
            log.warning("a file of %d bytes can't be read to confirm its digest: %s", status.st_size, error)
        finally:
            os.close(fd)
            with self._lock:
                self._waiting.discard(version(status))

    def verify(self, fd: int, status: os.stat_result, record: DigestRecord) -> DigestRecord | None:
        """Read an open file; return `record` and keep it if the file has its digest, else None, and forget it. Blocks.

        By the block digest if it is known, which is the quicker one.
        """
        digest = _Digest(record)
        if not digest.expected:
            return None  # nothing here computes it
        offset = 0
        while piece := os.pread(fd, _PIECE, offset):
            if self._closed:
                return None
            digest.update(piece)
            offset += len(piece)
        with self._changing:
            if version(os.fstat(fd)) != version(status):
                return None  # changed meanwhile: the next request confirms it
            if digest.result() != digest.expected:
                self._drop(status)
                return None
            self.record(status, record)
        return record

    def _drop(self, status: os.stat_result) -> None:
        with self._lock:
            self._cache.pop(version(status), None)
        for suffix in ("", _BLOCKS, crc32_records.SUFFIX):
            atomic_file.remove(self._folder, f"{status.st_ino:x}{suffix}")

    def _write(self, status: os.stat_result, ctime: int, record: DigestRecord) -> None:
        fields = ("v2", status.st_size, status.st_mtime_ns, ctime, *(field or "-" for field in record))
        try:
            atomic_file.write(self._folder, f"{status.st_ino:x}", f"{' '.join(map(str, fields))}\n".encode())
        except OSError as error:
            log.warning("the digest of a file can't be recorded: %s", error)

    def _write_blocks(self, status: os.stat_result, blocks: bytes) -> None:
        if len(blocks) <= block_digests.SIZE:
            return  # a single block is read again as quickly
        try:
            atomic_file.write(self._folder, f"{status.st_ino:x}{_BLOCKS}", blocks)
        except OSError as error:
            log.warning("the digests of the blocks of a file can't be recorded: %s", error)

    def _remember(self, key: Version, record: DigestRecord | None) -> None:
        with self._lock:
            self._cache[key] = record
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)


class _Digest:
    """The digest by which a record is confirmed. `expected` is "" where it can't be computed here."""

    def __init__(self, record: DigestRecord) -> None:
        self.update: Callable[[bytes], None]
        self.result: Callable[[], str]
        if record.block_digest is not None and block_digests.AVAILABLE:
            hasher = block_digests.BlockHasher()
            self.expected = record.block_digest
            self.update, self.result = lambda piece: hasher.feed((piece,)), lambda: hasher.result().hex()
        else:
            sha256 = hashlib.sha256()
            self.expected, self.update, self.result = record.sha256 or "", sha256.update, sha256.hexdigest


def _parse(note: bytes | None, key: Version) -> tuple[DigestRecord | None, int]:
    """Return the record of this inode, size and mtime, and its ctime: 0 in one of an early version."""
    fields = (note or b"").decode("ascii", "replace").split()
    if fields[:1] == ["v2"]:
        del fields[0]
    elif len(fields) in (3, 4):  # of an earlier version: its entity tag is the SHA-256
        fields = [*fields[:2], *(["0"] if len(fields) == 3 else fields[2:3]), fields[-1], fields[-1], "-"]
    if len(fields) != 6 or fields[:2] != [str(key[1]), str(key[2])] or not _TAG.fullmatch(fields[3]):
        return None, 0
    digests = [None if field == "-" else field for field in fields[4:]]
    if digests == [None, None] or any(digest is not None and not _DIGEST.fullmatch(digest) for digest in digests):
        return None, 0
    return DigestRecord(fields[3], *digests), int(fields[2]) if fields[2].isdecimal() else 0
