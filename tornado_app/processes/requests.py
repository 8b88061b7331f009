"""Validation of requests to start a process: what the journal can't hold, or the engine can't keep, is refused."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from holdfast.wire import PROCESS_ID, StartRequest
from tornado_app import problems
from tornado_app.processes.executors.interface import Executor
from tornado_app.processes.journal.transitions import New
from tornado_app.processes.registry import Registry, validate
from tornado_app.processes.sent_code import check as check_code
from tornado_app.processes.sent_code import code

_MOST_LABELS = 64
_MOST_PARAMS = 64 << 10  # bytes as JSON: lists carry them
_MOST_RETRIES = 1_000_000
_LONGEST_DEADLINE = 100 * 366 * 86400.0
_PRIORITIES = range(-(1 << 31), 1 << 31)

_ID = re.compile(PROCESS_ID)


def validated(
    request: StartRequest,
    registry: Registry,
    executors: Mapping[str, Executor],
    setting: Callable[[str], Any],
    *,
    allow_code: bool,
    strict: bool,
) -> New:
    """Return what the row of a new process will hold. `setting` finds the defaults that parameters take from settings.

    Raises:
        ProblemError: BAD_PARAMETERS, UNKNOWN_WORK_TYPE, or why the executor can't be used.
    """
    id = request.id if request.id is not None else secrets.token_urlsafe(12)
    check_id(id)
    sent = check_code(request, allow_code) if request.code is not None else None
    work = registry.find(code.name if sent is not None else request.work_type)
    if sent is None and work is code:
        raise problems.BAD_PARAMETERS("the work type code needs the code itself, as a base64 pickle", field="code")
    place = request.place or work.place
    executor = executors.get(place)
    if executor is None:
        known = ", ".join(executors)
        raise problems.BAD_PARAMETERS(f"there is no place {place!r}; there are {known}", field="place")
    if executor.runs_async != work.is_async:
        kind = "an async generator" if work.is_async else "a plain generator"
        fits = ", ".join(name for name, each in executors.items() if each.runs_async == work.is_async)
        raise problems.BAD_PARAMETERS(
            f"{work.name} is {kind}, which does not run in place {place!r}. Use {fits}", field="place"
        )
    executor.check_usable()
    _check_options(request)
    params = validate(work, request.params, setting, strict=strict)
    size = len(msgspec.json.encode(params))
    if size > _MOST_PARAMS:
        raise problems.BAD_PARAMETERS(
            f"the parameters have {size} bytes as JSON, and {_MOST_PARAMS} are the most: put large values into a "
            "file, and give its name",
            field="params",
        )
    return New(
        id=id,
        work_type=work.name,
        params=params,
        place=place,
        priority=request.priority,
        labels=request.labels,
        retries=work.retries if request.retries is None else request.retries,
        deadline_s=request.deadline_s,
        code=sent,
    )


def _check_options(request: StartRequest) -> None:
    """Raise BAD_PARAMETERS for what the journal can't hold or the engine can't keep."""
    if request.priority not in _PRIORITIES:
        raise problems.BAD_PARAMETERS(
            f"priority is a whole number from {_PRIORITIES[0]} to {_PRIORITIES[-1]}, not {request.priority}",
            field="priority",
        )
    if request.retries is not None and not 0 <= request.retries <= _MOST_RETRIES:
        raise problems.BAD_PARAMETERS(f"retries is from 0 to {_MOST_RETRIES}, not {request.retries}", field="retries")
    if request.deadline_s is not None and not 0 < request.deadline_s <= _LONGEST_DEADLINE:
        raise problems.BAD_PARAMETERS(
            f"deadline_s is more than 0 seconds and less than a hundred years, not {request.deadline_s:g}",
            field="deadline_s",
        )
    if request.labels:
        check_labels(request.labels, "labels")


def check_labels(labels: Mapping[str, str], field: str) -> None:
    """Raise BAD_PARAMETERS for labels that are too many or too long."""
    if len(labels) > _MOST_LABELS:
        raise problems.BAD_PARAMETERS(f"give at most {_MOST_LABELS} labels, not {len(labels)}", field=field)
    for key, value in labels.items():
        if not (0 < len(key) <= 128 and len(value) <= 256):
            raise problems.BAD_PARAMETERS("a label's key has 1 to 128 characters, its value at most 256", field=field)


def check_user_id(id: str) -> None:
    """Raise BAD_PARAMETERS for what can't be an id with the folder of its user in front, as the journal has it."""
    check_id(id.partition("/")[2])


def check_id(id: str) -> None:
    """Raise BAD_PARAMETERS for what can't be the id of a process."""
    if not _ID.fullmatch(id):
        raise problems.BAD_PARAMETERS(
            "a process id is 1 to 128 of letters, digits, '.', '_', '-', but neither '.' nor '..'", field="id"
        )
