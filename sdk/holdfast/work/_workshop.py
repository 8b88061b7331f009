"""Services of the test kit for work, in place of those of a server."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from holdfast.work import LeftAlive

if TYPE_CHECKING:
    import httpx
    from sqlalchemy import Engine


class Workshop:
    """Services for work without a server: files in memory, SQLite in a folder, an HTTP client, settings.

    It is the `Services` of the job. `check` makes one; use it as a context manager if you make one yourself.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="holdfast-work-")
        self.folder = Path(self._temporary.name)
        self.files = MemoryFiles()
        self.log: list[str] = []
        self._settings: dict[str, Any] = {
            "files_dir": self.folder,
            "data_dir": self.folder,
            "max_field_size": 64 << 20,
            "databases": {"default": f"sqlite:///{self.folder}/default.sqlite"},
            **(settings or {}),
        }
        self._engines: dict[str, Engine] = {}
        self._http: httpx.Client | None = None
        self._alive: dict[str, LeftAlive] = {}

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def http(self) -> httpx.Client:
        """See `Job.http`."""
        if self._http is None:
            from holdfast._http import plain_client  # it loads certificates, so only if it is needed

            self._http = plain_client()
        return self._http

    def database(self, name: str = "default") -> Engine:
        """See `Job.database`: here any name is a SQLite file of its own."""
        if name not in self._engines:
            import sqlalchemy  # an extra, which work without databases does not need

            self._engines[name] = sqlalchemy.create_engine(f"sqlite:///{self.folder / name}.sqlite")
        return self._engines[name]

    def setting(self, name: str) -> Any:
        """See `Job.setting`."""
        if name not in self._settings:
            raise AttributeError(
                f"the work reads the setting {name!r}. Pass it: check(..., settings={{{name!r}: ...}})"
            )
        return self._settings[name]

    def leave(self, id: str, thing: LeftAlive) -> None:
        """See `Job.leave`."""
        self._alive[id] = thing

    def take(self, id: str) -> LeftAlive | None:
        """See `Job.take`."""
        return self._alive.pop(id, None)

    def contents(self) -> dict[str, Any]:
        """Return published files, staged files that are not published, and the rows of every table that has any."""
        found: dict[str, Any] = {f"file {name}": self.files.read(name) for name in self.files.list()}
        found |= {f"staged {key}": data for key, data in self.files.unpublished()}
        for path in sorted(self.folder.glob("*.sqlite")):
            found |= {f"table {path.stem}.{table}": rows for table, rows in self._rows(path.stem)}
        return found

    def _rows(self, name: str) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
        import sqlalchemy

        with self.database(name).connect() as connection:
            for table in sorted(sqlalchemy.inspect(connection).get_table_names()):
                query = sqlalchemy.select(sqlalchemy.text("*")).select_from(sqlalchemy.table(table))
                rows = sorted((tuple(row) for row in connection.execute(query)), key=repr)
                if rows:
                    yield table, rows

    def lose(self) -> None:
        """Close everything that was left alive, which a killed server loses."""
        for id in list(self._alive):
            self._alive.pop(id).close()

    def close(self) -> None:
        """Close connections and everything that was left alive, and remove the folder."""
        self.lose()
        for engine in self._engines.values():
            engine.dispose()
        if self._http is not None:
            self._http.close()
        self._temporary.cleanup()


class MemoryFiles:
    """`FilesForWork` in memory."""

    def __init__(self) -> None:
        self._published: dict[str, bytes] = {}
        self._staged: dict[str, _MemoryStaged] = {}

    def put(self, name: str, data: bytes) -> None:
        """Publish a file, as an upload would."""
        self._published[name] = data

    def read(self, name: str) -> bytes:
        """Return the content of a published file. Raises `FileNotFoundError`."""
        if name not in self._published:
            raise FileNotFoundError(f"there is no file {name!r}")
        return self._published[name]

    def list(self, prefix: str = "") -> list[str]:
        """See `FilesForWork`."""
        return sorted(name for name in self._published if name.startswith(prefix))

    def size(self, name: str) -> int:
        """See `FilesForWork`."""
        return len(self.read(name))

    def open(self, name: str) -> IO[bytes]:
        """See `FilesForWork`."""
        return io.BytesIO(self.read(name))

    def stage(self, name: str, key: str) -> _MemoryStaged:
        """See `FilesForWork`."""
        staged = self._staged.get(key)
        if staged is None:
            staged = self._staged[key] = _MemoryStaged(self, key)
        staged.name = name
        return staged

    def unpublished(self) -> Iterator[tuple[str, bytes]]:
        """Iterate over the staged files that have bytes, by key."""
        for key, staged in sorted(self._staged.items()):
            if staged.data and not staged.published:
                yield key, bytes(staged.data)

    def drop(self, key: str) -> None:
        """Remove the staged file under `key`."""
        self._staged.pop(key, None)


class _MemoryStaged:
    """`StagedFile` in memory. It stays as it is after `publish`, so that another `publish` does no harm."""

    def __init__(self, files: MemoryFiles, key: str) -> None:
        self._files = files
        self._key = key
        self.name = ""
        self.data = bytearray()
        self.published = False

    def tell(self) -> int:
        return len(self.data)

    def truncate(self, size: int) -> None:
        if size > len(self.data):
            raise ValueError(f"can't cut {len(self.data)} bytes to {size}")
        if size < len(self.data):
            self.published = False
            del self.data[size:]

    def reserve(self, size: int) -> None:
        pass

    def write(self, data: bytes) -> int:
        self.published = False
        self.data += data
        return len(data)

    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def publish(self) -> str:
        self.published = True
        self._files.put(self.name, bytes(self.data))
        return self.sha256()

    def discard(self) -> None:
        self.data.clear()
        self._files.drop(self._key)
