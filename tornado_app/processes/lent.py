"""What a place lends to the work that runs in it: files, databases, an HTTP client, settings."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import sqlalchemy
from sqlalchemy import event

from holdfast.work import FilesForWork, WorkError
from tornado_app.settings import Settings


class LentServices:
    """Shared by the attempts of one place; everything is made when first asked for."""

    def __init__(self, settings: Settings, files: FilesForWork) -> None:
        self.files = files
        self._settings = settings
        self._lock = threading.Lock()
        self._engines: dict[str, sqlalchemy.Engine] = {}
        self._http: httpx.Client | None = None

    @property
    def http(self) -> httpx.Client:
        """One client for all: it is safe to share between threads."""
        with self._lock:
            if self._http is None:
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

    def close(self) -> None:
        """Let go of connections."""
        with self._lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()
            if self._http is not None:
                self._http.close()
                self._http = None


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
