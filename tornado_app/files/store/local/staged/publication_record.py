"""Record beside staged bytes that are being published, from which a crash is mended."""

from __future__ import annotations

import os

import msgspec

from tornado_app.files.store.interface import FileStat
from tornado_app.files.store.local import digest_index
from tornado_app.files.store.local.digest_index import DigestRecord


class PublicationRecord(msgspec.Struct):
    """Record beside bytes that are being published: which inode becomes which file."""

    name: str
    size: int
    modified_ns: int
    etag: str
    sha256: str | None
    inode: int = 0  # earlier versions did not record it
    block_digest: str | None = None

    @property
    def record(self) -> DigestRecord | None:
        """Return the record of its digests; None where none is known."""
        if self.sha256 is None and self.block_digest is None:
            return None
        return DigestRecord(self.etag, self.sha256, self.block_digest)

    def stat(self, status: os.stat_result | None = None) -> FileStat:
        """Return the file; `status` is its status now, on which its ETag depends where no digest is known."""
        etag = self.etag if self.record is not None or status is None else digest_index.etag(status)
        return FileStat(self.name, self.size, self.modified_ns, etag, self.sha256, self.block_digest)
