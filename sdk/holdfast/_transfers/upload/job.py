"""Upload job: chooses how a source is sent, and looks after its record on disk."""

from __future__ import annotations

import time
from functools import partial

from holdfast import calls, digests, plans, wire
from holdfast._local_files.records import RecordFile, ResumeRecord
from holdfast._local_files.sources import LocalSource
from holdfast._transfers.job import TransferContext, TransferJob
from holdfast._transfers.pace import Throttle
from holdfast._transfers.upload.by_blocks import NoBlockUploadsError, UploadByBlocks
from holdfast._transfers.upload.parts import MIN_PART, UploadByParts
from holdfast._transfers.upload.sequential import SequentialUpload
from holdfast._transfers.upload.state import UploadState, problem_of
from holdfast._transfers.upload.streamed import StreamedUpload
from holdfast._transfers.upload.tus import delete_uploads
from holdfast.digests import BLOCK
from holdfast.errors import (
    APIError,
    BadRequest,
    FileExists,
    NotFound,
    PreconditionFailed,
    RemoteChanged,
    TooLarge,
    TransferError,
)
from holdfast.plans import Do, Plan, Together, ensured, request

SINGLE_REQUEST_MAX = 256 << 10  # bytes that are sent by one PUT
KNOWN_MIN = 64 << 20  # bytes; for a smaller file it is not asked whether the server has its content
PARALLEL_ROUND_TRIP = 0.005  # seconds; on a shorter round trip one connection uses the whole bandwidth


def checked_name(name: str) -> str:
    """Return a name that can be sent. Raises `ValueError`."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name!r} is not valid UTF-8. Choose another name for the server") from None
    return name


class UploadJob(TransferJob[wire.FileInfo]):
    """Upload of one source."""

    kind = "upload"

    def __init__(
        self,
        context: TransferContext,
        source: LocalSource,
        name: str,
        *,
        overwrite: bool = False,
        restart: bool = False,
        segments: int | None = None,
        limit: float | None = None,
        delta: bool = False,
        within: str = "",
    ) -> None:
        if delta and not digests.AVAILABLE:
            raise TransferError("a delta upload needs the package blake3, which is not installed. Install it")
        self.name = checked_name(name)
        self._context = context
        self._restart = restart
        self._stale: ResumeRecord | None = None
        self._state = UploadState(
            context,
            source,
            name,
            overwrite=overwrite,
            connections=segments,
            throttle=Throttle(limit),
            delta=delta,
            within=within,
            on_progress=lambda: self.on_progress(),
        )
        self._stream = StreamedUpload(self._state)  # its bytes are read once, so it remains for further runs

    @property
    def throttle(self) -> Throttle:
        """Limit of the rate."""
        return self._state.throttle

    @throttle.setter
    def throttle(self, throttle: Throttle) -> None:
        self._state.throttle = throttle

    @property
    def done(self) -> int:
        return self._state.done

    @property
    def total(self) -> int | None:
        return self._state.source.size

    @property
    def sent(self) -> int:
        return self._state.sent

    # -- the local file

    def check_local(self) -> None:
        """Find out what the source is, and its size. Raises `OSError`."""
        self._state.check_local()

    def begin(self) -> None:
        self._stale = self._state.begin(restart=self._restart) or self._stale
        self._restart = False

    def close(self) -> None:
        self._state.close()

    def is_recorded(self) -> bool:
        return self._state.file is not None and self._state.file.path.exists()

    def discard(self) -> Plan[None]:
        try:
            yield Do(self.check_local)
        except OSError:  # the local file is gone; its upload on the server is deleted all the same
            pass
        file: RecordFile | None = yield Do(self._state.open_record)
        yield from (self._discard_saved(None) if file is None else ensured(self._discard_saved(file), file.release))

    def _discard_saved(self, file: RecordFile | None) -> Plan[None]:
        # A run that was stopped before it began has not read the record.
        saved: ResumeRecord | None = (yield Do(file.take)) if file is not None else None
        for record in (self._stale, self._state.record, saved):
            if record is not None:
                yield from delete_uploads(record, self._context.retries)
        self._stale = None
        self._state.forget_sent()
        if file is not None:
            yield Do(file.remove)

    # -- the plan

    def run(self) -> Plan[wire.FileInfo]:
        state = self._state
        if self._stale is not None:
            yield from delete_uploads(self._stale, self._context.retries)
            self._stale = None
        file: wire.FileInfo | None = None
        if state.delta:
            file = yield from self._send_changes()
        if file is None and self._is_small():
            file = yield from self._put()
        if file is None:
            file = yield from self._send()
        state.ended = True
        return file

    def _is_small(self) -> bool:
        state, size = self._state, self._state.source.size
        begun = state.record.parts or state.record.blocks or state.connections is not None
        return size is not None and size <= SINGLE_REQUEST_MAX and not begun

    def _put(self) -> Plan[wire.FileInfo | None]:
        """Send a small file in one request. Return None if it is too large for a proxy on the way."""
        state = self._state
        data: bytes = yield Do(partial(state.source.read, 0, state.size))
        try:
            file = yield from plans.put(self.name, data, None, not state.may_replace, state.retries)
        except TooLarge:
            return None
        except PreconditionFailed as error:
            exists = FileExists(
                error.status, "The file exists", f"{self.name!r} exists. Pass overwrite=True to replace it"
            )
            return (yield from self._published_or_raise(exists))
        state.count_sent(state.size)
        state.report_all(state.size)
        return file

    def _send(self) -> Plan[wire.FileInfo]:
        state = self._state
        try:
            if state.source.size is None:
                return (yield from self._stream.run())
            try:
                upload = (yield from self._known()) or (yield from self._by_blocks())
                if upload is not None:
                    return (yield from upload.run())
            except NoBlockUploadsError:
                yield from self._forget_blocks()
            if len(state.record.parts) > 1 or (not state.record.parts and (yield from self._is_parallel())):
                return (yield from UploadByParts(state).run())
            return (yield from SequentialUpload(state).run())
        except (FileExists, BadRequest) as error:  # BadRequest: the parts are gone, maybe because they were joined
            if problem_of(error) == "digest-mismatch":
                raise
            return (yield from self._published_or_raise(error))

    def _known(self) -> Plan[UploadByBlocks | None]:
        """Return an upload of content that the server seems to have, or None.

        It needs the digest of the whole file, so the server is asked first whether that is worth computing.
        """
        state = self._state
        if state.size < KNOWN_MIN or not digests.AVAILABLE or state.record.parts or state.record.blocks:
            return None
        yield from state.hash_blocks(0, 1)
        try:
            call = calls.known_content(state.size, (state.digests.get(0) or b"").hex())
            hint: wire.ContentHint = yield from request(call, self._context.retries)
        except APIError as error:
            if error.status not in (404, 405, 501):
                raise
            return None
        if not hint.known:
            return None
        state.record.digest = (yield from state.digest()).hex()
        upload = UploadByBlocks(state)
        yield from upload.create(blocks=state.digests.blocks())
        return upload

    def _by_blocks(self) -> Plan[UploadByBlocks | None]:
        """Return the upload by blocks of the record, or a new one if several connections are worth it."""
        state, upload = self._state, UploadByBlocks(self._state)
        promised = state.record.digest if state.record.blocks and state.is_doubtful else ""
        if promised and (yield from state.digest()).hex() != promised:
            raise state.changed()  # the server was told the digest of each block: it takes no other in its place
        if state.record.blocks and (yield from upload.locate()):
            return upload
        if not digests.AVAILABLE or self._state.record.parts or not (yield from self._is_parallel()):
            return None
        yield from upload.create()
        return upload

    def _forget_blocks(self) -> Plan[None]:
        yield from delete_uploads(self._state.record, self._context.retries)
        self._state.record.blocks = ""

    def _is_parallel(self) -> Plan[bool]:
        """Return whether several connections may be faster than one."""
        state = self._state
        if state.connections is not None:
            return state.connections > 1 and state.size > BLOCK
        if state.size < 2 * MIN_PART:
            return False
        yield from request(calls.upload_options(), self._context.retries)  # opens the connection
        for _ in range(2):  # a busy machine is late once, a long way is always long
            start = time.monotonic()
            yield from request(calls.upload_options(), self._context.retries)
            if time.monotonic() - start <= PARALLEL_ROUND_TRIP:
                return False
        return True

    def _published_or_raise(self, error: APIError) -> Plan[wire.FileInfo]:
        """Return the file if the same content is published, maybe because a response was lost. Else raise `error`."""
        state = self._state
        if state.source.size is None:
            raise error
        try:
            file = yield from plans.info(self.name, self._context.retries, sha256=not digests.AVAILABLE)
        except NotFound:
            raise error from None
        if file.size != state.size or not (yield from self._is_same(file)):
            raise error
        state.report_all(file.size)
        yield from delete_uploads(state.record, self._context.retries)
        return file

    def _is_same(self, file: wire.FileInfo) -> Plan[bool]:
        """Return whether a published file has the content of the source, by the digest that is known."""
        state = self._state
        digest = file.block_digest
        if digest is None and file.sha256 is None and digests.AVAILABLE:
            found: list[wire.BlockDigests] = []
            yield from self._published_blocks(found)
            digest = found[0].digest if found and found[0].etag == file.etag else None
        if digest is not None and digests.AVAILABLE:
            return (yield from state.digest()).hex() == digest
        sha256: str = yield Do(partial(state.sha256.finish, file.size))
        return sha256 == file.sha256

    # -- delta

    def _send_changes(self) -> Plan[wire.FileInfo | None]:
        """Send the blocks that differ from the published version. Return None if all has to be sent."""
        state = self._state
        if state.source.size is None:
            raise TransferError("a stream can't be compared with the published file. Upload a path, or without delta")
        found: list[wire.BlockDigests] = []
        yield Together([state.hash_blocks(), self._published_blocks(found)])
        blocks, digest = state.digests.blocks(), state.digests.result().hex()
        upload = UploadByBlocks(state)
        try:
            if not (yield from self._goes_on(upload, digest)):
                if not found:
                    return (yield from self._without_digests())
                if found[0].digest == digest:
                    state.report_all(state.size)
                    return (yield from plans.info(self.name, self._context.retries))
                state.record.digest, state.record.delta = digest, True
                yield from upload.create(etag=found[0].etag, base=found[0].etag, blocks=blocks)
            return (yield from upload.run())
        except NoBlockUploadsError:
            yield from self._forget_blocks()
            state.may_replace = True
            return None
        except PreconditionFailed:
            yield from self._forget_blocks()
            raise RemoteChanged(
                f"{self.name!r} was replaced on the server since it was compared. Upload it again to send what differs"
            ) from None

    def _without_digests(self) -> Plan[wire.FileInfo | None]:
        """Return the published version if it is the same by its SHA-256; else None, and what differs is replaced."""
        state = self._state
        try:
            file = yield from plans.info(self.name, self._context.retries, sha256=True)
        except NotFound:
            return None
        if file.size == state.size and (yield from self._is_same(file)):
            state.report_all(state.size)
            return file
        state.may_replace = True
        return None

    def _goes_on(self, upload: UploadByBlocks, digest: str) -> Plan[bool]:
        """Return whether the upload of the record is one of the same content; delete it if it is not."""
        state = self._state
        if state.record.blocks and state.record.digest == digest and (yield from upload.locate()):
            state.is_doubtful = False
            return True
        if state.record.blocks and state.record.digest:
            yield from self._forget_blocks()
        return False

    def _published_blocks(self, found: list[wire.BlockDigests]) -> Plan[None]:
        options = yield from request(calls.upload_options(), self._context.retries)
        if not options.wants_blocks:
            return  # a server without block digests
        try:
            found.append((yield from request(calls.file_digests(self.name), self._context.retries)))
        except NotFound:
            pass
