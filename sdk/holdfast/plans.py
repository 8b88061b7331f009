"""Resumable loops as generators of effects. Nothing here does I/O: a driver of `_http` carries out the effects.

A plan yields an effect, receives its result or its exception, and returns a result of its own. So each loop is written
once for sync and async code, and is tested without a socket.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from holdfast import calls, digests, wire
from holdfast._endpoints.call import Call, CallResponse
from holdfast._endpoints.sse import EventStreamParser, ServerSent
from holdfast._plans.effects import (
    Close,
    Do,
    Effect,
    Emit,
    Open,
    Plan,
    Read,
    Sleep,
    Stop,
    Stopped,
    Stream,
    T,
    Together,
    ensured,
)
from holdfast._plans.python_terms import in_python
from holdfast._plans.retries import NOT_CARRIED_OUT, PERMANENT, PERSISTENT, Backoff, Retries, may_repeat
from holdfast.errors import (
    APIError,
    BadRequest,
    ConnectionBroken,
    DigestMismatch,
    HoldfastError,
    IllegalState,
    NotFound,
    PreconditionFailed,
    ProcessCancelled,
    ProcessFailed,
    ProtocolError,
    TransportError,
    WaitTimeout,
    retry_after,
)
from holdfast.wire import ENDED, State

__all__ = [
    "PERSISTENT",
    "Backoff",
    "Close",
    "Do",
    "Effect",
    "Emit",
    "Open",
    "Plan",
    "Read",
    "Retries",
    "Sleep",
    "Stop",
    "Stopped",
    "Stream",
    "T",
    "Together",
    "ensured",
    "events",
    "forget",
    "head",
    "info",
    "levels",
    "log",
    "may_repeat",
    "pages",
    "put",
    "read",
    "request",
    "result_of",
    "verb",
    "wait",
]

# Older names.
STUBBORN = PERSISTENT
REFUSED_FOR_NOW = NOT_CARRIED_OUT
NEVER = PERMANENT

MOST_CHANGED = 4  # times that content may arrive changed
LONG_POLL = 30.0  # seconds that one request waits; well under the idle limits of common proxies (60 s)


def request(call: Call[T], retries: Retries) -> Plan[T]:
    """Send one call, repeated as the policy allows."""
    backoff = Backoff(retries)
    while True:
        try:
            answer: T = yield call
            return answer
        except (TransportError, APIError) as error:
            wait = backoff.after(error, call.repeatable)
        yield wait


def forget(call: Call[T], retries: Retries) -> Plan[T | None]:
    """Delete something; return None if an attempt whose response was lost has done it. Raises `NotFound`."""
    backoff = Backoff(retries)
    while True:
        try:
            answer: T = yield call
            return answer
        except NotFound:
            if not backoff.failures:
                raise
            return None
        except (TransportError, APIError) as error:
            wait = backoff.after(error, repeatable=True)
        yield wait


def head(name: str, retries: Retries) -> Plan[calls.FileHead]:
    """Read the headers of a file. Raises `NotFound`, with a detail, which the response to a HEAD lacks."""
    return (yield from _found(name, calls.head_file(name), retries))


def _found(name: str, call: Call[T], retries: Retries) -> Plan[T]:
    try:
        found: T = yield from request(call, retries)
    except NotFound as error:
        if error.detail:
            raise
        raise NotFound(404, "No such file", f"there is no file {name!r}", "/problems/no-such-file") from None
    return found


def info(name: str, retries: Retries, *, sha256: bool = False) -> Plan[wire.FileInfo]:
    """Read the `FileInfo` of a file; with `sha256`, ask until that digest is known. Raises `NotFound`."""
    if not sha256:
        return (yield from head(name, retries)).info(name)
    headers: Call[Any] = calls.head_file(name, sha256=True)
    call: Call[tuple[calls.FileHead, float | None]] = replace(headers, read=_head_and_pause)
    while True:
        found, pause = yield from _found(name, call, retries)
        if found.sha256 is not None or pause is None:
            return found.info(name)
        yield Sleep(min(pause, LONG_POLL))


def _head_and_pause(answer: CallResponse) -> tuple[calls.FileHead, float | None]:
    """Return the headers of a file, and in how many seconds its digest may be there; None if it is not being made."""
    return calls.file_head(answer), retry_after(answer.headers.get("retry-after"))


def read(name: str, begin: int, end: int | None, etag: str | None, retries: Retries) -> Plan[bytes]:
    """Read the bytes of a file from `begin` up to, not including, `end`; b"" if that is not after `begin`.

    Raises:
        ValueError: `begin` is negative.
        ProtocolError: the response has other bytes.
    """
    if begin < 0:
        raise ValueError(f"begin is {begin}. It must be 0 or more")
    if end is not None and end <= begin:
        return b""  # HTTP has no such range
    whole = begin == 0 and end is None
    call = calls.get_file(name, begin=None if whole else begin, end=end, etag=etag)
    data: bytes = yield from request(call if whole else replace(call, read=partial(_from, begin)), retries)
    return data


def _from(begin: int, answer: CallResponse) -> bytes:
    if answer.status != 206 or calls.content_range(answer)[0] != begin:
        raise ProtocolError(f"asked for bytes from {begin} on, and got others. A proxy on the way ignores Range")
    return answer.body


def put(name: str, data: bytes, etag: str | None, absent: bool, retries: Retries) -> Plan[wire.FileInfo]:
    """Publish a file in one request. If a response was lost, the precondition may fail because of this same file.

    Raises:
        TypeError: `data` is text, or otherwise not bytes.
        DigestMismatch: the bytes arrived changed, several times.
    """
    data = data if isinstance(data, bytes) else bytes(memoryview(data))
    digest: bytes | None = (yield Do(partial(digests.of_file, data))) if digests.AVAILABLE else None
    backoff = Backoff(retries)
    changed = 0
    while True:
        try:
            file: wire.FileInfo = yield calls.put_file(name, data, etag=etag, absent=absent, block_digest=digest)
            return file
        except PreconditionFailed as error:
            refused = _exists(name, error) if absent else error
            if not backoff.failures:
                raise refused from None
            file = yield from info(name, retries, sha256=digest is None)
            if not (yield Do(partial(_is_of, file, data, digest))):
                raise refused from None
            return file
        except BadRequest as error:
            if not error.type.endswith("/digest-mismatch"):
                raise
            changed += 1
            if changed == MOST_CHANGED:
                raise DigestMismatch(
                    f"{name!r} arrived changed {changed} times. Check the network and the disks, and send it again"
                ) from None
            wait = Sleep(0.0, error)
        except (TransportError, APIError) as error:
            wait = backoff.after(error, repeatable=True)
        yield wait


def _exists(name: str, error: PreconditionFailed) -> PreconditionFailed:
    """Return the error of a file that may not exist yet, in the terms of the caller."""
    detail = f"{name!r} exists. Pass overwrite=True to replace it"
    return PreconditionFailed(error.status, "The file exists", detail, error.type, error.members, error.retry_after)


def _is_of(file: wire.FileInfo, data: bytes, digest: bytes | None) -> bool:
    """Return whether a published file has this content. Blocks."""
    if digest is not None and file.block_digest is not None:
        return file.block_digest == digest.hex()
    return file.sha256 is not None and file.sha256 == hashlib.sha256(data).hexdigest()


# -- processes

_DONE_BY: dict[str, frozenset[State]] = {
    "pause": frozenset({State.PAUSING, State.PAUSED}),
    "resume": frozenset({State.QUEUED, State.RUNNING, State.SUCCEEDED}),
    "cancel": frozenset({State.CANCELLING, State.CANCELLED}),
    "kill": ENDED,
}


def verb(
    name: str, call: Call[wire.ProcessInfo], get: Call[wire.ProcessInfo], retries: Retries
) -> Plan[wire.ProcessInfo]:
    """Pause, resume, cancel or kill. If a response was lost, a refusal because it is done already is no error."""
    backoff = Backoff(retries)
    while True:
        try:
            process: wire.ProcessInfo = yield call
            return process
        except IllegalState as error:
            if not backoff.failures or error.state not in _DONE_BY[name]:
                raise
            return (yield from request(get, retries))
        except (TransportError, APIError) as error:
            wait = backoff.after(error, repeatable=True)
        yield wait


def wait(
    process: wire.ProcessInfo,
    states: Iterable[State],
    timeout: float | None,
    retries: Retries,
    clock: Callable[[], float] = time.monotonic,
) -> Plan[wire.ProcessInfo]:
    """Wait by long polls until the process is in one of `states` or has ended, and return it.

    Raises:
        WaitTimeout: neither happened within `timeout` seconds.
    """
    wanted = frozenset(states) | ENDED
    deadline = None if timeout is None else clock() + timeout
    backoff = Backoff(retries)
    failure: HoldfastError | None = None
    while process.state not in wanted:
        left = LONG_POLL if deadline is None else deadline - clock()
        if left <= 0 and failure is not None:
            raise WaitTimeout(f"process {process.id} was {process.state} at the last response; since then: {failure}")
        if left <= 0:
            raise WaitTimeout(f"process {process.id} is still {process.state} after {timeout} s")
        call = calls.get_process(process.id, wait=round(min(LONG_POLL, left), 3), after=process.version)
        try:
            process = yield call
            failure = None
            backoff.reset()
        except (TransportError, APIError) as error:
            failure, pause = error, backoff.after(error, call.repeatable).seconds
            yield Sleep(pause if deadline is None else min(pause, max(0.0, deadline - clock())), failure)
    return process


def pages(page: Callable[[str | None], Call[Any]], retries: Retries) -> Plan[None]:
    """Emit every item of a listing. `page` makes the call for the page at a cursor."""
    cursor: str | None = None
    while True:
        answer = yield from request(page(cursor), retries)
        for item in answer.items:
            yield Emit(item)
        cursor = answer.next
        if cursor is None:
            return


def levels(page: Callable[[str | None], Call[wire.FilePage]], retries: Retries) -> Plan[None]:
    """Emit the files and folders of a level, by name."""
    cursor: str | None = None
    while True:
        answer = yield from request(page(cursor), retries)
        found: list[wire.FileInfo | wire.Folder] = [*answer.items, *map(wire.Folder, answer.prefixes)]
        for item in sorted(found, key=lambda item: item.name.encode()) if answer.prefixes else found:
            yield Emit(item)
        cursor = answer.next
        if cursor is None:
            return


def log(id: str, after: int, retries: Retries) -> Plan[None]:
    """Emit every log line so far."""
    while True:
        page: wire.LogPage = yield from request(calls.process_log(id, after=after), retries)
        for line in page.items:
            yield Emit(line)
        if page.next is None or not page.items:
            return
        after = page.items[-1].seq


def events(call: Callable[[int | None], Call[Any]], last: int | None, id: str | None, retries: Retries) -> Plan[None]:
    """Emit events as they arrive. A broken stream continues after the last numbered one, so no state change is missed.

    With the `id` of a process it ends after the process has ended or was deleted; without, never.
    """
    backoff = Backoff(retries)
    connected = False
    # If the process has ended before the first event of the stream, its last event would never arrive.
    includes_end, known = id is None or last == 0, 0
    while True:
        parser, again = EventStreamParser(), False
        error: HoldfastError = ConnectionBroken("the event stream ended")
        try:
            stream = yield Open(call(last))
            connected = True
            while data := (yield Read(stream)):
                backoff.reset()
                found = [_event(sent) for sent in parser.feed(bytes(data))]
                if id is not None and not includes_end and parser.last_id.isdigit():
                    includes_end = True
                    if not any(event.seq for event in found) and (yield from _has_ended(id, retries)):
                        known, last, again = (
                            int(parser.last_id),
                            0,
                            True,
                        )  # stream all events again, without those that were emitted
                        yield Close(stream)
                        break
                for event in found:
                    if event.type == "dropped":  # this client was too slow: the server ends the stream
                        continue
                    if event.seq is None or event.seq > known:
                        yield Emit(event)
                    if id is not None and (yield from _is_the_end(id, event, retries)):
                        yield Close(stream)
                        return
                last = int(parser.last_id) if parser.last_id.isdigit() else last
        except (TransportError, APIError) as failure:
            if connected and isinstance(failure, NotFound):  # deleted while the stream was broken
                return
            error = failure
        if not again:
            yield backoff.after(error, repeatable=True)


def _has_ended(id: str, retries: Retries) -> Plan[bool]:
    process: wire.ProcessInfo = yield from request(calls.get_process(id), retries)
    return process.has_ended


def _is_the_end(id: str, event: wire.Event, retries: Retries) -> Plan[bool]:
    """Return whether this is the last event. A failed process may have been resumed since."""
    if event.state not in ENDED:
        return event.type == "deleted"
    process: wire.ProcessInfo = yield from request(calls.get_process(id), retries)
    return process.has_ended and (process.state, process.attempt) == (event.state, event.attempt)


def _event(sent: ServerSent) -> wire.Event:
    try:
        return msgspec.json.decode(sent.data, type=wire.Event)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"the event stream has an event that no Holdfast server sends: {error}") from None


def result_of(process: wire.ProcessInfo) -> Any:
    """Return the result of the work. Raises `ProcessFailed` or `ProcessCancelled`."""
    if process.state is State.SUCCEEDED:
        return process.result
    if process.state is State.CANCELLED:
        raise ProcessCancelled(f"process {process.id} was cancelled", process)
    error = process.error
    what = f"{error.type}: {in_python(error.message)}" if error else "the server does not say why"
    raise ProcessFailed(f"process {process.id} failed: {what}", process)
