"""Work context: the files, databases, HTTP client and settings that an executor gives to the work that it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from holdfast.work import FilesForWork, LeftAlive, Services, WorkError
from tornado_app.settings import Settings, SettingsError

if TYPE_CHECKING:
    import httpx

_AT_ONCE = 16
_SECRET = ("token", "token_file", "metrics_token")


class WorkspaceSource(FilesForWork, Protocol):
    """Files of which each process gets its own view.

    Pickled, it is a description that a child process opens for itself; see `description`.
    """

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the modules that a child process needs to open the files."""
        ...

    def description(self) -> object:
        """Return the picklable description. Raises BAD_PARAMETERS when no other process can open the files."""
        ...

    def of(self, owner: str) -> WorkspaceSource:
        """Return the view of one process. `owner` is unique to the process in every journal."""
        ...

    def owners(self) -> set[str]:
        """Return the owners of staged files. Blocks."""
        ...

    def drop(self, owners: Collection[str]) -> None:
        """Remove the staged files of those owners. Blocks."""
        ...


@dataclass(frozen=True)
class WorkSettings:
    """Settings that work may read. Can be pickled, and holds no token of the server."""

    values: Mapping[str, Any]
    databases: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings) -> WorkSettings:
        """Return the part of the server's settings that work may read."""
        values = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in _SECRET}
        return cls({**values, "databases": settings.databases}, settings.databases)


class UserWork(NamedTuple):
    """Settings and files that the work of one user gets, where users are kept apart."""

    settings: WorkSettings
    files: WorkspaceSource


class WorkContext:
    """Services that the attempts of one executor share; each is made at its first use."""

    def __init__(
        self, settings: WorkSettings, files: WorkspaceSource, for_user: Callable[[str], UserWork] | None = None
    ) -> None:
        """`for_user` returns what the work of a user gets, by the user's folder, in place of `settings` and `files`."""
        self.files = files
        self._settings = settings
        self._for_user = for_user
        self._lock = threading.Lock()
        self._engines: dict[str, sqlalchemy.Engine] = {}
        self._http: httpx.Client | None = None
        self._alive: dict[str, LeftAlive] = {}

    def for_attempt(self, owner: str, user: str = "") -> Services:
        """Return the context of one process; `user` is the folder of whom it belongs to, "" where all share one."""
        if not user or self._for_user is None:
            return _AttemptContext(self, owner, user, UserWork(self._settings, self.files))
        return _AttemptContext(self, owner, user, self._for_user(user))

    @property
    def http(self) -> httpx.Client:
        """HTTP client that all attempts share; it is thread-safe."""
        with self._lock:
            if self._http is None or self._http.is_closed:  # work may have closed it by mistake
                import httpx  # takes a third of a second, and most work needs none

                self._http = httpx.Client(timeout=30.0)
            return self._http

    def database(self, name: str, settings: WorkSettings | None = None) -> sqlalchemy.Engine:
        """Return the engine of a database that the settings name. Raises `WorkError` for another name."""
        urls = (settings or self._settings).databases
        if name not in urls:
            raise WorkError(f"there is no database {name!r}; the server has {', '.join(sorted(urls))}")
        with self._lock:
            url = urls[name]
            if url not in self._engines:
                self._engines[url] = _engine(url)
            return self._engines[url]

    def setting(self, name: str, settings: WorkSettings | None = None) -> Any:
        """Return a server setting by its field name. Raises `WorkError` for a token, and for an unknown name."""
        values = (settings or self._settings).values
        if name in _SECRET:
            raise WorkError(f"the setting {name!r} is not for work")
        if name not in values:
            raise WorkError(f"the server has no setting {name!r}. Use the name of a field of its settings")
        return values[name]

    def leave(self, id: str, thing: LeftAlive) -> None:
        """Keep `thing` for the next attempt of the process; close what was kept before."""
        with self._lock:
            before = self._alive.pop(id, None)
            self._alive[id] = thing
        if before is not None:
            before.close()

    def take(self, id: str) -> LeftAlive | None:
        """Remove and return what was kept for the process, or None."""
        with self._lock:
            return self._alive.pop(id, None)

    def keeps(self, id: str) -> bool:
        """Return whether something is kept for the process."""
        return id in self._alive

    @property
    def keeps_any(self) -> bool:
        """Return whether something is kept for any process, such as the kernel of a paused one."""
        return bool(self._alive)

    def forget(self, id: str) -> None:
        """Close what was kept for a process that has ended. Blocks as long as that takes."""
        thing = self.take(id)
        if thing is not None:
            thing.close()

    def close(self) -> None:
        """Close connections, and what was kept for processes."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="close") as pool:  # each may take seconds
            list(pool.map(self.forget, list(self._alive)))
        with self._lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()
            if self._http is not None:
                self._http.close()
                self._http = None


class _AttemptContext:
    """Context of one process: its own view of the files, and the services that all share."""

    def __init__(self, shared: WorkContext, owner: str, user: str, work: UserWork) -> None:
        self._shared = shared
        self._owner = owner
        self._prefix = f"{user}/" if user else ""
        self._work = work
        self._files: FilesForWork | None = None

    @property
    def files(self) -> FilesForWork:
        if self._files is None:  # much work needs none
            self._files = self._work.files.of(self._owner)
        return self._files

    def database(self, name: str) -> sqlalchemy.Engine:
        return self._shared.database(name, self._work.settings)

    def setting(self, name: str) -> Any:
        return self._shared.setting(name, self._work.settings)

    def leave(self, id: str, thing: LeftAlive) -> None:
        self._shared.leave(self._prefix + id, thing)

    def take(self, id: str) -> LeftAlive | None:
        return self._shared.take(self._prefix + id)

    @property
    def http(self) -> httpx.Client:
        return self._shared.http


def check_databases(settings: Settings) -> None:
    """Raise `SettingsError` for a database URL that is not valid. Connects to nothing, and shows no URL."""
    for name, url in settings.database.items():
        try:
            sqlalchemy.create_engine(url).dispose()
        except (ImportError, NoSuchModuleError) as error:
            raise SettingsError(f"--database {name}: its driver is not installed: {error}") from None
        except (SQLAlchemyError, ValueError):
            raise SettingsError(
                f"--database {name}: it is no SQLAlchemy URL. Give one such as postgresql+psycopg://user@host/name"
            ) from None


def _engine(url: str) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def on_connect(connection: Any, record: object) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")  # readers and other imports do not wait for a writer
            cursor.execute("PRAGMA synchronous=NORMAL")
            cursor.execute("PRAGMA busy_timeout=30000")
            cursor.close()

    return engine
