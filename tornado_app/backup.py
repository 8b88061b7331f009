"""A copy of everything that a server keeps, taken while it runs: `holdfast backup FOLDER`.

The order makes the copy one that a crash could have left: the journal first, then the databases and files, which may
only be ahead of what it says. Work goes on from its checkpoint after a restore, as it does after a crash.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from tornado_app.files.names import RESERVED
from tornado_app.files.store.local.blocks.boot import BOOT_FILE
from tornado_app.files.store.local.reserved_folder import DIGESTS, UPLOADS
from tornado_app.settings import Settings, SettingsError, add_flags, collect

JOURNAL = "journal.sqlite"
DATABASES, DATA, FILES = "databases", "data", "files"
_TRIES = 10
_SQLITE = b"SQLite format 3\0"
_BESIDE = ("-wal", "-shm", "-journal")


class BackupError(Exception):
    """A backup that can't be made; the message says why and what to do."""


@dataclasses.dataclass
class Copied:
    """Contents of a backup. `left_out` names what could not be copied, with the reason."""

    databases: int = 0
    files: int = 0
    bytes: int = 0
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)


def back_up(settings: Settings, target: Path, *, files: bool = True) -> Copied:
    """Copy data directory, SQLite databases and, with `files`, the files directory into the new folder `target`.

    `target` has its name only once it is whole and on the disk.

    Raises:
        BackupError: there is nothing to copy, or something at `target`; or the files are on no disk.
        OSError: reading or writing failed; nothing is left at `target`.
    """
    if not (settings.data_dir / JOURNAL).is_file():
        raise BackupError(f"there is no {JOURNAL} in {settings.data_dir}. Give the server's --data-dir")
    if files and settings.store != "local":
        raise BackupError(
            f"the files of a server with --store {settings.store} are in its own memory, which a backup can't read: "
            "download them, and add --no-files to back up the rest"
        )
    if target.exists():
        raise BackupError(f"{target} exists. Give a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    partial.mkdir(mode=0o700)
    try:
        copied = _Copy(settings, partial).run(files=files)
        os.sync()
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return copied


class _Copy:
    """One backup in progress."""

    def __init__(self, settings: Settings, target: Path) -> None:
        self._settings = settings
        self._target = target
        self._copied = Copied()

    def run(self, *, files: bool) -> Copied:
        self._data_directory()
        self._other_databases()
        if files:
            self._files_directory()
        return self._copied

    def _data_directory(self) -> None:
        source, target = self._settings.data_dir, self._target / DATA
        target.mkdir(mode=0o700)
        self._database(source / JOURNAL, target / JOURNAL)
        for path in _below(source):
            place = target / path.relative_to(source)
            if place.exists() or path.name == "lock" or path.name.endswith(_BESIDE):
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if _is_database(path):
                self._database(path, place)
            else:
                self._file(path, place)

    def _other_databases(self) -> None:
        """Copy the SQLite databases of `--database`."""
        for name, text in self._settings.database.items():
            try:
                url = make_url(text)
            except ArgumentError:
                continue
            if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
                self._copied.left_out[name] = "not an SQLite file: back it up by its own tools, after this"
                continue
            path = Path(url.database)
            if path.resolve().is_relative_to(self._settings.data_dir.resolve()):
                continue
            (self._target / DATABASES).mkdir(exist_ok=True)
            self._database(path, self._target / DATABASES / f"{name}.sqlite")

    def _database(self, source: Path, target: Path) -> None:
        """Copy a database by SQLite's online backup: a committed state, while others may write."""
        try:
            here = sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True, timeout=60)
            with closing(here), closing(sqlite3.connect(target)) as there:
                here.backup(there)
                there.execute("PRAGMA journal_mode = DELETE")  # one file, which needs no other
        except sqlite3.Error as error:
            raise BackupError(f"the database {source} could not be copied: {error}") from error
        shutil.copymode(source, target)
        self._copied.databases += 1
        self._copied.bytes += target.stat().st_size

    def _files_directory(self) -> None:
        source, target = self._settings.files_dir, self._target / FILES
        target.mkdir(mode=0o700)
        shutil.copymode(source, target)
        # Uploads first: one may become a file meanwhile, but a file never becomes an upload.
        uploads = source / RESERVED / UPLOADS
        if uploads.is_dir():
            for folder in sorted(uploads.iterdir()):
                if folder.is_dir() and not folder.name.startswith("."):
                    self._upload(folder, target / RESERVED / UPLOADS / folder.name)
        for path in _below(source, leave_out=source / RESERVED):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            self._file(path, place)
        for own in (RESERVED, f"{RESERVED}/{UPLOADS}", f"{RESERVED}/{DIGESTS}"):
            (target / own).mkdir(mode=0o700, exist_ok=True)

    def _upload(self, source: Path, target: Path) -> None:
        """Copy one upload. If its folder changes meanwhile, copy it again."""
        for _ in range(_TRIES):
            before = self._copied.files, self._copied.bytes
            try:
                state = source.stat().st_mtime_ns
                target.mkdir(parents=True, mode=0o700)
                for path in sorted(source.iterdir()):
                    if path.name != BOOT_FILE:  # then digests are verified: bytes may have changed beside them
                        self._file(path, target / path.name)
                if source.stat().st_mtime_ns == state:
                    return
            except FileNotFoundError:
                if not source.exists():  # it has ended
                    shutil.rmtree(target, ignore_errors=True)
                    self._copied.files, self._copied.bytes = before
                    return
            shutil.rmtree(target, ignore_errors=True)
            self._copied.files, self._copied.bytes = before
        self._copied.left_out[f"upload {source.name}"] = "it changed while it was copied. Its client must start again"

    def _file(self, source: Path, target: Path) -> None:
        """Copy one file or link. One that was removed since it was listed is ignored."""
        try:
            if source.is_symlink():
                target.symlink_to(source.readlink())
            elif stat.S_ISREG(source.stat().st_mode):
                shutil.copy2(source, target)
                self._copied.bytes += target.stat().st_size
            else:
                return  # sockets and pipes have no contents
        except FileNotFoundError:
            target.unlink(missing_ok=True)
            return
        self._copied.files += 1


def _below(folder: Path, leave_out: Path | None = None) -> Iterator[Path]:
    """Iterate over everything below a folder that is not a folder."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if Path(root, name) != leave_out)
        links = [name for name in folders if Path(root, name).is_symlink()]
        yield from (Path(root, name) for name in (*links, *sorted(names)))


def _is_database(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 for a whole backup, 1 for a failed one, 2 for invalid arguments."""
    parser = argparse.ArgumentParser(
        prog="holdfast backup",
        description="Copy all that a server keeps into a new folder, also while it runs.",
        epilog="The other flags and variables are those of `holdfast serve`: give what the server is given.",
    )
    parser.add_argument("folder", type=Path, help="where the backup goes; it must not be there yet")
    parser.add_argument("--no-files", action="store_true", help="leave out the files directory")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_flags(parser)
    given = parser.parse_args(argv)
    try:
        copied = back_up(collect(given, os.environ), given.folder, files=not given.no_files)
    except SettingsError as error:
        return _refuse(str(error), 2)
    except BackupError as error:
        return _refuse(str(error), 1)
    except (OSError, shutil.Error) as error:
        return _refuse(f"the backup could not be made: {error}", 1)
    if given.json:
        print(json.dumps({"folder": str(given.folder), **dataclasses.asdict(copied)}))  # noqa: T201
    else:
        found = {"database": copied.databases, "other file": copied.files, "byte": copied.bytes}
        counts = ", ".join(f"{number:,} {noun}{'' if number == 1 else 's'}" for noun, number in found.items())
        print(f"{given.folder}: {counts}")  # noqa: T201
    for what, why in copied.left_out.items():
        print(f"holdfast: {what} was left out: {why}", file=sys.stderr)  # noqa: T201
    return 0


def _refuse(why: str, status: int) -> int:
    print(f"holdfast: {why}", file=sys.stderr)  # noqa: T201 - for the person who started it
    return status


if __name__ == "__main__":
    sys.exit(main())
