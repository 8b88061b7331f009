"""Files of users who are kept apart: each has a folder of the files directory as a file store of its own.

So whatever a user can name lies in that user's folder: names, uploads in the making, digests and known content.
Unfinished uploads are there, too, so that a quota on the folder counts them.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from tornado_app import private
from tornado_app.files import names
from tornado_app.files.store.interface import FileStore
from tornado_app.files.workspace import Workspace
from tornado_app.settings import Settings, SettingsError

OpenStore = Callable[[Settings], FileStore]

MARK = "users"
"""The file of the reserved folder that says that the folders beside it belong to users."""


class UserStores:
    """The open stores of users, by their folders; safe in several threads. Opening one blocks."""

    def __init__(self, settings: Settings, open_store: OpenStore) -> None:
        self._settings = settings
        self._open_store = open_store
        self._lock = threading.Lock()
        self._open: dict[str, FileStore] = {}

    def check_directory(self) -> None:
        """Mark the files directory as one with the folders of users. Blocks.

        Raises:
            SettingsError: it has files of a server that keeps nobody apart: a user would get some of them.
        """
        if self._settings.store != "local":
            return
        root = self._settings.files_dir
        root.mkdir(parents=True, exist_ok=True)
        mark = root / names.RESERVED / MARK
        if mark.exists():
            return
        if any(entry.name != names.RESERVED for entry in root.iterdir()):
            raise SettingsError(
                f"--per-user needs a --files-dir of its own, and {root} has files of a server without it: give another "
                "directory, and move each user's files into that user's folder there"
            )
        mark.parent.mkdir(mode=0o700, exist_ok=True)
        private.create(mark)

    def get(self, folder: str) -> FileStore:
        """Return the store of a user; opens it if need be."""
        with self._lock:
            store = self._open.get(folder)
            if store is None:
                store = self._open[folder] = self._open_store(self._settings_of(folder))
            return store

    def exists(self, folder: str) -> bool:
        """Return whether there is a store of this folder already."""
        return folder in self._open or (self._settings.store == "local" and self._path(folder).is_dir())

    def folders(self) -> list[str]:
        """Return the folders that there are, in order."""
        if self._settings.store != "local":
            return sorted(self._open)
        with os.scandir(self._settings.files_dir) as entries:
            return sorted(entry.name for entry in entries if entry.name != names.RESERVED and entry.is_dir())

    def unfinished(self) -> list[str]:
        """Return the folders in which something is staged: an earlier server has left it."""
        return [folder for folder in self.folders() if _has_entries(self._path(folder) / names.RESERVED / "uploads")]

    def workspace(self, folder: str) -> Workspace:
        """Return the files of a user as work gets them."""
        return Workspace(self.get(folder), reserve=self._settings.reserve_space)

    def _settings_of(self, folder: str) -> Settings:
        return dataclasses.replace(self._settings, files_dir=self._path(folder))

    def _path(self, folder: str) -> Path:
        return self._settings.files_dir / folder


def check_unmarked(settings: Settings) -> None:
    """Raise `SettingsError` for a directory with the folders of users, on a server that would show all to everybody."""
    if settings.store == "local" and not settings.per_user and (settings.files_dir / names.RESERVED / MARK).exists():
        raise SettingsError(
            f"--files-dir {settings.files_dir} has the folders of users, who are kept apart: start with --per-user, or "
            "give another directory"
        )


def _has_entries(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entries)
    except OSError:
        return False


class UserWorkspaces(Workspace):
    """`WorkspaceSource` of a server that keeps users apart: for work of nobody there are no files.

    What work has staged is found and removed in the folders of all.
    """

    def __init__(self, stores: UserStores, nobody: FileStore, *, is_local: bool) -> None:
        """`nobody` is an empty store. `is_local`: other processes can open the stores of users."""
        super().__init__(nobody)
        self._stores = stores
        self._is_local = is_local
        self._used: set[str] = set()

    def for_user(self, folder: str) -> Workspace:
        """Return the files of a user."""
        self._used.add(folder)
        return self._stores.workspace(folder)

    def description(self) -> Any:
        """See `WorkspaceSource`: it says whether other processes can open the files of users."""
        return None if self._is_local else super().description()

    def owners(self) -> set[str]:
        """See `WorkspaceSource`."""
        found: set[str] = set()
        for folder in self._stores.unfinished():
            owners = self._stores.workspace(folder).owners()
            if owners:
                self._used.add(folder)
                found |= owners
        return found

    def drop(self, owners: Collection[str]) -> None:
        """See `WorkspaceSource`."""
        for folder in [*self._used]:
            self._stores.workspace(folder).drop(owners)
