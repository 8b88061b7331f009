"""What a transfer does, for either face."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from holdfast._pace import Throttle
from holdfast.plans import Plan, Retries

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every job of a client shares: the server's URL (for records), the policy of retries, where records are."""

    base_url: str
    retries: Retries
    records: Path


class Job(ABC, Generic[R]):
    """A transfer without a thread or task. `begin`, `run`, `settle` may be repeated after any end, and go on."""

    kind: str
    name: str
    throttle: Throttle
    moved: Callable[[], None] = staticmethod(lambda: None)  # called when `done` has changed

    @property
    @abstractmethod
    def done(self) -> int:
        """Bytes that are over."""

    @property
    @abstractmethod
    def total(self) -> int | None:
        """Bytes in all; None while that is not known."""

    @abstractmethod
    def begin(self) -> None:
        """Take hold of the local end, and of the record. Blocks."""

    @abstractmethod
    def run(self) -> Plan[R]:
        """Bring it to its end."""

    @abstractmethod
    def settle(self) -> None:
        """Keep what a later run needs, and let go of everything. Blocks; called after every `begin`."""

    @abstractmethod
    def discard(self) -> Plan[None]:
        """Remove what there is of it, on both sides. Called when it does not run."""
