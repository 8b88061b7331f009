"""Interface for authors of work: `work_type`, `Job`, `Progress`. Usable in a notebook without the server.

A work type is a generator function. It receives a `Job` with its parameters and the last checkpoint (None the first
time) and yields a new checkpoint, with progress, at every safe point. Resuming is the only way to start::

    @work_type("count", params=Count)
    def count(job):
        for i in range((job.checkpoint or {"i": 0})["i"], job.params.to):
            yield Progress(done=i + 1, total=job.params.to, checkpoint={"i": i + 1})
        return {"counted": job.params.to}

`holdfast.work.testing` checks that such a function can be stopped and resumed anywhere.
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
"""Maximum size of a checkpoint as JSON, in bytes: it is written to the journal many times."""


class WorkError(Exception):
    """The work cannot continue. The message says why, for a person; it is displayed without a traceback."""


class Interrupted(BaseException):
    """Raised by `Job.interruptible` if its block was ended because the work has to stop. Do not catch it.

    A `BaseException`, so that an `except Exception` of the work does not catch it.
    """


class NoParams(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters of work types that take none."""


class Progress(msgspec.Struct):
    """Progress and checkpoint, which a work type yields at a safe point.

    `checkpoint` is small and JSON-like; a new call of the function with it continues from here. `done` and `total` are
    in the work's own unit (bytes, rows, files); `note` is one line for a person.
    """

    done: float | None = None
    total: float | None = None
    checkpoint: Any = None
    note: str = ""


class StagedFile(Protocol):
    """A file that is being written, not visible under its name until `publish`. It survives a crash, under its `key`.

    It is removed when its process succeeds, is cancelled or is deleted. A published file stays.
    """

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes. A resumed run does this first, to match its checkpoint."""
        ...

    def reserve(self, size: int) -> None:
        """Raise `WorkError` if there is no space for `size` more bytes beside what the server keeps free.

        For work that knows in advance how much it will write. `write` checks from time to time, too.
        """
        ...

    def write(self, data: bytes) -> int:
        """Append all of `data`. Raises `WorkError` if there is no space."""
        ...

    def sha256(self) -> str:
        """Return the SHA-256 of the bytes so far, as hex. It may have to read them again."""
        ...

    def publish(self) -> str:
        """Publish the file atomically and durably. Return its SHA-256 as hex."""
        ...

    def discard(self) -> None:
        """Remove the staged file, if there is one."""
        ...


class FilesForWork(Protocol):
    """Files of the server, for work: names, never paths."""

    def list(self, prefix: str = "") -> list[str]:
        """Return the names of all published files that start with `prefix`, sorted."""
        ...

    def size(self, name: str) -> int:
        """Return the size of a published file in bytes. Raises `FileNotFoundError`."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """Open a published file for reading, seekable. Raises `FileNotFoundError`."""
        ...

    def stage(self, name: str, key: str) -> StagedFile:
        """Return the staged file of this process under `key`, created if missing, to be published as `name`."""
        ...


class LeftAlive(Protocol):
    """Object that lives between two attempts of a process, such as a stopped program or an idle kernel."""

    def close(self) -> None:
        """End it. Called on any thread, when the process ends without taking it back, or when the server stops."""
        ...


class Services(Protocol):
    """Services of the server for work, behind the attributes of `Job`."""

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
    """One attempt of a process, for its work.

    `params` is an instance of the work type's struct; `checkpoint` is the last one that was yielded, None at first.
    `key` is a unique name, of 160 characters at most, for things that belong to this process alone: an `id` can be used
    again after its process was deleted, and by another server; a `key` can't. An async generator can't return a value:
    it sets `result` instead.
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
        """Reason to stop at the next yield, or None. A `finally` can distinguish pause from cancel by it."""
        return self._stopping()

    def log(self, message: str) -> None:
        """Write one line to the log of the process, which the server keeps and clients can read."""
        self._log(message)

    def when_killed(self, end: Callable[[], None]) -> None:
        """Set what the verb `kill` calls if the place of this attempt can't be killed, as a thread can't.

        `end` is called on another thread, maybe twice, and ends what the work waits for; the work should then raise.
        """
        self._when_killed(end)

    def interruptible(self, interrupt: Callable[[], object]) -> AbstractContextManager[None]:
        """Return a context manager whose block ends at once if the work has to stop, for long waits: `with
        job.interruptible(connection.interrupt): ...`.

        While the block runs, a pause, cancel, shutdown or kill calls `interrupt` on another thread, repeatedly until
        the block ends. The exception that this causes becomes `Interrupted`, which the work must not catch. A paused
        process continues from its last checkpoint, so the effects of the block must be rolled back, as those of a
        transaction are. Work that uses this can be killed in a thread. Not for async generators, where an await is
        cancelled, nor for rollbacks.

        Raises:
            Interrupted: the work has to stop; also at the begin of the block.
        """
        return self._interruptible(interrupt)

    def leave(self, thing: LeftAlive) -> None:
        """Keep an object alive for the next attempt of this process, for example over a pause.

        It is closed when the process ends without taking it back, and when the server (with `place="process"`: the OS
        process of the attempt) ends. So a checkpoint can't rely on it.
        """
        self._require_services().leave(self.id, thing)

    def take(self) -> LeftAlive | None:
        """Return the object that the last attempt left, which the caller then owns; None if there is none."""
        return self._require_services().take(self.id)

    @property
    def files(self) -> FilesForWork:
        """Files of the server: published ones to read, staged ones to write."""
        return self._require_services().files

    @property
    def http(self) -> httpx.Client:
        """HTTP client, shared with other work: do not close it."""
        return self._require_services().http

    def database(self, name: str = "default") -> Engine:
        """Return the SQLAlchemy engine of a database of the server. Raises `WorkError` for an unknown name."""
        return self._require_services().database(name)

    def setting(self, name: str) -> Any:
        """Return a server setting that work may read, by its field name."""
        return self._require_services().setting(name)

    def _require_services(self) -> Services:
        if self._services is None:
            raise WorkError("this job runs without a server: it has no files, databases or HTTP client")
        return self._services


SyncWork = Callable[[Job[Any]], Generator[Progress, None, Any]]
AsyncWork = Callable[[Job[Any]], AsyncGenerator[Progress, None]]
Rollback = Callable[[Job[Any]], Any]
Check = Callable[[Any, Callable[[str], Any]], None]


class WorkType(msgspec.Struct, eq=False):
    """A named generator function and how to run it. `@work_type` makes it."""

    name: str
    function: Callable[[Job[Any]], Any]
    params: type[Any]
    place: Literal["loop", "thread", "process"]
    checkpoint: type[Any] | None = None
    retries: int = 0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    limit: int | None = None
    rollback_function: Rollback | None = None
    check_function: Check | None = None

    @property
    def doc(self) -> str:
        """Docstring of the function, unindented."""
        return inspect.getdoc(self.function) or ""

    @property
    def undo(self) -> Rollback | None:
        """Older name of `rollback_function`."""
        return self.rollback_function

    @property
    def look_over(self) -> Check | None:
        """Older name of `check_function`."""
        return self.check_function

    @property
    def is_async(self) -> bool:
        """True for an async generator function: these run on the IOLoop, and nothing else does."""
        return self.place == "loop"

    def rollback(self, function: Rollback) -> Rollback:
        """Decorator for the rollback after a cancel. It gets a job with the last checkpoint, and may run twice.

        Raises `TypeError` for a generator function, and for an `async def` if the work itself is not async: a call of
        one would do nothing.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{self.name}: a rollback must be a plain function. Remove its yields")
        if inspect.iscoroutinefunction(function) and not self.is_async:
            raise TypeError(f"{self.name}: a rollback can only be async if the work is an async generator. Use `def`")
        self.rollback_function = function
        return function

    def check(self, function: Check) -> Check:
        """Decorator for a check of the parameters before a start, beyond their types.

        It gets the parameters and a function that reads a server setting by its field name, and raises `WorkError`,
        whose message says what is wrong and what to do. It must be quick and do no I/O.
        """
        self.check_function = function
        return function

    def __call__(self, job: Job[Any]) -> Any:
        """Call the function itself, for tests."""
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
        name: name of the work type; letters, digits, `.`, `_`, `-`.
        params: a msgspec struct; parameters are validated against it before the start.
        checkpoint: a type that checkpoints must convert to; a resume fails with a clear error if one does not.
        place: "thread" (default), "process" (CPU-bound, can be killed) or "loop" (async generators, their default).
        retries: how often a failed attempt is tried again from its last checkpoint, with exponential backoff.
        retry_on: exceptions after which a retry is made.
        limit: how many of this type run at once; None for only the limit of the server.

    Raises:
        TypeError: the function is not a generator function, or its place does not fit its kind.
    """

    def declare(function: Callable[[Job[Any]], Any]) -> WorkType:
        is_async = inspect.isasyncgenfunction(function)
        if not is_async and not inspect.isgeneratorfunction(function):
            raise TypeError(f"{name}: a work type must be a generator function. Yield a Progress at every safe point")
        where = place or ("loop" if is_async else "thread")
        if is_async != (where == "loop"):
            raise TypeError(f"{name}: async generators run on the loop, plain generators in a thread or process")
        return WorkType(name, function, params, where, checkpoint, retries, retry_on, limit)

    return declare
