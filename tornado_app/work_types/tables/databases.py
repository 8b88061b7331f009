"""Helpers for work types with a database: statements that can be interrupted, and errors as sentences."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, StatementError

from holdfast.work import Job, WorkError

_CANCELED = "57014"  # of PostgreSQL: query_canceled
_PATIENCE = 5.0  # seconds that a request to cancel a statement may take


@contextmanager
def interruptible(job: Job[Any], connection: Connection) -> Iterator[None]:
    """Interrupt what the connection executes in the block when a stop is requested. Raises `Interrupted`."""
    driver: Any = connection.connection.driver_connection
    with job.interruptible(_interrupt(connection, driver)):
        yield


def _interrupt(connection: Connection, driver: Any) -> Callable[[], object]:
    """Return a function that another thread calls to end the statement that runs on the connection, if any."""
    if hasattr(driver, "interrupt"):  # sqlite3
        return driver.interrupt  # type: ignore[no-any-return]
    if hasattr(driver, "cancel_safe"):  # psycopg since 3.2
        return functools.partial(driver.cancel_safe, timeout=_PATIENCE)
    if hasattr(driver, "cancel"):
        return driver.cancel  # type: ignore[no-any-return]
    if connection.dialect.name != "postgresql":
        return lambda: None
    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return functools.partial(_cancel_backend, connection.engine, pid)


def _cancel_backend(engine: Engine, pid: int) -> None:
    with engine.connect() as other:
        other.execute(text("SELECT pg_cancel_backend(:pid)"), {"pid": pid})


def was_canceled(error: StatementError) -> bool:
    """Return whether PostgreSQL ended the statement on request, or for its time limit."""
    return getattr(error.orig, "sqlstate", getattr(error.orig, "pgcode", None)) == _CANCELED


def is_disconnect(error: StatementError) -> bool:
    """Return whether the connection failed, and not the statement."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def sentence(error: StatementError) -> str:
    """Return the message of the database in one line, without the statement."""
    lines = [line.strip() for line in str(error.orig or error).splitlines()]
    return next((line for line in lines if line), type(error.orig or error).__name__)


@contextmanager
def as_sentence(doing: str) -> Iterator[None]:
    """Raise `WorkError` for what the database refuses in the block; `doing` begins its message.

    An error of the connection passes unchanged, because another attempt may succeed.
    """
    try:
        yield
    except StatementError as error:
        if is_disconnect(error):
            raise
        raise WorkError(f"{doing}: {sentence(error)}") from None
