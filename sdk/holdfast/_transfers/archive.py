"""Archives: the download of a folder as one zip or tar, and the upload of a tar whose members become files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdfast import calls, plans, wire
from holdfast._local_files.records import ResumeRecord
from holdfast._local_files.sources import PIECE, LocalSource
from holdfast._local_files.target import Target
from holdfast._transfers.download import DownloadJob
from holdfast._transfers.job import TransferContext
from holdfast.errors import NotFound
from holdfast.plans import Do, Plan, Retries, ensured


class ArchiveDownload(DownloadJob):
    """Download of a folder as one archive, by `GET /v1/archives/{name}`. It resumes as the download of a file does."""

    def __init__(self, context: TransferContext, name: str, target: Target, **options: Any) -> None:
        """`name` is that of the archive, as `calls.archive_name` makes it."""
        if name in (".zip", ".tar") and not target.exact and (target.folder or target.path.is_dir()):
            target = Target(target.path / f"files{name}", exact=True)
        super().__init__(context, name, target, **options)

    def _with_options(self, record: ResumeRecord) -> ResumeRecord:
        record.archive = True
        return super()._with_options(record)

    def _get(self, **options: Any) -> calls.Call[bytes]:
        return calls.get_archive(self.name, **options)

    def _head(self) -> Plan[calls.FileHead]:
        try:
            return (yield from plans.request(calls.head_archive(self.name), self._context.retries))
        except NotFound as error:
            if error.detail:
                raise
            folder = self.name.rpartition(".")[0]
            raise NotFound(404, "No such folder", f"the server has no file below {folder!r}") from None


class _ArchiveBody:
    """Body of a request: all that a source has."""

    def __init__(self, source: LocalSource) -> None:
        self.length = source.size
        self._source = source

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the body. Blocks."""
        offset = 0
        while piece := self._source.read(offset, PIECE):
            yield piece
            offset += len(piece)
            self._source.forget(offset)


def send_archive(folder: str, source: LocalSource, overwrite: bool, retries: Retries) -> Plan[wire.ArchiveReceipt]:
    """Send a tar, and return the receipt."""
    source = yield Do(source.stat)
    call = calls.put_archive(folder, _ArchiveBody(source), absent=not overwrite)
    return (yield from ensured(plans.request(call, retries), source.close))
