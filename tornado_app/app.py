"""The composition root: builds the services from the settings and hands them to the handlers."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tornado.httpserver import HTTPServer
from tornado.web import Application

from holdfast._environment.identity import KEY_FILE
from holdfast._environment.known_servers import ServerNote
from tornado_app import private
from tornado_app.files.links import Links
from tornado_app.files.service import FileService
from tornado_app.files.store.interface import FileStore
from tornado_app.files.store.local import reserved_folder
from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.store.memory.store import MemoryStore
from tornado_app.handlers.base import AppServices, BaseUrlHandler, NotFoundHandler
from tornado_app.handlers.direct.delegate import DirectAnswers
from tornado_app.handlers.openapi.document import Contract
from tornado_app.identity.admission import Admission, LocalAdmission
from tornado_app.identity.hub.admission import HubAdmission
from tornado_app.identity.hub.client import HubClient
from tornado_app.identity.hub.sessions import SESSION_KEY_FILE, Sessions
from tornado_app.identity.principal import NOBODY, RUN_CODE
from tornado_app.identity.users.services import Users
from tornado_app.identity.users.stores import UserStores, check_unmarked
from tornado_app.processes import metrics, work_context
from tornado_app.processes.executors.interface import ExecutorFactory
from tornado_app.processes.executors.loop import LoopExecutor
from tornado_app.processes.executors.os_process import OSProcessExecutor
from tornado_app.processes.executors.thread import ThreadExecutor
from tornado_app.processes.journal.interface import Journal
from tornado_app.processes.journal.ownership import LEASE
from tornado_app.processes.journal.sqlite import SqliteJournal
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine
from tornado_app.processes.user_processes import UserProcesses
from tornado_app.processes.work_context import UserWork, WorkContext, WorkSettings, WorkspaceSource
from tornado_app.routes import matcher, routes
from tornado_app.server import idle, listening
from tornado_app.server.access import Access
from tornado_app.server.identity import ServerIdentity, write_note
from tornado_app.server.long_bodies import MAX_BODY, MAX_HEAD, Refusals, StreamingApplication, StreamingServer
from tornado_app.settings import MIB, Settings, SettingsError

IDLE_TIMEOUT_S = 120.0
"""Seconds that a kept-alive connection may be idle, and in which the head of a request must arrive."""
BODY_TIMEOUT_S = 600.0
"""Seconds in which the body of a request must arrive. An upload's may take longer, but must not be idle."""


class App:
    """A server with its services, from `open` to `close`."""

    def __init__(self, settings: Settings, services: AppServices, lock: DirectoryLock) -> None:
        self.settings = settings
        self.services = services
        self._lock = lock
        self._server: HTTPServer | None = None
        self._note: ServerNote | None = None
        self.port = 0

    @classmethod
    async def open(cls, settings: Settings) -> App:
        """Build every service and recover the work of an earlier server. Raises `SettingsError`."""
        if settings.store == "local":
            reserved_folder.check_places(settings)
        lock = DirectoryLock(settings.data_dir)
        try:
            access, links, identity_key = _open_access(settings)
            try:
                admission = _open_admission(settings, access)
            except BaseException:
                access.close()
                raise
            try:
                registry = Registry.load(settings)
                work_context.check_databases(settings)
                kept = await _open_files(settings, links)
                try:
                    engine = new_engine(settings, registry, kept.workspace, for_user=kept.work_of)
                    await engine.open()
                except BaseException:
                    await kept.close()
                    raise
            except BaseException:
                admission.close()
                raise
        except BaseException:
            lock.release()
            raise
        identity = ServerIdentity(identity_key, engine.lease.id)
        processes: Engine | UserProcesses = engine
        if kept.users is None:
            kept.files.on_event = engine.broker.publish
        else:
            kept.users.begin(engine.broker)
            processes = UserProcesses(engine, NOBODY.folder, forbid_code=functools.partial(NOBODY.check, RUN_CODE))
        services = AppServices(
            settings, access, kept.links, engine, processes, kept.files, identity, admission, kept.users
        )
        return cls(settings, services, lock)

    def application(self) -> Application:
        """The Tornado application."""
        table = routes(self.services, has_logins=bool(self.settings.auth))
        base_url = self.settings.base_url
        rules = [(matcher(base_url, pattern, handler), handler, arguments) for pattern, handler, arguments in table]
        if base_url != "/":
            rules.append((matcher(base_url[:-1], "", BaseUrlHandler), BaseUrlHandler, {"services": self.services}))
        return StreamingApplication(
            rules,
            contract=Contract(table),
            default_handler_class=NotFoundHandler,
            default_handler_args={"services": self.services},
            log_function=lambda handler: None,  # the handlers log for themselves
        )

    def listen(self) -> int:
        """Bind and serve; return the port, 0 for a Unix socket. Raises `SettingsError` if it can't bind."""
        sockets = listening.open_sockets(self.settings)
        self._server = StreamingServer(
            DirectAnswers(self.application(), self.services),
            chunk_size=MIB,
            max_header_size=MAX_HEAD,
            max_body_size=MAX_BODY,  # handlers that take a body raise it
            idle_connection_timeout=IDLE_TIMEOUT_S,
            body_timeout=BODY_TIMEOUT_S,
            xheaders=self.settings.trust_proxy,
            refusals=Refusals(self.settings.base_url[:-1]),
        )
        self._server.read_chunk_size = 16 << 10  # enough for a head; long bodies have buffers of their own
        if self.settings.socket is None:
            self.port = sockets[0].getsockname()[1]
        self._server.add_sockets(sockets)
        self._note = write_note(self.settings, self.services.access, self.services.identity.instance, self.url)
        return self.port

    @property
    def url(self) -> str:
        """Return the URL at which clients find the server."""
        return listening.url_of(self.settings, self.port)

    async def wait_idle(self) -> None:
        """Return once nobody has used the server and it had nothing to do for `--idle-stop` seconds; 0 is never."""
        if self.settings.idle_stop <= 0:
            await asyncio.get_running_loop().create_future()
        await idle.wait_idle(self.services.in_flight, self.settings.idle_stop, self.has_work)

    async def has_work(self) -> bool:
        """Return whether there is work that no request waits for: of processes, or a digest to be made."""
        users = self.services.users
        digests = self.services.files.sha256.is_pending if users is None else users.has_pending_digests
        return digests or await self.services.engine.has_work()

    async def close(self) -> None:
        """Stop taking requests, let running work reach a checkpoint, finish requests in flight, release resources."""
        if self._note is not None:
            self._note.close()
            self._note = None
        if self._server is not None:
            self._server.stop()
            if self.settings.socket is not None:
                self.settings.socket.unlink(missing_ok=True)
        grace = self.settings.shutdown_grace
        users = self.services.users
        await self.services.files.sha256.close()  # requests that wait for a digest go on without
        if users is not None:
            await users.close_digests()
        await asyncio.gather(self.services.engine.stop(grace), self.services.in_flight.drained(grace))
        await self.services.engine.close()
        if self._server is not None:
            await self._server.close_all_connections()
        await (self.services.files.close() if users is None else users.close())
        self.services.admission.close()
        self._lock.release()


def new_engine(
    settings: Settings,
    registry: Registry,
    files: WorkspaceSource,
    more: Mapping[str, ExecutorFactory] | None = None,
    *,
    journal: Journal | None = None,
    lease: float = LEASE,
    for_user: Callable[[str], UserWork] | None = None,
) -> Engine:
    """Return an engine with the executors that come with the server, and `more` of them by name; not open yet.

    Without a `journal` it has the one of its data directory, whose lock the caller holds. `for_user` as in
    `WorkContext`.
    """
    context = WorkContext(WorkSettings.of(settings), files, for_user)
    executors: dict[str, ExecutorFactory] = {
        "thread": lambda: ThreadExecutor(registry.get, context),
        "loop": lambda: LoopExecutor(registry.get, context),
        "process": lambda: OSProcessExecutor(settings, files, registry.module_of, for_user),
        **(more or {}),
    }
    if journal is None:
        path = settings.data_dir / "journal.sqlite"
        journal = SqliteJournal(path, durable=settings.durable, observe=metrics.COMMIT.observe)
    return Engine(settings, registry, context, executors, journal, lease=lease)


class _Files(NamedTuple):
    """The files of a server: those of all, or of each user, with what work gets of them."""

    files: FileService
    links: Links
    workspace: WorkspaceSource
    users: Users | None = None

    @property
    def work_of(self) -> Callable[[str], UserWork] | None:
        """Return what gives work the files of one user."""
        return None if self.users is None else self.users.work_of

    async def close(self) -> None:
        """Close the files of all."""
        await (self.files.close() if self.users is None else self.users.close())


async def _open_files(settings: Settings, links: Links) -> _Files:
    """Open the files service, or those of users. Raises `SettingsError`."""
    if settings.per_user:
        users = Users(settings, UserStores(settings, open_store), MemoryStore())
        try:
            await users.open()
        except OSError as error:
            raise SettingsError(f"--files-dir {settings.files_dir} can't be used: {error.strerror}") from error
        return _Files(users.nobody.files, users.nobody.links, users.workspaces, users)
    check_unmarked(settings)
    files = FileService(settings, functools.partial(open_store, settings))
    await files.open()
    return _Files(files, links, files.workspace())


def _open_admission(settings: Settings, access: Access) -> Admission:
    """Return the rules that admit requests. Raises `SettingsError`."""
    if not settings.auth:
        return LocalAdmission(access)
    hub = HubClient(settings.base_url)
    try:
        key = private.secret(settings.data_dir / SESSION_KEY_FILE)
    except (OSError, private.NotPrivateError) as error:
        raise SettingsError(f"--data-dir {settings.data_dir} can't be used: {error}") from error
    sessions = Sessions(key, hub.client_id, settings.base_url)
    return HubAdmission(hub, sessions, per_user=settings.per_user)


def open_store(settings: Settings) -> FileStore:
    """Open the file store that the settings name. Blocks. Raises `SettingsError`."""
    if settings.store == "memory":
        return MemoryStore(marks_digests=settings.digest_uploads)
    try:
        store = LocalStore(settings.files_dir, durable=settings.durable, marks_digests=settings.digest_uploads)
        try:
            store.lock()
        except OSError:
            store.close()
            raise
    except OSError as error:
        raise SettingsError(f"--files-dir {settings.files_dir} can't be used: {error.strerror}") from error
    return store


def _open_access(settings: Settings) -> tuple[Access, Links, str]:
    """Make the data directory private; return the rules of access and its identity key. Raises `SettingsError`."""
    data_dir = settings.data_dir
    try:
        for name in ("journal.sqlite", *(() if "default" in settings.database else ("default.sqlite",))):
            private.create(data_dir / name)  # SQLite would make it readable to everybody, and its logs like it
        private.make_files(data_dir, leave=settings.files_dir)
        return Access.open(settings), Links(data_dir, settings.link_life), private.secret(data_dir / KEY_FILE)
    except (OSError, private.NotPrivateError) as error:
        raise SettingsError(f"--data-dir {data_dir} can't be used: {error}") from error


class DirectoryLock:
    """Lock on a data directory, so that one server at a time uses it."""

    def __init__(self, directory: Path) -> None:
        try:
            private.make_folder(directory)
            self._fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except private.NotPrivateError as error:
            raise SettingsError(f"--data-dir {error}") from error
        except OSError as error:
            raise SettingsError(f"--data-dir {directory} can't be used: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise SettingsError(
                f"another server (pid {holder or 'unknown'}) uses the data directory {directory}: "
                "stop it, or give this one another --data-dir"
            ) from None
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._fd)
            raise SettingsError(
                f"--data-dir {directory} can't be written to: {error.strerror}. See to its disk and start again"
            ) from error

    def release(self) -> None:
        """Unlock the directory."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
