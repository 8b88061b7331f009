"""Creation of the directory of an upload, and its loading, which rolls back what a crash left half done."""

from __future__ import annotations

import errno
import os

import msgspec

from tornado_app import fault_points, problems
from tornado_app.files.store.interface import FileStat
from tornado_app.files.store.local import atomic_file, directory
from tornado_app.files.store.local.blocks.staged_blocks import BLOCKS, cut_in
from tornado_app.files.store.local.root import Root
from tornado_app.files.store.local.staged.data import LocalStagedData
from tornado_app.files.store.local.staged.publication_record import PublicationRecord
from tornado_app.files.store.local.staging_folder import StagingFolder, check_id, no_such_upload


def create(root: Root, staging: StagingFolder, id: str, info: bytes) -> LocalStagedData:
    """Make `uploads/<id>`, whole or not at all. Raises CONFLICT, NO_SPACE."""
    check_id(id)
    temporary = f".new-{id}"
    try:
        os.mkdir(temporary, 0o700, dir_fd=staging.fd)
    except FileExistsError:
        raise problems.CONFLICT(f"the upload {id!r} is being created by another request") from None
    except OSError as error:
        raise directory.as_problem(error) from error
    data = -1
    try:
        with staging.open(temporary) as folder:
            fault_points.point("create.before-info")
            # 0o666 and the umask: this inode becomes the published file.
            data = os.open("data", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
            atomic_file.write(folder, "info", info, durable=staging.durable)
        fault_points.point("create.before-rename")
        os.rename(temporary, id, src_dir_fd=staging.fd, dst_dir_fd=staging.fd)
        if staging.durable:
            os.fsync(staging.fd)
    except OSError as error:
        if data >= 0:
            os.close(data)
        staging.remove(temporary)
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise problems.CONFLICT(f"there is an upload {id!r} already") from None
        raise directory.as_problem(error) from error
    fault_points.point("create.made")
    return LocalStagedData(root, staging, id, data, info, None)


def load(root: Root, staging: StagingFolder, id: str) -> LocalStagedData:
    """Open `uploads/<id>` and roll back what a crash left half done. Raises NO_SUCH_UPLOAD."""
    check_id(id)
    with staging.open(id) as folder:
        info = atomic_file.read(folder, "info")
        if info is None:
            raise no_such_upload(id)
        try:
            data = os.open("data", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            data = -1
        try:
            published = _recover(root, folder, data)
            if published is None and data < 0:
                raise no_such_upload(id)
            if published is not None and data >= 0:
                os.close(data)
                data = -1
            if data >= 0 and staging.durable:
                os.fsync(data)  # its size is the offset that clients get, and may be in memory only
            return LocalStagedData(root, staging, id, data, info, published)
        except BaseException:
            if data >= 0:
                os.close(data)
            raise


def _recover(root: Root, folder: int, data: int) -> FileStat | None:
    """Finish or roll back what a dead server was doing; return the file that the bytes became, if they did."""
    trial = atomic_file.read(folder, "trial")
    if trial is not None:
        if data >= 0:
            size = min(int(trial), os.fstat(data).st_size)
            cut_in(folder, size)
            os.ftruncate(data, size)
        atomic_file.remove(folder, "trial")
    note = atomic_file.read(folder, "published")
    if note is None:
        return None
    published = msgspec.json.decode(note, type=PublicationRecord)
    if data >= 0 and not root.shows(published.name, data):
        atomic_file.remove(folder, "published")  # it died before the rename
        return None
    atomic_file.remove(folder, "data")
    return _published_before(root, folder, published)


def _published_before(root: Root, folder: int, published: PublicationRecord) -> FileStat:
    """Return the file that bytes became before a crash; its digests may not have been recorded any more."""
    try:
        with root.tree.parent(published.name) as (parent, last):
            status = os.stat(last, dir_fd=parent, follow_symlinks=False)
    except (problems.ProblemError, FileNotFoundError):
        return published.stat()
    same = (published.inode, published.size, published.modified_ns)
    if (status.st_ino, status.st_size, status.st_mtime_ns) != same:
        return published.stat()
    if published.record is not None:
        if published.block_digest is not None:
            root.digests.take_blocks(status, folder, BLOCKS)
        root.digests.record_unconfirmed(status, published.record)
    if root.pending is not None:
        record, before = root.digests.get(status, keep=False)
        if (record or before or published).sha256 is None:
            root.pending.add(status, published.name)
    return published.stat(status)
