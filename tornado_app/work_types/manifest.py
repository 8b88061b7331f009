"""`manifest`: the SHA-256 of every file, in the format of sha256sum."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from typing import Any

import msgspec

from holdfast.digests.checksum_lines import checksum_line
from holdfast.work import Job, Progress, work_type
from tornado_app.work_types.wording import counted

MANIFEST = "SHA256SUMS"
_PIECE = 1 << 20
_SAFE_POINT = 64 << 20


class Manifest(msgspec.Struct):
    """Files whose names start with `prefix`; by default all."""

    prefix: str = ""


class _ManifestCheckpoint(msgspec.Struct):
    """`name` is the file in hand, of which `byte` bytes were hashed; `staged` bytes of the list are written."""

    name: str = ""
    byte: int = 0
    staged: int = 0
    files: int = 0
    done: int = 0


@work_type("manifest", params=Manifest, checkpoint=_ManifestCheckpoint)
def manifest(job: Job[Manifest]) -> Generator[Progress, None, dict[str, Any]]:
    """Write the SHA-256 of every file in the files directory to the file `SHA256SUMS` there.

    `sha256sum -c SHA256SUMS` checks the files. There is a checkpoint for each file and each 64 MiB. A file that was
    interrupted is hashed again from its start, because a checkpoint can't keep the state of a digest.
    """
    at: _ManifestCheckpoint = job.checkpoint or _ManifestCheckpoint()
    staged = job.files.stage(MANIFEST, f"manifest-{job.id}")
    if staged.tell() < at.staged:  # it was published just before a crash: make the list anew
        at = _ManifestCheckpoint()
    staged.truncate(at.staged)
    names = [name for name in job.files.list(job.params.prefix) if name != MANIFEST]
    sizes = {name: _size(job, name) for name in names}
    total = sum(sizes.values())
    last, start = at.name, at.done
    for name in names:
        if name <= last and at.files:
            continue
        digest = hashlib.sha256()
        hashed = 0
        try:
            with job.files.open(name) as file:
                while piece := file.read(_PIECE):
                    digest.update(piece)
                    hashed += len(piece)
                    if hashed % _SAFE_POINT == 0:
                        yield Progress(start + hashed, total, at, f"{name}: {counted(hashed, 'byte')}")
        except FileNotFoundError:
            job.log(f"{name} went away meanwhile and is left out")
            continue
        staged.write(checksum_line(digest.hexdigest(), name).encode())
        start += hashed
        at = _ManifestCheckpoint(name=name, staged=staged.tell(), files=at.files + 1, done=start)
        yield Progress(start, total, at, counted(at.files, "file"))
    return {"files": at.files, "bytes": start, "file_name": MANIFEST, "sha256": staged.publish()}


@manifest.rollback
def discard(job: Job[Manifest]) -> None:
    """Remove the staged bytes; an older SHA256SUMS stays."""
    job.files.stage(MANIFEST, f"manifest-{job.id}").discard()


def _size(job: Job[Manifest], name: str) -> int:
    try:
        return job.files.size(name)
    except FileNotFoundError:
        return 0
