"""Jobs of single files that a record describes."""

from __future__ import annotations

from pathlib import Path

from holdfast._local_files.records import ResumeRecord
from holdfast._local_files.sources import FileSource
from holdfast._local_files.target import Target
from holdfast._transfers.download import DownloadJob
from holdfast._transfers.job import TransferContext
from holdfast._transfers.upload.job import UploadJob


def of(record: ResumeRecord, context: TransferContext) -> UploadJob | DownloadJob:
    """Return the job that resumes the upload or the download of one file."""
    path, overwrite = Path(record.path), record.overwrite
    if record.kind == "upload":
        return UploadJob(
            context, FileSource(path), record.name, overwrite=overwrite, delta=record.delta, within=record.within
        )
    return DownloadJob(
        context,
        record.name,
        Target(path, exact=True),
        overwrite=overwrite,
        allow_dangerous=record.allow_dangerous,
        within=record.within,
    )
