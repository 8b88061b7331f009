"""`client.transfers` of the sync face, and the start of every transfer."""

from __future__ import annotations

from typing import Any

from holdfast._client.core import SyncCore
from holdfast._local_files.records import ResumeRecord, pending, records_dir
from holdfast._transfers.handles import Transfer
from holdfast._transfers.job import R, TransferContext, TransferJob
from holdfast._transfers.resuming import job_of


class Transfers:
    """`client.transfers`: unfinished transfers between this server and this machine."""

    def __init__(self, core: SyncCore) -> None:
        self._core = core
        self._context = TransferContext(core.base_url, core.patience)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._core.connection.shown_url}>"

    def pending(self) -> list[ResumeRecord]:
        """Return the transfers that can be resumed, oldest first: paused, failed, or cut off by the end of a process.

        Transfers that are running now are among them.
        """
        return [*pending(records_dir(), self._core.base_url)]

    def resume(self, record: ResumeRecord) -> Transfer[Any]:
        """Resume one of `pending()`, in the background. Raises `OSError` if the local file is gone."""
        return start(self._core, job_of(record, self._context))

    def cancel(self, record: ResumeRecord) -> None:
        """Cancel one of `pending()` and remove its partial data on both sides. Its local file may be gone.

        Raises:
            TransferBusy: the transfer is running, here or in another process.
        """
        self._core.run(job_of(record, self._context).discard())


def start(core: SyncCore, job: TransferJob[R]) -> Transfer[R]:
    """Start a transfer in the background and return its handle."""
    job.check_local()
    transfer = Transfer(job, core.driver)
    transfer.resume()
    return transfer
