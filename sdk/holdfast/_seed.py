"""Transfers through the seed's endpoints, as resumable loops."""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from pathlib import Path

from holdfast import calls, wire
from holdfast._job import Job
from holdfast._local import FileSource, PartFile
from holdfast._pace import Throttle
from holdfast.errors import (
    APIError,
    DigestMismatch,
    FileChanged,
    NotFound,
    OffsetMismatch,
    RemoteChanged,
    TooLarge,
    TransportError,
)
from holdfast.plans import Backoff, Do, Plan, Retries, forget, request

PIECE = 8 << 20
SMALLEST_PIECE = 64 << 10
NOT_BEGUN = wire.UploadStatus(bytes_read=0, is_complete=False)


class SeedUpload(Job[wire.UploadStatus]):
    """A file through `POST /upload/`. After any error the server's offset decides where to go on."""

    kind = "upload"

    def __init__(self, source: FileSource, name: str, overwrite: bool, retries: Retries) -> None:
        self.name = name
        self.throttle = Throttle()
        self._source = source
        self._overwrite = overwrite
        self._retries = retries
        self._begun = False
        self._done = 0

    @property
    def done(self) -> int:
        return self._done

    @property
    def total(self) -> int | None:
        return self._source.size

    def begin(self) -> None:
        pass

    def settle(self) -> None:
        self._source.close()

    def discard(self) -> Plan[None]:
        try:
            yield from request(calls.seed_upload_cancel(self.name), self._retries)
        except NotFound:
            pass

    def run(self) -> Plan[wire.UploadStatus]:
        backoff = Backoff(self._retries)
        piece = PIECE
        unsure = False
        status = NOT_BEGUN
        if self._begun:
            status = yield from self._status()
        else:
            try:
                yield from forget(calls.seed_upload_cancel(self.name), self._retries)
            except NotFound:
                pass
        self._begun = True
        while not status.is_complete:
            self._done = status.bytes_read
            data = yield Do(partial(self._source.read, status.bytes_read, piece))
            try:
                status = yield self._append(status.bytes_read, data)
                backoff.gained()
            except TooLarge:
                if piece <= SMALLEST_PIECE:
                    raise
                piece //= 2
            except OffsetMismatch as error:
                if not unsure:
                    raise
                unsure = False
                status = wire.UploadStatus(error.offset, is_complete=False)
            except (TransportError, APIError) as error:
                unsure = True
                yield backoff.after(error, repeatable=True)
                before = status.bytes_read
                status = yield from self._status()
                if status.bytes_read > before:
                    backoff.gained()
        self._done = status.bytes_read
        if status.sha256 is not None and status.sha256 != (yield Do(self._sha256)):
            raise DigestMismatch(f"the server has published other bytes as {self.name!r} than the source has")
        return status

    def _append(self, offset: int, data: bytes) -> calls.Call[wire.UploadStatus]:
        return calls.seed_upload(self.name, offset, data, file_size=self._source.size, overwrite=self._overwrite)

    def _status(self) -> Plan[wire.UploadStatus]:
        """Where the upload stands: at 0 when there is none, or when what is published is not what goes up."""
        try:
            status: wire.UploadStatus = yield from request(calls.seed_upload_status(self.name), self._retries)
        except NotFound:
            return NOT_BEGUN
        if status.is_complete and (status.bytes_read != self._source.size or status.sha256 != (yield Do(self._sha256))):
            return NOT_BEGUN
        return status

    def _sha256(self) -> str:
        digest = hashlib.sha256()
        offset = 0
        while piece := self._source.read(offset, 1 << 20):
            digest.update(piece)
            offset += len(piece)
        return digest.hexdigest()


class SeedDownload(Job[Path]):
    """A file through `GET /download/`. Raises `RemoteChanged` when it was replaced on the way."""

    kind = "download"

    def __init__(self, name: str, target: Path, retries: Retries) -> None:
        self.name = name
        self.throttle = Throttle()
        self._part = PartFile(target)
        self._retries = retries
        self._etag: str | None = None
        self._done = 0
        self._size: int | None = None

    @property
    def done(self) -> int:
        return self._done

    @property
    def total(self) -> int | None:
        return self._size

    def begin(self) -> None:
        self._part.open(fresh=self._etag is None)

    def settle(self) -> None:
        self._part.close()

    def discard(self) -> Plan[None]:
        yield Do(self._part.discard)

    def run(self) -> Plan[Path]:
        complete = False
        while not complete:
            call = calls.seed_download(self.name, self._done, encoding="base64", etag=self._etag)
            try:
                piece: wire.DownloadPiece = yield from request(call, self._retries)
            except FileChanged as error:
                raise RemoteChanged(f"{self.name!r} was replaced on the server while it came down") from error
            yield Do(partial(self._part.write, self._done, base64.b64decode(piece.file_content)))
            self._etag, complete = piece.etag, piece.is_complete
            self._done, self._size = piece.bytes_read, piece.file_size
        path: Path = yield Do(partial(self._part.publish, self._done))
        return path
