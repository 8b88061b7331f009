"""Base of `Process` and `AsyncProcess`, and the calls of listings: everything that sends no request."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from holdfast import calls, wire
from holdfast._client import display
from holdfast._client.core import AnyCore
from holdfast._endpoints.call import Call
from holdfast.wire import State

Paths = list[Path]


class ProcessView:
    """A process in the state of the last response. The verbs and `refresh` update it."""

    def __init__(self, core: AnyCore, info: wire.ProcessInfo) -> None:
        self._core = core
        self._info = info

    @property
    def info(self) -> wire.ProcessInfo:
        """The whole response."""
        return self._info

    @property
    def id(self) -> str:
        """Id of the process."""
        return self._info.id

    @property
    def work_type(self) -> str:
        """Name of the work type."""
        return self._info.work_type

    @property
    def state(self) -> State:
        """State at the last response."""
        return self._info.state

    @property
    def progress(self) -> wire.ProgressInfo:
        """Progress, in the work type's own unit."""
        return self._info.progress

    @property
    def error(self) -> wire.ErrorInfo | None:
        """Error of a failed process, else None."""
        return self._info.error

    @property
    def has_ended(self) -> bool:
        """True for cancelled, failed and succeeded."""
        return self._info.has_ended

    async def watch(self) -> None:
        """Display the process in this cell until it has ended, for front ends that update only while a cell runs."""
        self._info = await display.current().watch(self._core, self._info)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return display.current().process(self._core, self._info)

    def __repr__(self) -> str:
        progress = self.progress
        share = f" {progress.done:g}/{progress.total:g}" if progress.done is not None and progress.total else ""
        return f"<{type(self).__name__} {self.id} ({self.work_type}) {self.state}{share}>"


def new_id(work_type: str) -> str:
    """Return a unique id that begins with the name of the work type."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', work_type)[:100] or 'process'}-{secrets.token_hex(6)}"


def states(names: Iterable[State | str] | State | str) -> list[State]:
    """Convert one or several names to states. Raises `ValueError` for an unknown one."""
    listed = [names] if isinstance(names, str) else names
    return [State(name) for name in listed]


class Which(TypedDict, total=False):
    """Filters of the bulk verbs, joined by "and"."""

    ids: Iterable[str]
    work_type: str
    state: Iterable[State | str] | State | str
    labels: Mapping[str, str]


def bulk(which: Which) -> wire.BulkRequest:
    """Return the filters as a request. Raises `TypeError` for an unknown one."""
    if unknown := which.keys() - Which.__annotations__.keys():
        raise TypeError(
            f"there is no filter {', '.join(sorted(unknown))}; there are {', '.join(Which.__annotations__)}"
        )
    return wire.BulkRequest(
        ids=list(which["ids"]) if "ids" in which else None,
        work_type=which.get("work_type"),
        state=states(which["state"]) if "state" in which else None,
        label=dict(which["labels"]) if "labels" in which else None,
    )


def listing(
    state: Iterable[State | str] | State | str | None,
    work_type: str | None,
    labels: Mapping[str, str] | None,
    page_size: int | None,
) -> Callable[[str | None], Call[wire.ProcessPage]]:
    """Return a function that makes the call for the page of processes at a cursor."""
    return lambda cursor: calls.list_processes(
        state=None if state is None else [str(name) for name in states(state)],
        work_type=work_type,
        label=_as_texts(labels),
        cursor=cursor,
        limit=page_size,
    )


def process_events(id: str, last: int | None) -> Call[wire.Event]:
    """Return the call for the events of one process after number `last`."""
    return calls.process_events(id, last_event_id=last)


def all_events(
    work_type: str | None, labels: Mapping[str, str] | None, ids: Iterable[str] | None
) -> Callable[[int | None], Call[wire.Event]]:
    """Return a function that makes the call for all events, or those that match the filters, after a number."""
    return lambda last: calls.all_events(
        work_type=work_type, label=_as_texts(labels), id=None if ids is None else list(ids), last_event_id=last
    )


def _as_texts(labels: Mapping[str, str] | None) -> list[str] | None:
    return [f"{name}={value}" for name, value in (labels or {}).items()] or None


_WHOLE_PAGE = 1000  # the maximum of the server: a client that wants a second page wants them all


def file_page(prefix: str, page_size: int | None, cursor: str | None) -> Call[wire.FilePage]:
    """Return the call for the page of files at a cursor."""
    return calls.list_files(prefix=prefix or None, cursor=cursor, limit=_page_size(page_size, cursor))


def level_page(folder: str, page_size: int | None, cursor: str | None) -> Call[wire.FilePage]:
    """Return the call for the page of a folder at a cursor."""
    prefix = folder if not folder or folder.endswith("/") else folder + "/"
    size = _page_size(page_size, cursor)
    return calls.list_files(prefix=prefix or None, delimiter="/", cursor=cursor, limit=size)


def _page_size(page_size: int | None, cursor: str | None) -> int | None:
    return page_size if page_size is not None or cursor is None else _WHOLE_PAGE


def upload_page(page_size: int | None, cursor: str | None) -> Call[wire.UploadPage]:
    """Return the call for the page of uploads at a cursor."""
    return calls.list_uploads(cursor=cursor, limit=page_size)
