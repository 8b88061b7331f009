"""What authors of work import: `work_type`, `Job`, `Progress`. Usable in a notebook without the server.

A work type is a generator function. It gets a `Job` with its parameters and the last checkpoint (None the first time)
and yields a new checkpoint, with progress, at every safe point. Resuming is the only way to start::

    @work_type("count", params=Count)
    def count(job):
        for i in range((job.checkpoint or {"i": 0})["i"], job.params.to):
            yield Progress(done=i + 1, total=job.params.to, checkpoint={"i": i + 1})
        return {"counted": job.params.to}

`holdfast.work.testing` holds such a function to its promises.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from typing import IO, TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import msgspec

if TYPE_CHECKING:
    import httpx
    from sqlalchemy import Engine

__all__ = [
    "MAX_CHECKPOINT",
    "FilesForWork",
    "Interrupted",
    "Job",
    "LeftAlive",
    "NoParams",
    "Progress",
    "Services",
    "StagedFile",
    "Stopping",
    "WorkError",
    "WorkType",
    "work_type",
]

Stopping = Literal["pause", "cancel", "shutdown"]

MAX_CHECKPOINT = 256 * 1024
"""Most bytes of a checkpoint as JSON: it is written to the journal many times."""


class WorkError(Exception):
    """The work cannot go on and the message says why, for a person: shown as it is, without a traceback."""


class Interrupted(BaseException):
    """Raised by `Job.interruptible` when its block was ended because the work is to stop. Let it pass.

    A `BaseException`, so that an `except Exception` of the work does not swallow it.
    """


class NoParams(msgspec.Struct, forbid_unknown_fields=True):
    """For work types that take no parameters."""


class Progress(msgspec.Struct):
    """What a work type yields at a safe point.

    `checkpoint` is small and JSON-like: calling the function again with it goes on from here. `done` and `total` are
    in the work's own unit (bytes, rows, files); `note` is one line for a person.
    """

    done: float | None = None
    total: float | None = None
    checkpoint: Any = None
    note: str = ""


class StagedFile(Protocol):
    """A file in the making, invisible under its name until `publish`. Survives a crash under its `key`.

    It goes when its process has succeeded, was cancelled, or is forgotten; what was published stays.
    """

    def tell(self) -> int:
        """Bytes that are there."""
        ...

    def truncate(self, size: int) -> None:
        """Cut back to `size` bytes: what a resumed run does first, to stand where its checkpoint stands."""
        ...

    def reserve(self, size: int) -> None:
        """Raise `WorkError` when there is no room for `size` more bytes beside what the server keeps free.

        For work that knows in advance how much it will write; `write` looks now and then as well.
        """
        ...

    def write(self, data: bytes) -> int:
        """Append `data`; all of it is written when this returns. Raises `WorkError` when there is no room."""
        ...

    def sha256(self) -> str:
        """The SHA-256 of the bytes that are there, as hex. They may have to be read again."""
        ...

    def publish(self) -> str:
        """Digest, fsync and rename into place in one step; the SHA-256 as hex."""
        ...

    def discard(self) -> None:
        """Remove what was staged. Nothing happens when there is nothing."""
        ...


class FilesForWork(Protocol):
    """The files service as work sees it: names, never paths."""

    def list(self, prefix: str = "") -> list[str]:
        """Names of all published files that start with `prefix`, sorted."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a published file. Raises `FileNotFoundError`."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """A published file for reading, seekable. Raises `FileNotFoundError`."""
        ...

    def stage(self, name: str, key: str) -> StagedFile:
        """The file that this process stages under `key` (made when missing), to be published as `name`."""
        ...


class LeftAlive(Protocol):
    """What lives on between two attempts of a process: a program that is stopped, a kernel that waits."""

    def close(self) -> None:
        """End it. Called from any thread, when the process has ended without taking it back, or the server ends."""
        ...


class Services(Protocol):
    """What a place lends to the work that runs in it."""

    @property
    def files(self) -> FilesForWork: ...

    @property
    def http(self) -> httpx.Client: ...

    def database(self, name: str) -> Engine: ...

    def setting(self, name: str) -> Any: ...

    def leave(self, id: str, thing: LeftAlive) -> None: ...

    def take(self, id: str) -> LeftAlive | None: ...


P = TypeVar("P")


class Job(Generic[P]):
    """One attempt of a process, as its work sees it.

    `params` is an instance of the work type's struct; `checkpoint` is what the last attempt yielded, None at first.
    `key` is what to mark things by that must be this process's alone, 160 characters at most: an `id` can be used again
    once its process is forgotten, and by another server; a `key` never is. An async generator can't return a value: it
    sets `result` instead.
    """

    __slots__ = (
        "_interruptible", "_log", "_services", "_stopping", "_when_killed",
        "attempt", "checkpoint", "id", "key", "params", "result",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        params: P,
        checkpoint: Any = None,
        *,
        attempt: int = 1,
        serial: str = "0",
        log: Callable[[str], None] = lambda message: None,
        stopping: Callable[[], Stopping | None] = lambda: None,
        when_killed: Callable[[Callable[[], None]], None] = lambda end: None,
        interruptible: Callable[[Callable[[], object]], AbstractContextManager[None]] = lambda interrupt: nullcontext(),
        services: Services | None = None,
    ) -> None:
        self.id = id
        self.params = params
        self.checkpoint = checkpoint
        self.attempt = attempt
        self.key = f"{id}#{serial}"
        self.result: Any = None
        self._log = log
        self._stopping = stopping
        self._when_killed = when_killed
        self._interruptible = interruptible
        self._services = services

    @property
    def stopping(self) -> Stopping | None:
        """Why the work is asked to stop at its next yield, or None. A `finally` can tell pause from cancel by it."""
        return self._stopping()

    def log(self, message: str) -> None:
        """Write one line to the process's log, kept by the server and shown to whoever watches."""
        self._log(message)

    def when_killed(self, end: Callable[[], None]) -> None:
        """Name what the verb `kill` does to this attempt where its place can't end it, as a thread can't.

        `end` is called in another thread, perhaps twice, and ends what the work waits for; the work should then raise.
        """
        self._when_killed(end)

    def interruptible(self, interrupt: Callable[[], object]) -> AbstractContextManager[None]:
        """A block that ends at once when the work is asked to stop, for waits that may be long: `with
        job.interruptible(connection.interrupt): ...`.

        While the block runs, a pause, cancel, shutdown or kill calls `interrupt` in another thread, and again until the
        block is left; the exception that this causes becomes `Interrupted`, which the work lets pass. A paused process
        goes on from its last checkpoint, so what the block has done must be undone, as a transaction is. Work that uses
        this can be killed in a thread. Not for async generators, where an await is cancelled, nor for rollbacks.

        Raises:
            Interrupted: the work is to stop; also on entering.
        """
        return self._interruptible(interrupt)

    def leave(self, thing: LeftAlive) -> None:
        """Leave something alive for the next attempt of this process, as a paused one does.

        It is closed when the process ends without taking it back, and with the server (or the OS process of the
        attempt, with `place="process"`); so a checkpoint can't count on it.
        """
        self._lent().leave(self.id, thing)

    def take(self) -> LeftAlive | None:
        """What the last attempt left, now the caller's again; None when it left nothing, or when that is gone."""
        return self._lent().take(self.id)

    @property
    def files(self) -> FilesForWork:
        """Published files to read, and staged ones to write."""
        return self._lent().files

    @property
    def http(self) -> httpx.Client:
        """An HTTP client, which other work uses as well: leave it open."""
        return self._lent().http

    def database(self, name: str = "default") -> Engine:
        """The SQLAlchemy engine of a database that the server's settings name. Raises `WorkError` for another name."""
        return self._lent().database(name)

    def setting(self, name: str) -> Any:
        """A server setting that work may depend on, by its field name in the server's settings."""
        return self._lent().setting(name)

    def _lent(self) -> Services:
        if self._services is None:
            raise WorkError("this job runs without a server: it has no files, databases or HTTP client")
        return self._services


SyncWork = Callable[[Job[Any]], Generator[Progress, None, Any]]
AsyncWork = Callable[[Job[Any]], AsyncGenerator[Progress, None]]
Rollback = Callable[[Job[Any]], Any]
Check = Callable[[Any, Callable[[str], Any]], None]


class WorkType(msgspec.Struct, eq=False):
    """A named generator function and what the engine must know about it. Made by `@work_type`."""

    name: str
    function: Callable[[Job[Any]], Any]
    params: type[Any]
    place: Literal["loop", "thread", "process"]
    checkpoint: type[Any] | None = None
    retries: int = 0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    limit: int | None = None
    undo: Rollback | None = None
    look_over: Check | None = None

    @property
    def doc(self) -> str:
        """The function's docstring, unindented."""
        return inspect.getdoc(self.function) or ""

    @property
    def is_async(self) -> bool:
        """True for an async generator function: these run on the IOLoop, and nothing else does."""
        return self.place == "loop"

    def rollback(self, function: Rollback) -> Rollback:
        """Decorator: what undoes this work when it is cancelled. Gets a job with the last checkpoint; may run twice.

        Raises `TypeError` for a generator function, and for an `async def` where the work itself is not async: calling
        one would do nothing.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{self.name}: a rollback is a plain function, it does not yield")
        if inspect.iscoroutinefunction(function) and not self.is_async:
            raise TypeError(f"{self.name}: a rollback can only be async where the work is an async generator")
        self.undo = function
        return function

    def check(self, function: Check) -> Check:
        """Decorator: what refuses parameters before anything starts, where their types alone can't.

        Gets the parameters and a function that reads a server setting by its field name; raises `WorkError` with what
        was wrong and what would be right. It is quick and does no I/O.
        """
        self.look_over = function
        return function

    def __call__(self, job: Job[Any]) -> Any:
        """Call the function itself, as a test would."""
        return self.function(job)


def work_type(
    name: str,
    *,
    params: type[Any] = NoParams,
    checkpoint: type[Any] | None = None,
    place: Literal["loop", "thread", "process"] | None = None,
    retries: int = 0,
    retry_on: tuple[type[BaseException], ...] = (Exception,),
    limit: int | None = None,
) -> Callable[[Callable[[Job[Any]], Any]], WorkType]:
    """Declare a generator function as a work type.

    Args:
        name: what callers start it by; letters, digits, `.`, `_`, `-`.
        params: a msgspec struct; parameters are validated against it before anything starts.
        checkpoint: a type that checkpoints must convert to; one that no longer fits fails clearly on resume.
        place: "thread" (default), "process" (CPU-bound, can be killed) or "loop" (async generators, their default).
        retries: how often a failed attempt is tried again from its last checkpoint, with exponential backoff.
        retry_on: the exceptions worth a retry.
        limit: how many of this type run at once; None is only the server's own limit.

    Raises:
        TypeError: the function is not a generator function, or its place does not fit its kind.
    """

    def declare(function: Callable[[Job[Any]], Any]) -> WorkType:
        is_async = inspect.isasyncgenfunction(function)
        if not is_async and not inspect.isgeneratorfunction(function):
            raise TypeError(f"{name}: a work type is a generator function; yield a Progress at every safe point")
        where = place or ("loop" if is_async else "thread")
        if is_async != (where == "loop"):
            raise TypeError(f"{name}: async generators run on the loop, plain generators in a thread or process")
        return WorkType(name, function, params, where, checkpoint, retries, retry_on, limit)

    return declare
