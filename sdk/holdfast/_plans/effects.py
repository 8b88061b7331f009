"""Effects that a plan yields, and the request to stop a run. A driver of `_http` carries them out.

A plan can also yield a `Call`, and receives what the `read` of the call returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from holdfast._endpoints.call import Call, CallResponse
from holdfast.errors import HoldfastError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Open:
    """Send the call; the result is a `Stream`, as soon as the headers of a successful response are there."""

    call: Call[Any]


class Stream:
    """A response whose body has not been read. Drivers subclass it; plans use only `answer`."""

    answer: CallResponse


@dataclass(frozen=True, slots=True)
class Read:
    """Read the next bytes of a stream, about `size` at most; b"" at the end of the body.

    The result may be a view that is valid until the next `Read` of the same stream.
    """

    stream: Stream
    size: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Close:
    """Close a stream. A driver closes those that a plan leaves open."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait. `because` is the failure before a retry, or None."""

    seconds: float
    because: HoldfastError | None = None


@dataclass(frozen=True, slots=True)
class Do(Generic[T]):
    """Call a blocking function (disk, digest); the async driver calls it on a thread.

    `always`: also after the run was asked to stop, for cleanup.
    """

    function: Callable[[], T]
    always: bool = False


@dataclass(frozen=True, slots=True)
class Emit:
    """Pass a value to the caller that iterates over the plan."""

    value: Any


@dataclass(frozen=True, slots=True)
class Together:
    """Run plans concurrently until all have ended; their results are dropped.

    Every `every` seconds `more` is called for further plans. The first failure ends all of them and is raised here.
    """

    plans: Sequence[Plan[Any]]
    more: Callable[[], Sequence[Plan[Any]]] = lambda: ()
    every: float = 0.25


Effect = Call[Any] | Open | Read | Close | Sleep | Do[Any] | Emit | Together
Plan = Generator[Effect, Any, T]


def ensured(plan: Plan[T], last: Callable[[], object]) -> Plan[T]:
    """Run a plan and then call `last`, which may block, even if the plan fails or is stopped."""
    try:
        result = yield from plan
    except GeneratorExit:  # closed: there is no driver any more
        last()
        raise
    except BaseException:
        yield Do(last, always=True)
        raise
    yield Do(last, always=True)
    return result


class Stopped(BaseException):
    """A run was asked to stop. Not an `Exception`, so that no plan handles it as a failure."""


class Stop:
    """Stop request for a run, from any thread. The run ends at its next effect, or at once if it sleeps."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._then: list[Callable[[], None]] = []

    def set(self) -> None:
        """Request the stop."""
        with self._lock:
            self._event.set()
            then, self._then = self._then, []
        for function in then:
            function()

    def is_set(self) -> bool:
        """Return whether the stop was requested."""
        return self._event.is_set()

    def then(self, function: Callable[[], None]) -> None:
        """Call `function` when the stop is requested, or now if it was requested already."""
        with self._lock:
            if not self._event.is_set():
                self._then.append(function)
                return
        function()

    def check(self) -> None:
        """Raise `Stopped` if the stop was requested."""
        if self._event.is_set():
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Sleep. Raises `Stopped` as soon as the stop is requested."""
        if self._event.wait(seconds):
            raise Stopped
