"""The services of users who are kept apart: each user's files, links and database, opened when they are first needed.

Nothing is filtered here: each user has services of its own, in a folder of its own, which know nothing of the others.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from pathlib import Path
from typing import NamedTuple

import msgspec

from holdfast.wire import Event
from tornado_app import private
from tornado_app.files.links import Links
from tornado_app.files.service import FileService, new_executor
from tornado_app.files.store.interface import FileStore
from tornado_app.identity import folders
from tornado_app.identity.principal import NOBODY
from tornado_app.identity.users.stores import UserStores, UserWorkspaces
from tornado_app.processes.events import EventBroker
from tornado_app.processes.work_context import UserWork, WorkSettings
from tornado_app.settings import Settings

log = logging.getLogger("holdfast.server")

USERS = "users"
"""The folder of the data directory with a folder for each user."""


class UserServices(NamedTuple):
    """Services of one user, apart from those of all others."""

    files: FileService
    links: Links


class Users:
    """The services of all users, by their folders. Lives on the event loop."""

    def __init__(self, settings: Settings, stores: UserStores, nobody: FileStore) -> None:
        """`nobody` is an empty store, for whoever was not admitted."""
        self._settings = settings
        self._stores = stores
        self._executor = new_executor()
        self._open: dict[str, UserServices] = {}
        self._opening: dict[str, asyncio.Task[UserServices]] = {}
        self._broker: EventBroker | None = None
        self._left: asyncio.Task[None] | None = None
        self._nobody = nobody
        self.workspaces = UserWorkspaces(stores, nobody, is_local=settings.store == "local")
        self.nobody: UserServices

    async def open(self) -> None:
        """Check the files directory, and make the services of nobody. Raises `SettingsError`, `OSError`."""
        await self._executor.run(self._stores.check_directory)
        links = await self._executor.run(self._links, NOBODY.folder)
        files = FileService(self._settings, lambda: self._nobody, folder=NOBODY.folder, executor=self._executor)
        await files.open()
        self.nobody = UserServices(files, links)

    def begin(self, broker: EventBroker) -> None:
        """Publish events from now on, and go on with what an earlier server left unfinished."""
        self._broker = broker
        self._left = asyncio.create_task(self._open_left())

    async def close(self) -> None:
        """Close the services of all users."""
        if self._left is not None:
            self._left.cancel()
            await asyncio.gather(self._left, return_exceptions=True)
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        for files, _ in [*self._open.values(), self.nobody]:
            await files.close()
        self._executor.close()

    @property
    def has_pending_digests(self) -> bool:
        """Return whether a digest of any user's file is to be made, also of one whose services are being opened."""
        left = self._left is not None and not self._left.done()
        return left or bool(self._opening) or any(files.sha256.is_pending for files, _ in self._open.values())

    async def close_digests(self) -> None:
        """Let requests that wait for a digest go on without."""
        for files, _ in self._open.values():
            await files.sha256.close()

    def at_once(self, folder: str) -> UserServices | None:
        """Return the services of a user if they are open."""
        return self._open.get(folder)

    async def get(self, folder: str) -> UserServices:
        """Return the services of a user; opens them first if need be. Raises `SettingsError`, `OSError`."""
        found = self._open.get(folder)
        if found is not None:
            return found
        task = self._opening.get(folder)
        if task is None:
            task = self._opening[folder] = asyncio.create_task(self._make(folder))
            task.add_done_callback(lambda done: self._opening.pop(folder, None))
        return await asyncio.shield(task)

    async def existing(self, folder: str) -> UserServices | None:
        """Return the services of a user who has been here before; None for any other text."""
        if not folders.is_folder(folder):
            return None
        found = self._open.get(folder)
        if found is None and await self._executor.run(self._stores.exists, folder):
            found = await self.get(folder)
        return found

    def work_of(self, folder: str) -> UserWork:
        """Return the settings and files that a user's work gets. Safe in worker threads."""
        return UserWork(self._work_settings(folder), self.workspaces.for_user(folder))

    async def _make(self, folder: str) -> UserServices:
        links = await self._executor.run(self._links, folder)
        files = FileService(self._settings, lambda: self._stores.get(folder), folder=folder, executor=self._executor)
        await files.open()
        prefix = f"{folder}/"

        def publish(event: Event) -> None:
            if self._broker is not None:
                self._broker.publish(msgspec.structs.replace(event, id=prefix + event.id))

        files.on_event = publish
        made = self._open[folder] = UserServices(files, links)
        return made

    async def _open_left(self) -> None:
        """Open the services of users who have unfinished uploads, so that these expire, or are published."""
        for folder in await self._executor.run(self._stores.unfinished):
            try:
                await self.get(folder)
            except Exception:
                log.exception("the files of user %s can't be used", folder)

    def _home(self, folder: str) -> Path:
        return self._settings.data_dir / USERS / folder

    def _links(self, folder: str) -> Links:
        home = self._home(folder)
        private.make_folder(home)
        private.create(home / "default.sqlite")
        return Links(home, self._settings.link_life, user=folder)

    def _work_settings(self, folder: str) -> WorkSettings:
        own = dataclasses.replace(
            self._settings, files_dir=self._settings.files_dir / folder, data_dir=self._home(folder)
        )
        return WorkSettings.of(own)
