"""Jobs that resume the transfer of a record, of whatever kind it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast._local_files.records import ResumeRecord
from holdfast._local_files.target import Target
from holdfast._transfers.archive import ArchiveDownload
from holdfast._transfers.folder import file_jobs
from holdfast._transfers.folder.download import DownloadFolder
from holdfast._transfers.folder.upload import UploadFolder
from holdfast._transfers.job import TransferContext, TransferJob


def job_of(record: ResumeRecord, context: TransferContext) -> TransferJob[Any]:
    """Return the job that resumes the transfer of a record."""
    path, overwrite, allowed = Path(record.path), record.overwrite, record.allow_dangerous
    if record.folder and record.kind == "upload":
        links = record.links or "inside"
        return UploadFolder(
            context,
            path,
            record.prefix,
            overwrite=overwrite,
            restart=False,
            delta=record.delta,
            links=links,
            limit=None,
        )
    if record.folder:
        return DownloadFolder(
            context, record.prefix, path, overwrite=overwrite, restart=False, allow_dangerous=allowed, limit=None
        )
    if record.archive:
        return ArchiveDownload(
            context, record.name, Target(path, exact=True), overwrite=overwrite, allow_dangerous=allowed
        )
    return file_jobs.of(record, context)
