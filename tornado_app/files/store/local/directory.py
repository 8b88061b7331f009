"""A directory tree opened through one handle: names are walked segment by segment and can't leave it."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tornado_app import problems
from tornado_app.files import names

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO must not wait for a writer; regular files don't mind.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_LINKS = 40  # as Linux itself allows on one path
_TEMPORARY = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE)


class DirectoryTree:
    """Opens names relative to a root directory, never by path.

    The kernel follows no link for us (O_NOFOLLOW on every segment): a link is read and walked by hand, so it may lead
    anywhere inside the root and nowhere else.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.real = os.path.realpath(root)
        self.fd = os.open(self.real, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the root."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def open(self, name: str) -> tuple[int, os.stat_result]:
        """Open the regular file `name` for reading; return descriptor and status. Raises BAD_NAME, NO_SUCH_FILE."""
        names.check_reachable(name)
        fd = self._open_without_links(name)
        if fd is None:
            with self._walk(name) as (folder, last):
                try:
                    fd = os.open(last, _FILE, dir_fd=folder)
                except OSError as error:
                    raise _refusal(name, error) from None
        status = os.fstat(fd)
        mode = status.st_mode
        if stat.S_ISREG(mode):
            return fd, status
        os.close(fd)
        what = "a folder" if stat.S_ISDIR(mode) else "neither a file nor a folder"
        raise problems.BAD_NAME(f"{name!r} is {what}. Name a file", field="file_name")

    def _open_without_links(self, name: str) -> int | None:
        """Open a name without links, which almost all are, in one system call a segment; None when that fails."""
        folder = self.fd
        try:
            *folders, last = name.split("/")
            for segment in folders:
                below = os.open(segment, FOLDER, dir_fd=folder)
                if folder != self.fd:
                    os.close(folder)
                folder = below
            return os.open(last, _FILE, dir_fd=folder)
        except OSError:
            return None
        finally:
            if folder != self.fd:
                os.close(folder)

    @contextmanager
    def parent(self, name: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder that `name` belongs in; yield it and the last segment, which is not followed if it is a link.

        Raises BAD_NAME when a segment on the way is a file, NO_SUCH_FILE when it is missing and not to be created.
        """
        names.check_reachable(name)
        folder, _, last = name.rpartition("/")
        with self._walk(folder, create=create, whole=True) as (fd, _):
            yield fd, last

    @contextmanager
    def _walk(self, name: str, *, create: bool = False, whole: bool = False) -> Iterator[tuple[int, str]]:
        """Descend; yields the last folder and the last segment, which is no link. `whole`: the name is all folders."""
        todo = deque(name.split("/") if name else [])
        stack: list[int] = []
        links = 0
        try:
            while todo:
                folder = stack[-1] if stack else self.fd
                segment = todo.popleft()
                if segment == "..":  # only ever out of a link
                    if not stack:
                        raise _leaves(name)
                    os.close(stack.pop())
                    continue
                if not stack and names.is_reserved(segment):
                    raise problems.BAD_NAME(f"{name!r} is a link to what is the server's own", field="file_name")
                target = self._link(segment, folder)
                if target is not None:
                    links += 1
                    if links > _MAX_LINKS:
                        raise problems.BAD_NAME(f"{name!r} goes through too many links", field="file_name")
                    if target.startswith("/"):
                        target = self._inside(target, name)
                        while stack:
                            os.close(stack.pop())
                    todo.extendleft(reversed([part for part in target.split("/") if part not in ("", ".")]))
                    continue
                if not todo and not whole:
                    yield folder, segment
                    return
                stack.append(self._descend(segment, folder, name, create))
            if not whole:
                raise problems.BAD_NAME(f"{name!r} is a folder. Name a file", field="file_name")
            yield (stack[-1] if stack else self.fd), ""
        finally:
            for fd in stack:
                os.close(fd)

    @staticmethod
    def _link(segment: str, folder: int) -> str | None:
        try:
            return os.readlink(segment, dir_fd=folder)
        except OSError:
            return None  # no link, or not there: what is done with it next says so

    def _inside(self, target: str, name: str) -> str:
        """Return an absolute link target relative to the root."""
        if target == self.real:
            return ""
        if not target.startswith(self.real + "/"):
            raise _leaves(name)
        return target[len(self.real) + 1 :]

    @staticmethod
    def _descend(segment: str, folder: int, name: str, create: bool) -> int:
        try:
            return os.open(segment, FOLDER, dir_fd=folder)
        except FileNotFoundError as error:
            if not create:
                raise _refusal(name, error) from None
        except OSError as error:
            raise _refusal(name, error) from None
        try:
            try:
                os.mkdir(segment, dir_fd=folder)
                os.fsync(folder)
            except FileExistsError:
                pass  # another thread made it
            return os.open(segment, FOLDER, dir_fd=folder)
        except OSError as error:
            raise _refusal(name, error) from None


class FolderOpener:
    """Opens regular files by names without links; the folder of the last one stays open for the next."""

    def __init__(self, root: int) -> None:
        """`root` is an open folder, which stays open."""
        self._root = root
        self._name = ""
        self._folder: int | None = root

    def open(self, name: str) -> tuple[int, os.stat_result] | None:
        """Return descriptor and status; None when that fails, or there is a link or no regular file."""
        folder, _, last = name.rpartition("/")
        if folder != self._name:
            self._enter(folder)
        if self._folder is None:
            return None
        try:
            fd = os.open(last, _FILE, dir_fd=self._folder)
        except OSError:
            return None
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            return fd, status
        os.close(fd)
        return None

    def close(self) -> None:
        """Close the folder."""
        if self._folder is not None and self._folder != self._root:
            os.close(self._folder)
        self._name, self._folder = "", self._root

    def _enter(self, name: str) -> None:
        self.close()
        self._name = name
        for segment in name.split("/") if name else ():
            above, self._folder = self._folder, None
            try:
                self._folder = os.open(segment, FOLDER, dir_fd=above)
            except OSError:
                return
            finally:
                if above is not None and above != self._root:
                    os.close(above)


def _leaves(name: str) -> problems.ProblemError:
    return problems.BAD_NAME(f"{name!r} is or goes through a link that leaves the files directory", field="file_name")


def _refusal(name: str, error: OSError) -> BaseException:
    """Return the refusal for a system error; the error itself where the name is not the cause."""
    if error.errno == errno.ENOENT:
        return problems.NO_SUCH_FILE(f"there is no file {name!r}; GET /v1/files lists what there is")
    if error.errno == errno.ENOTDIR:
        return problems.BAD_NAME(f"{name!r} goes through a file as if it were a folder", field="file_name")
    if is_full(error):
        return no_space()
    if is_temporary(error):
        return error
    return problems.BAD_NAME(f"{name!r} can't be opened: {error.strerror}", field="file_name")


def is_temporary(error: OSError) -> bool:
    """Return whether the system fails for now, at a file that may exist."""
    return error.errno in _TEMPORARY


def is_full(error: OSError) -> bool:
    """Return whether the file system, a quota or a size limit refuses more bytes."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def no_space() -> problems.ProblemError:
    """Return the refusal for a full disk."""
    return problems.NO_SPACE(
        "the disk of the files directory is full. Make room, then go on from where the upload stands"
    )


@contextmanager
def disk_errors_as_problems() -> Iterator[None]:
    """Raise NO_SPACE in place of an `OSError` that means a full disk."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise no_space() from error
        raise


def as_problem(error: OSError) -> BaseException:
    """Return NO_SPACE for a full disk, the error itself for any other."""
    return no_space() if is_full(error) else error
