"""What a transfer does, for either face."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from holdfast._local_files.records import records_dir
from holdfast._transfers.pace import Throttle
from holdfast.plans import Plan, Retries

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class TransferContext:
    """Surroundings that every job of a client shares: the server's URL (for records), and the policy of retries."""

    base_url: str
    retries: Retries

    @property
    def records(self) -> Path:
        """Where records are. Blocks."""
        return records_dir()


class TransferJob(ABC, Generic[R]):
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

    def look(self) -> None:
        """Look at the local end, so that what is wrong with it is known at once. Blocks; `begin` does it as well."""

    @abstractmethod
    def begin(self) -> None:
        """Take hold of the local end, and of the record. Blocks."""

    @abstractmethod
    def run(self) -> Plan[R]:
        """Bring it to its end."""

    @abstractmethod
    def settle(self) -> None:
        """Keep what a later run needs, and let go of everything. Blocks; called after every `begin`."""

    def is_recorded(self) -> bool:
        """Whether another process could go on with it. Blocks."""
        return False

    @abstractmethod
    def discard(self) -> Plan[None]:
        """Remove what there is of it, on both sides. Called when it does not run."""
