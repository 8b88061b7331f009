"""Interface of a transfer job, for the sync and the async handle."""

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
    """Values that all jobs of a client share: the URL of the server, for records, and the retry policy."""

    base_url: str
    retries: Retries

    @property
    def records(self) -> Path:
        """Folder of the resume records. Blocks."""
        return records_dir()


class TransferJob(ABC, Generic[R]):
    """A transfer without a thread or task.

    Each run calls `begin`, then `run`, then `close`. Another run may follow any end of the last one, and continues it.
    """

    kind: str
    name: str
    throttle: Throttle
    on_progress: Callable[[], None] = staticmethod(lambda: None)  # called when `done` has changed

    @property
    @abstractmethod
    def done(self) -> int:
        """Bytes that are transferred."""

    @property
    @abstractmethod
    def total(self) -> int | None:
        """Bytes in total; None while that is not known."""

    @property
    def sent(self) -> int:
        """Bytes of content that were sent; an upload may find others on the server, or send some twice."""
        return 0

    def check_local(self) -> None:
        """Check the local file, so that errors are raised before the transfer begins. Blocks. `begin` does it too."""

    @abstractmethod
    def begin(self) -> None:
        """Open the local file and lock the record. Blocks."""

    @abstractmethod
    def run(self) -> Plan[R]:
        """Transfer the rest."""

    @abstractmethod
    def close(self) -> None:
        """Save what a later run needs, and release everything. Blocks. Called after every `begin`."""

    def is_recorded(self) -> bool:
        """Return whether another process could resume the transfer. Blocks."""
        return False

    @abstractmethod
    def discard(self) -> Plan[None]:
        """Remove its partial data on both sides. Called while it does not run."""
