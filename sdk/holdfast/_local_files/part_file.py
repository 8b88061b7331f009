"""The file that a download writes to until it is whole: private, beside its target. All of it blocks."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from pathlib import Path

from holdfast._local_files.records import PartMark
from holdfast.errors import LocalExists, TransferBusy, TransferError

PRIVATE = re.compile(r"\.holdfast-[0-9a-f]{32}\.part")

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENXIO})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EMLINK})


def is_private(name: str) -> bool:
    """Whether a file of this name is a download that is not whole."""
    return PRIVATE.fullmatch(name) is not None


class PartFile:
    """A file of bytes on their way to `target`.

    Its name is random and it is created exclusively, so it is never a file of somebody else: not of the user, not of
    another download, not one that another user of the machine has put there. It is taken up again only by a mark that
    names it, its inode and its owner, and links are not followed.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.mark: PartMark | None = None
        self._number: int | None = None

    @property
    def path(self) -> Path:
        """Where it is; known once it was created or taken up."""
        if self.mark is None:
            raise ValueError(f"there is no part of {self.target}")
        return self.target.with_name(self.mark.name)

    @staticmethod
    def plan() -> PartMark:
        """Choose a name, to be recorded before there is such a file: what is left when all ends then can be removed."""
        return PartMark(f".holdfast-{secrets.token_hex(16)}.part", 0, os.geteuid())

    def create(self, planned: PartMark | None = None) -> PartMark:
        """Make a new one, and open it; the mark to take it up by."""
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
        """Open what an earlier run has left; False when there is nothing, or something else.

        Raises:
            TransferBusy: another transfer holds it.
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
        """Copy these bytes from the `NAME.part` that an earlier version has left; None when it can't be that.

        That file is left alone: nothing proves that it is not the user's own.
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
        """Whether this transfer holds it."""
        return self._number is not None

    @property
    def number(self) -> int:
        """The file descriptor, while it is open."""
        if self._number is None:
            raise ValueError(f"the part of {self.target} is not open")
        return self._number

    def holds(self, ranges: list[tuple[int, int]]) -> bool:
        """Whether it is open and long enough to have these bytes."""
        return self.is_open and os.fstat(self.number).st_size >= max((end for _, end in ranges), default=0)

    def sync(self) -> None:
        """Bring what was written to the disk itself."""
        os.fsync(self.number)

    def check_space(self, wanted: int) -> None:
        """Raises `TransferError` when the disk does not have so many bytes."""
        free = shutil.disk_usage(self.target.parent).free
        if free < wanted:
            raise TransferError(f"{self.target.parent} has {free} bytes free, and {wanted} are still to come")

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put `data` at `offset`; all of it is written when this returns."""
        view = memoryview(data)
        while view:
            count = os.pwrite(self.number, view, offset)
            view, offset = view[count:], offset + count

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Read what was written into a buffer; how many bytes."""
        return os.preadv(self.number, [buffer], offset)

    def publish(self, size: int, *, overwrite: bool) -> Path:
        """Give it its name, durably, in one step.

        Raises:
            LocalExists: something has that name, and `overwrite` is false.
            TransferError: what is at its own name is not what was written.
        """
        os.ftruncate(self.number, size)
        os.fsync(self.number)
        if not self._is_in_place():
            raise TransferError(
                f"{self.path} was moved or replaced by something else, so nothing was published; begin again"
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
        """Close it; what was written stays."""
        if self._number is not None:
            os.close(self._number)
            self._number = None

    def discard(self) -> None:
        """Remove what there is of it, and nothing else."""
        if self.mark is not None:
            self.remove(self.mark)
        self.close()
        self.mark = None

    def remove(self, mark: PartMark) -> None:
        """Remove what an earlier run has left."""
        if not is_private(mark.name):
            return
        path = self.target.with_name(mark.name)
        status = _status(path)
        if status is None:
            return
        planned = mark.inode == 0 and stat.S_ISREG(status.st_mode) and status.st_uid == mark.owner
        if planned or _is_marked(status, mark):
            path.unlink(missing_ok=True)


def _hold(number: int, target: Path) -> None:
    """Keep off transfers whose records are elsewhere. Raises `TransferBusy`, and closes it then."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        raise TransferBusy(f"another transfer is fetching {target}") from None
    except OSError:  # a file system without locks
        pass


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None


def _is_marked(status: os.stat_result, mark: PartMark) -> bool:
    """Whether it is the very file: names can be planted, and inodes can't."""
    return stat.S_ISREG(status.st_mode) and (status.st_ino, status.st_uid) == (mark.inode, mark.owner)


def _name(path: Path, target: Path) -> None:
    """Rename without replacing anything, whoever else is at it. Raises `LocalExists`."""
    try:
        try:
            os.link(path, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A file system without hard links: what is replaced is our own empty file.
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
            path.replace(target)
            return
    except FileExistsError:
        raise exists(target) from None
    path.unlink(missing_ok=True)


def exists(target: Path) -> LocalExists:
    """The error of a target that something else has taken."""
    return LocalExists(f"{target} is there and is not the same file; overwrite=True replaces it")
