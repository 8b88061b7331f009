"""Resumable loops as generators of effects. Nothing here does I/O: a driver of `_http` carries the effects out.

A plan yields what it wants done, gets the result back or the exception thrown in, and returns its own result. So
each loop is written once for sync and async, and is tested without a socket.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from holdfast import calls, wire
from holdfast._endpoints.call import Answer, Call
from holdfast._endpoints.sse import EventStreamParser, ServerSent
from holdfast.errors import (
    APIError,
    ConnectFailed,
    ConnectionBroken,
    HoldfastError,
    IllegalState,
    NotFound,
    PreconditionFailed,
    ProcessCancelled,
    ProcessFailed,
    ProtocolError,
    TransportError,
    WaitTimeout,
)
from holdfast.wire import ENDED, State

T = TypeVar("T")

LONG_POLL = 30.0  # seconds that one request waits; well under the idle limits of common proxies (60 s)


# -- effects: besides these, a plan yields a `Call` and gets what its `read` makes of the answer


@dataclass(frozen=True, slots=True)
class Open:
    """Send the call and give back a `Stream` once the headers of a good answer are there."""

    call: Call[Any]


class Stream:
    """An answer whose body has not been read. Drivers subclass it; plans only look at `answer`."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Read:
    """The next bytes of a stream, at most `size` or so; empty at the end of the body.

    What comes back may be a view that is valid until the next `Read` of the same stream.
    """

    stream: Stream
    size: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Close:
    """Give up a stream. A driver closes by itself those that a plan leaves open."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait; `because` is the failure after which something is tried again."""

    seconds: float
    because: HoldfastError | None = None


@dataclass(frozen=True, slots=True)
class Do(Generic[T]):
    """Call a function that blocks (disk, digest): off the loop in async.

    `always`: even when the run was asked to stop, for what has to be put away whatever happens.
    """

    function: Callable[[], T]
    always: bool = False


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand a value to whoever iterates over the plan."""

    value: Any


@dataclass(frozen=True, slots=True)
class Together:
    """Run plans at the same time, until all have ended; their results are dropped.

    Every `every` seconds `more` is asked for further plans. The first failure ends all of them and is thrown in.
    """

    plans: Sequence[Plan[Any]]
    more: Callable[[], Sequence[Plan[Any]]] = lambda: ()
    every: float = 0.25


Effect = Call[Any] | Open | Read | Close | Sleep | Do[Any] | Emit | Together
Plan = Generator[Effect, Any, T]


def ensured(plan: Plan[T], last: Callable[[], object]) -> Plan[T]:
    """Run a plan and then call `last`, which blocks, however the plan ends."""
    try:
        result = yield from plan
    except GeneratorExit:  # closed: no driver is there any more
        last()
        raise
    except BaseException:
        yield Do(last, always=True)
        raise
    yield Do(last, always=True)
    return result


class Stopped(BaseException):
    """A run was asked to stop. Not an `Exception`: nothing between here and the driver may take it for a failure."""


class Stop:
    """Asks a run to end, from any thread: at once when it sleeps, else at its next effect."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._then: list[Callable[[], None]] = []

    def set(self) -> None:
        """Ask."""
        with self._lock:
            self._event.set()
            then, self._then = self._then, []
        for function in then:
            function()

    def is_set(self) -> bool:
        """Whether it was asked."""
        return self._event.is_set()

    def then(self, function: Callable[[], None]) -> None:
        """Call `function` when it is asked; now, when it has been."""
        with self._lock:
            if not self._event.is_set():
                self._then.append(function)
                return
        function()

    def check(self) -> None:
        """Raises `Stopped` when it was asked."""
        if self._event.is_set():
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Wait. Raises `Stopped` as soon as it is asked."""
        if self._event.wait(seconds):
            raise Stopped


# -- retries: the one policy


@dataclass(frozen=True, slots=True)
class Retries:
    """How stubborn to be.

    `attempts` is how often something is tried again while nothing is gained; a byte or an answer gained starts the
    count anew. Waits are full jitter: anything up to `base * 2**n` seconds, at most `cap`, and at least the server's
    `Retry-After`, unless that is longer than `longest`: then the error is raised at once.
    """

    attempts: int = 6
    base: float = 0.2
    cap: float = 20.0
    longest: float = 120.0

    @classmethod
    def of(cls, value: int | Retries | None, default: Retries) -> Retries:
        """`retries=` as users give it: a number of attempts, a policy, or None for `default`."""
        if value is None:
            return default
        return value if isinstance(value, Retries) else cls(attempts=value)


# A transfer or a watcher outlives a server's restart: given up after two or three minutes without a single byte.
STUBBORN = Retries(attempts=100, cap=3.0)
REFUSED_FOR_NOW = frozenset({408, 423, 429, 503})  # not carried out, so anything may be sent again
NEVER = frozenset({501, 505, 507})  # 5xx that another attempt won't change


def may_repeat(error: HoldfastError, repeatable: bool) -> bool:
    """Whether trying again is both safe and of use."""
    if isinstance(error, ConnectFailed):
        return True
    if isinstance(error, TransportError):
        return repeatable
    if isinstance(error, APIError):
        transient = error.status >= 500 and error.status not in NEVER
        return error.status in REFUSED_FOR_NOW or (transient and repeatable)
    return False


class Backoff:
    """Counts fruitless attempts and says how long to wait before the next."""

    def __init__(self, retries: Retries, jitter: Callable[[], float] = random.random) -> None:
        self._retries = retries
        self._jitter = jitter
        self.failures = 0

    def gained(self) -> None:
        """Something was gained: the count starts anew."""
        self.failures = 0

    def after(self, error: HoldfastError, repeatable: bool, *, moved: bool = False) -> Sleep:
        """The wait before the next attempt. Raises `error` when there is to be none.

        `moved`: the server stands elsewhere than was thought, which is settled by asking it.
        """
        hint = error.retry_after if isinstance(error, APIError) and error.retry_after is not None else 0.0
        useless = not moved and not may_repeat(error, repeatable)
        if self.failures >= self._retries.attempts or hint > self._retries.longest or useless:
            raise error
        ceiling = min(self._retries.cap, self._retries.base * 2**self.failures)
        self.failures += 1
        return Sleep(max(hint, ceiling * self._jitter()), None if moved else error)


def request(call: Call[T], retries: Retries) -> Plan[T]:
    """One call, repeated as the policy allows."""
    backoff = Backoff(retries)
    while True:
        try:
            answer: T = yield call
            return answer
        except (TransportError, APIError) as error:
            wait = backoff.after(error, call.repeatable)
        yield wait


def forget(call: Call[T], retries: Retries) -> Plan[T | None]:
    """A deletion, and None when it was done by an attempt whose answer was lost. Raises `NotFound`."""
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
    """The headers of a file. Raises `NotFound` in words, which the answer to a HEAD has none of."""
    try:
        found: calls.FileHead = yield from request(calls.head_file(name), retries)
    except NotFound as error:
        if error.detail:
            raise
        raise NotFound(404, "No such file", f"there is no file {name!r}", "/problems/no-such-file") from None
    return found


def info(name: str, retries: Retries) -> Plan[wire.FileInfo]:
    """What there is to know of a file. Raises `NotFound`."""
    return (yield from head(name, retries)).info(name)


def read(name: str, begin: int, end: int | None, etag: str | None, retries: Retries) -> Plan[bytes]:
    """The bytes of a file from `begin` up to, not including, `end`; none when that is not after `begin`.

    Raises:
        ValueError: `begin` is negative.
        ProtocolError: others come.
    """
    if begin < 0:
        raise ValueError(f"begin is a number of bytes from the start, not {begin}")
    if end is not None and end <= begin:
        return b""  # HTTP has no such range
    whole = begin == 0 and end is None
    call = calls.get_file(name, begin=None if whole else begin, end=end, etag=etag)
    data: bytes = yield from request(call if whole else replace(call, read=partial(_from, begin)), retries)
    return data


def _from(begin: int, answer: Answer) -> bytes:
    if answer.status != 206 or calls.content_range(answer)[0] != begin:
        raise ProtocolError(f"asked for bytes from {begin} on, and got others: something on the way ignores Range")
    return answer.body


def put(name: str, data: bytes, etag: str | None, absent: bool, retries: Retries) -> Plan[wire.FileInfo]:
    """A file in one request. Where an answer was lost, a precondition that fails because of this very file holds.

    Raises:
        TypeError: `data` is text, or no bytes at all.
    """
    data = data if isinstance(data, bytes) else bytes(memoryview(data))
    backoff = Backoff(retries)
    while True:
        try:
            file: wire.FileInfo = yield calls.put_file(name, data, etag=etag, absent=absent)
            return file
        except PreconditionFailed:
            if not backoff.failures:
                raise
            file = yield from info(name, retries)
            if file.sha256 != (yield Do(lambda: hashlib.sha256(data).hexdigest())):
                raise
            return file
        except (TransportError, APIError) as error:
            wait = backoff.after(error, repeatable=True)
        yield wait


# -- processes

_DONE_BY: dict[str, frozenset[State]] = {
    "pause": frozenset({State.PAUSING, State.PAUSED}),
    "resume": frozenset({State.QUEUED, State.RUNNING, State.SUCCEEDED}),
    "cancel": frozenset({State.CANCELLING, State.CANCELLED}),
    "kill": ENDED,
}


def verb(name: str, call: Call[wire.Process], get: Call[wire.Process], retries: Retries) -> Plan[wire.Process]:
    """Pause, resume, cancel or kill. When an answer was lost, being refused because it is done already is no error."""
    backoff = Backoff(retries)
    while True:
        try:
            process: wire.Process = yield call
            return process
        except IllegalState as error:
            if not backoff.failures or error.state not in _DONE_BY[name]:
                raise
            return (yield from request(get, retries))
        except (TransportError, APIError) as error:
            wait = backoff.after(error, repeatable=True)
        yield wait


def wait(
    process: wire.Process,
    states: Iterable[State],
    timeout: float | None,
    retries: Retries,
    clock: Callable[[], float] = time.monotonic,
) -> Plan[wire.Process]:
    """The process once it is in one of `states` or has ended, by long polls.

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
            raise WaitTimeout(f"process {process.id} was {process.state} when last seen; since then: {failure}")
        if left <= 0:
            raise WaitTimeout(f"process {process.id} is still {process.state} after {timeout} s")
        call = calls.get_process(process.id, wait=round(min(LONG_POLL, left), 3), after=process.version)
        try:
            process = yield call
            failure = None
            backoff.gained()
        except (TransportError, APIError) as error:
            failure, pause = error, backoff.after(error, call.repeatable).seconds
            yield Sleep(pause if deadline is None else min(pause, max(0.0, deadline - clock())), failure)
    return process


def pages(page: Callable[[str | None], Call[Any]], retries: Retries) -> Plan[None]:
    """Emit every item of a listing, page after page; `page` makes the call for a cursor."""
    cursor: str | None = None
    while True:
        answer = yield from request(page(cursor), retries)
        for item in answer.items:
            yield Emit(item)
        cursor = answer.next
        if cursor is None:
            return


def levels(page: Callable[[str | None], Call[wire.FilePage]], retries: Retries) -> Plan[None]:
    """Emit files and folders of a listing by level, page after page, by name."""
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
    """Emit every line that the work has logged so far."""
    while True:
        page: wire.LogPage = yield from request(calls.process_log(id, after=after), retries)
        for line in page.items:
            yield Emit(line)
        if page.next is None or not page.items:
            return
        after = page.items[-1].seq


def events(call: Callable[[int | None], Call[Any]], last: int | None, id: str | None, retries: Retries) -> Plan[None]:
    """Emit events as they come. A cut stream goes on after the last numbered one, so no state change is missed.

    With the `id` of a process it ends once that has ended or is deleted; without, never.
    """
    backoff = Backoff(retries)
    connected = False
    # Is the end, if it has come already, among what was asked for? Else nothing would come any more.
    sure, known = id is None or last == 0, 0
    while True:
        parser, again = EventStreamParser(), False
        error: HoldfastError = ConnectionBroken("the event stream ended")
        try:
            stream = yield Open(call(last))
            connected = True
            while data := (yield Read(stream)):
                backoff.gained()
                found = [_event(sent) for sent in parser.feed(bytes(data))]
                if id is not None and not sure and parser.last_id.isdigit():
                    sure = True
                    if not any(event.seq for event in found) and (yield from _has_ended(id, retries)):
                        known, last, again = int(parser.last_id), 0, True  # all of it, without what is known
                        yield Close(stream)
                        break
                for event in found:
                    if event.type == "dropped":  # too slow: it says so and ends the stream
                        continue
                    if event.seq is None or event.seq > known:
                        yield Emit(event)
                    if id is not None and (yield from _is_the_end(id, event, retries)):
                        yield Close(stream)
                        return
                last = int(parser.last_id) if parser.last_id.isdigit() else last
        except (TransportError, APIError) as failure:
            if connected and isinstance(failure, NotFound):  # deleted while nobody looked
                return
            error = failure
        if not again:
            yield backoff.after(error, repeatable=True)


def _has_ended(id: str, retries: Retries) -> Plan[bool]:
    process: wire.Process = yield from request(calls.get_process(id), retries)
    return process.has_ended


def _is_the_end(id: str, event: wire.Event, retries: Retries) -> Plan[bool]:
    """A process that had ended may have been resumed: is it the event of the end that it has come to?"""
    if event.state not in ENDED:
        return event.type == "deleted"
    process: wire.Process = yield from request(calls.get_process(id), retries)
    return process.has_ended and (process.state, process.attempt) == (event.state, event.attempt)


def _event(sent: ServerSent) -> wire.Event:
    try:
        return msgspec.json.decode(sent.data, type=wire.Event)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"an event that no Holdfast server sends: {error}") from None


def result_of(process: wire.Process) -> Any:
    """What the work returned. Raises `ProcessFailed` or `ProcessCancelled`."""
    if process.state is State.SUCCEEDED:
        return process.result
    if process.state is State.CANCELLED:
        raise ProcessCancelled(f"process {process.id} was cancelled", process)
    error = process.error
    what = f"{error.type}: {error.message}" if error else "it does not say why"
    raise ProcessFailed(f"process {process.id} failed: {what}", process)
