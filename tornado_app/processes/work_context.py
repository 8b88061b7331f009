"""What a place lends to the work that runs in it: files, databases, an HTTP client, settings."""

from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from holdfast.work import FilesForWork, LeftAlive, Services, WorkError
from tornado_app.settings import Settings, SettingsError

if TYPE_CHECKING:
    import httpx

_AT_ONCE = 16


class WorkspaceSource(FilesForWork, Protocol):
    """Files of which each process gets a view: what it stages is its own.

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
        """The same files for a process. `owner` stands for it alone, in every journal."""
        ...

    def owners(self) -> set[str]:
        """Those who have staged something. Blocks."""
        ...

    def drop(self, owners: Collection[str]) -> None:
        """Remove what those processes have staged. Blocks."""
        ...


class WorkContext:
    """Shared by the attempts of one place; everything is made when first asked for."""

    def __init__(self, settings: Settings, files: WorkspaceSource) -> None:
        self.files = files
        self._settings = settings
        self._lock = threading.Lock()
        self._engines: dict[str, sqlalchemy.Engine] = {}
        self._http: httpx.Client | None = None
        self._alive: dict[str, LeftAlive] = {}

    def to(self, owner: str) -> Services:
        """What one process gets."""
        return _AttemptContext(self, self.files.of(owner))

    @property
    def http(self) -> httpx.Client:
        """One client for all: it is safe to share between threads."""
        with self._lock:
            if self._http is None or self._http.is_closed:  # work may have closed it, as one does with a client
                import httpx  # takes a third of a second, and most work needs none

                self._http = httpx.Client(timeout=30.0)
            return self._http

    def database(self, name: str) -> sqlalchemy.Engine:
        """The engine of a database that the settings name. Raises `WorkError` for another name."""
        with self._lock:
            if name not in self._engines:
                urls = self._settings.databases
                if name not in urls:
                    raise WorkError(f"there is no database {name!r}; the server has {', '.join(sorted(urls))}")
                self._engines[name] = _engine(urls[name])
            return self._engines[name]

    def setting(self, name: str) -> Any:
        """A server setting by its field name; secrets are not lent."""
        if name in ("token", "token_file"):
            raise WorkError(f"the setting {name!r} is not for work")
        return getattr(self._settings, name)

    def leave(self, id: str, thing: LeftAlive) -> None:
        """Keep `thing` for the next attempt of that process."""
        with self._lock:
            before = self._alive.pop(id, None)
            self._alive[id] = thing
        if before is not None:
            before.close()

    def take(self, id: str) -> LeftAlive | None:
        """What was left for that process, or None."""
        with self._lock:
            return self._alive.pop(id, None)

    def keeps(self, id: str) -> bool:
        """Whether something was left for that process."""
        return id in self._alive

    def forget(self, id: str) -> None:
        """That process has ended: close what was left for it. May take as long as that takes."""
        thing = self.take(id)
        if thing is not None:
            thing.close()

    def close(self) -> None:
        """Let go of connections, and of what was left alive."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="close") as pool:  # each may need its time to end
            list(pool.map(self.forget, list(self._alive)))
        with self._lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()
            if self._http is not None:
                self._http.close()
                self._http = None


class _AttemptContext:
    """The same services for all, and files that are one process's."""

    def __init__(self, services: WorkContext, files: FilesForWork) -> None:
        self._services = services
        self.files = files
        self.database = services.database
        self.setting = services.setting
        self.leave = services.leave
        self.take = services.take

    @property
    def http(self) -> httpx.Client:
        return self._services.http


def check_databases(settings: Settings) -> None:
    """Raises `SettingsError` for a URL that no engine can be made of. Nothing is connected to, and no URL is told."""
    for name, url in settings.database.items():
        try:
            sqlalchemy.create_engine(url).dispose()
        except (ImportError, NoSuchModuleError) as error:
            raise SettingsError(f"--database {name}: its driver is not installed: {error}") from None
        except (SQLAlchemyError, ValueError):
            raise SettingsError(
                f"--database {name}: it is no SQLAlchemy URL, such as postgresql+psycopg://user@host/name"
            ) from None


def _engine(url: str) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def on_connect(connection: Any, record: object) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")  # readers and other imports need not wait for a writer
            cursor.execute("PRAGMA synchronous=NORMAL")
            cursor.execute("PRAGMA busy_timeout=30000")
            cursor.close()

    return engine
