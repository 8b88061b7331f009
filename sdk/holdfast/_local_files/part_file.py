"""Part file: a download writes to it, beside its target, until it is complete. Blocks."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from pathlib import Path

from holdfast._local_files.records import PartMark, PartState, boot_id
from holdfast._local_files.sources import LocalSource
from holdfast.errors import LocalExists, TransferBusy, TransferError

PRIVATE = re.compile(r"\.holdfast-[0-9a-f]{32}\.part")

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENXIO})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EMLINK})


def is_private(name: str) -> bool:
    """Return whether a file name is that of an incomplete download."""
    return PRIVATE.fullmatch(name) is not None


class PartFile:
    """Incomplete content of `target`.

    Its name is random and it is created exclusively, so it is never a file of the user, of another download, or one
    that another user of the machine has planted. It is opened again only by a mark with its name, its inode and its
    owner, and links are not followed.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.mark: PartMark | None = None
        self._number: int | None = None

    @property
    def path(self) -> Path:
        """Path of the part file. Known once it was created or opened again."""
        if self.mark is None:
            raise ValueError(f"there is no part of {self.target}")
        return self.target.with_name(self.mark.name)

    @staticmethod
    def plan() -> PartMark:
        """Choose a name, to be recorded before the file exists, so that a file left by a crash can be removed."""
        return PartMark(f".holdfast-{secrets.token_hex(16)}.part", 0, os.geteuid())

    def create(self, planned: PartMark | None = None) -> PartMark:
        """Create and open a new part file; return the mark to open it again."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        while True:
            name = (planned or self.plan()).name
            planned = None
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                number = os.open(self.target.with_name(name), flags, 0o666)
                break
            except FileExistsError:
                continue
        status = os.fstat(number)
        self._number, self.mark = number, PartMark(name, status.st_ino, status.st_uid)
        _hold(number, self.target)
        return self.mark

    def take_up(self, mark: PartMark) -> bool:
        """Open the part file that an earlier run has left. Return False if it is gone or replaced.

        Raises:
            TransferBusy: another transfer has locked it.
        """
        if not is_private(mark.name):
            return False
        path = self.target.with_name(mark.name)
        try:
            number = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            raise
        if not _is_marked(os.fstat(number), mark):
            os.close(number)
            return False
        _hold(number, self.target)
        self._number, self.mark = number, mark
        return True

    def adopt(self, ranges: list[tuple[int, int]]) -> PartMark | None:
        """Copy ranges from a `NAME.part` that an earlier version of Holdfast has left; None if it can't be one.

        That file stays: nothing proves that it is not the user's own.
        """
        try:
            old = os.open(
                self.target.with_name(self.target.name + ".part"),
                os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
            )
        except OSError:
            return None
        try:
            status = os.fstat(old)
            end = max((end for _, end in ranges), default=0)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_size < end:
                return None
            mark = self.create()
            for begin, end in ranges:
                while begin < end and (data := os.pread(old, min(1 << 20, end - begin), begin)):
                    self.write(begin, data)
                    begin += len(data)
            return mark
        finally:
            os.close(old)

    @property
    def is_open(self) -> bool:
        """True while this transfer has it open."""
        return self._number is not None

    @property
    def number(self) -> int:
        """File descriptor, while it is open."""
        if self._number is None:
            raise ValueError(f"the part of {self.target} is not open")
        return self._number

    def holds(self, ranges: list[tuple[int, int]]) -> bool:
        """Return whether it is open and long enough to contain these ranges."""
        return self.is_open and os.fstat(self.number).st_size >= max((end for _, end in ranges), default=0)

    def sync(self) -> None:
        """Flush what was written to the disk (fsync)."""
        os.fsync(self.number)

    def check_space(self, wanted: int) -> None:
        """Raise `TransferError` if the disk does not have so many free bytes."""
        free = shutil.disk_usage(self.target.parent).free
        if free < wanted:
            raise TransferError(
                f"{self.target.parent} has {free} bytes free, and {wanted} are needed. Free some space, then resume"
            )

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` at `offset`."""
        view = memoryview(data)
        while view:
            count = os.pwrite(self.number, view, offset)
            view, offset = view[count:], offset + count

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Read written bytes into a buffer; return how many."""
        return os.preadv(self.number, [buffer], offset)

    def state(self, *, closing: bool) -> PartState:
        """Return its state; unless this run is `closing` it, bytes are still written to it."""
        status = os.fstat(self.number)
        return PartState(boot_id(), status.st_mtime_ns if closing else 0, status.st_size)

    def has_state(self, state: PartState | None) -> bool:
        """Return whether what was known of its blocks still holds: nobody else has written to it, no power was lost."""
        if state is None or not state.boot or state.boot != boot_id():
            return False
        status = os.fstat(self.number)
        # A process that was killed has written bytes since, but not to the blocks that it had recorded.
        same = (status.st_mtime_ns, status.st_size) == (state.modified_ns, state.size)
        return same or (not state.modified_ns and status.st_size >= state.size)

    def publish(self, size: int, *, overwrite: bool) -> Path:
        """Rename it to its target, durably and atomically.

        Raises:
            LocalExists: the target exists, and `overwrite` is false.
            TransferError: the part file was replaced by another file.
        """
        os.ftruncate(self.number, size)
        os.fsync(self.number)
        if not self._is_in_place():
            raise TransferError(
                f"{self.path} was moved or replaced, so nothing was published. Start the download again"
            )
        if overwrite:
            self.path.replace(self.target)
        else:
            _name(self.path, self.target)
        self.close()
        return self.target

    def _is_in_place(self) -> bool:
        status = _status(self.path)
        return status is not None and os.path.samestat(status, os.fstat(self.number)) and self.mark is not None

    def close(self) -> None:
        """Close it; written bytes stay."""
        if self._number is not None:
            os.close(self._number)
            self._number = None

    def discard(self) -> None:
        """Close and remove it, and nothing else."""
        if self.mark is not None:
            self.remove(self.mark)
        self.close()
        self.mark = None

    def remove(self, mark: PartMark) -> None:
        """Remove the part file that an earlier run has left."""
        if not is_private(mark.name):
            return
        path = self.target.with_name(mark.name)
        status = _status(path)
        if status is None:
            return
        planned = mark.inode == 0 and stat.S_ISREG(status.st_mode) and status.st_uid == mark.owner
        if planned or _is_marked(status, mark):
            path.unlink(missing_ok=True)


class PartSource(LocalSource):
    """Content of a part file, to be read back."""

    def __init__(self, part: PartFile, size: int) -> None:
        self.size = size
        self._part = part

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._part.number, size, offset)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        count = self._part.read_into(offset, buffer)
        if not count and len(buffer):
            raise TransferError(f"{self._part.path} ends at byte {offset}: it was cut off. Start the download again")
        return count


def _hold(number: int, target: Path) -> None:
    """Lock against transfers that keep their records elsewhere. Raises `TransferBusy` after closing the descriptor."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        raise TransferBusy(f"another transfer is downloading {target}") from None
    except OSError:  # a file system without locks
        pass


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None


def _is_marked(status: os.stat_result, mark: PartMark) -> bool:
    """Return whether it is the same file. A name can be planted, an inode can't."""
    return stat.S_ISREG(status.st_mode) and (status.st_ino, status.st_uid) == (mark.inode, mark.owner)


def _name(path: Path, target: Path) -> None:
    """Rename without replacing a file, even one that is created at the same time. Raises `LocalExists`."""
    try:
        try:
            os.link(path, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A file system without hard links: it replaces an empty file that was just created here.
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
            path.replace(target)
            return
    except FileExistsError:
        raise exists(target) from None
    path.unlink(missing_ok=True)


def exists(target: Path) -> LocalExists:
    """Return the error for a target that exists."""
    return LocalExists(f"{target} exists and is another file. Pass overwrite=True to replace it")
