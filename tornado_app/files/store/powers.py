"""Use of the optional powers of a store, and the ways to go on where a store lacks one."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from holdfast.digests import BLOCK, BlockHasher
from tornado_app import problems
from tornado_app.files.store.interface import (
    FileDigests,
    FileReader,
    FileStat,
    FileStore,
    Piece,
    PlacedFile,
    SmallFile,
    StagedData,
)
from tornado_app.files.store.optional_powers import (
    HasStamp,
    JoinsParts,
    KeepsCrc32,
    KeepsDigests,
    ListsFolders,
    PublishesSmallFiles,
    ReadsStagedData,
    ReplacesBytes,
    Truncates,
)

_PIECE = 1 << 20
_PAGE = 1000
_LAST = "\U0010ffff"  # sorts behind what names have in its place


def level(store: FileStore, prefix: str, after: str, limit: int) -> list[FileStat | str]:
    """List one level of names (see `ListsFolders`). Without the power, folders are made of whole names."""
    if isinstance(store, ListsFolders):
        return store.level(prefix, after, limit)
    found: list[FileStat | str] = []
    folder, cursor = "", after
    while len(found) < limit:
        page = store.listing(prefix, cursor, _PAGE)
        for stat in page:
            if folder and stat.name.startswith(folder):
                continue
            head, slash, _ = stat.name[len(prefix) :].partition("/")
            folder = f"{prefix}{head}/" if slash else ""
            if not folder or folder != after:
                found.append(folder or stat)
        if len(page) < _PAGE:
            break
        cursor = folder + _LAST if folder else page[-1].name
    return found[:limit]


def can_truncate(staged: StagedData, size: int) -> bool:
    """Return whether `truncate` to this size is possible."""
    return size == staged.offset or isinstance(staged, Truncates)


def truncate(staged: StagedData, size: int) -> None:
    """Cut staged bytes back. Raises BROKEN where the store can't, `ValueError` when there is less."""
    if size == staged.offset:
        return
    if not isinstance(staged, Truncates):
        raise problems.BROKEN(
            f"the bytes after {size} can't be taken back, because this server's file store can't truncate; "
            "start again from the first byte"
        )
    staged.truncate(size)


def replace(staged: StagedData, offset: int, data: Piece) -> None:
    """Replace staged bytes. Raises BROKEN where the store can't."""
    if not isinstance(staged, ReplacesBytes):
        raise problems.BROKEN(
            "bytes that were sent can't be replaced, because this server's file store can't do that. "
            "Delete the upload and create another"
        )
    staged.replace(offset, data)


def read(staged: StagedData, offset: int, count: int) -> bytes:
    """Read staged bytes. Raises BROKEN where the store can't."""
    if not isinstance(staged, ReadsStagedData):
        raise problems.BROKEN(
            "the bytes can't be read before they are published, because this server's file store can't do that; "
            "start again from the first byte"
        )
    return staged.read(offset, count)


def join(whole: StagedData, parts: Sequence[StagedData]) -> None:
    """Append all parts to `whole`. Without the power, their bytes are read and written. Raises as `JoinsParts`."""
    if isinstance(whole, JoinsParts):
        whole.join(parts)
        return
    for part in parts:
        offset = 0
        while offset < part.offset:
            piece = read(part, offset, min(_PIECE, part.offset - offset))
            if not piece:
                raise OSError(f"the part {part.id} ended at {offset}, not at {part.offset}")
            whole.write([piece])
            offset += len(piece)


def kept_crc32(reader: FileReader) -> int | None:
    """Return the CRC-32 of a version if the store has kept it."""
    return reader.kept_crc32() if isinstance(reader, KeepsCrc32) else None


def keep_crc32(reader: FileReader, crc: int) -> None:
    """Keep the CRC-32 of a version, where the store can."""
    if isinstance(reader, KeepsCrc32):
        reader.keep_crc32(crc)


def open_for_digest(store: FileStore, name: str) -> FileReader:
    """Open a file whose digests are wanted. Raises as `KeepsDigests.open_for_digest`, which may wait a moment."""
    return store.open_for_digest(name) if isinstance(store, KeepsDigests) else store.open(name)


def block_digests(store: FileStore, reader: FileReader) -> bytes | None:
    """Return the digests of all blocks of an open file if they are known."""
    return store.block_digests(reader) if isinstance(store, KeepsDigests) else None


def make_block_digests(store: FileStore, reader: FileReader) -> bytes | None:
    """Read a file that was opened for its digests, return those of its blocks, and keep them where the store can.

    Returns None when the file changes meanwhile.
    """
    hasher = BlockHasher()
    while piece := reader.read(hasher.position, BLOCK):
        hasher.feed((piece,))
    if reader.changed() or hasher.position != reader.stat.size:
        return None
    blocks = hasher.blocks()
    if isinstance(store, KeepsDigests):
        store.record_digests(reader, FileDigests(blocks=blocks))
    return blocks


def stamp(reader: FileReader) -> int | None:
    """Return the stamp of the version that is open, None where it has none."""
    return reader.stamp if isinstance(reader, HasStamp) else None


def publish_small(store: FileStore, files: Sequence[SmallFile]) -> list[PlacedFile | Exception]:
    """Publish small files (see `PublishesSmallFiles`). Without the power, each is staged."""
    if isinstance(store, PublishesSmallFiles):
        return store.publish_small(files)
    results: list[PlacedFile | Exception] = []
    for file in files:
        try:
            results.append(_publish(store, file))
        except (OSError, problems.ProblemError) as error:
            results.append(error)
    return results


def _publish(store: FileStore, file: SmallFile) -> PlacedFile:
    current = store.check_target(file.name)
    staged = store.create(secrets.token_hex(16), b"")
    try:
        staged.write([memoryview(file.data)])
        return PlacedFile(staged.publish(file.name, file.digests, file.expect), current is not None)
    finally:
        staged.discard()
