"""Upload of a stream of unknown size, whose bytes can be read only once."""

from __future__ import annotations

import hashlib
from functools import partial

from holdfast import calls, digests, plans, wire
from holdfast._local_files.records import PartUpload
from holdfast._transfers.upload.sequential import published
from holdfast._transfers.upload.state import UploadState, problem_of
from holdfast._transfers.upload.tus import metadata_of
from holdfast.digests import BlockHasher
from holdfast.errors import (
    APIError,
    BadRequest,
    DigestMismatch,
    Gone,
    NotFound,
    OffsetMismatch,
    TooLarge,
    TransportError,
)
from holdfast.plans import Backoff, Do, Plan, Sleep, request

WINDOW = 8 << 20  # bytes that are kept until the server has them


class StreamedUpload:
    """Upload by tus 1.0.0 of a length that is known at the end. Bytes are hashed when they are read."""

    def __init__(self, state: UploadState) -> None:
        self._state = state
        self._blocks = BlockHasher() if digests.AVAILABLE else None
        self._sha256 = hashlib.sha256()
        self._hashed = 0  # bytes
        self._by_blocks = False

    def run(self) -> Plan[wire.FileInfo]:
        """Send what is missing, and return the published file."""
        state = self._state
        backoff = Backoff(state.retries)
        offset = yield from self._offset()
        id = state.record.parts[0].id
        while True:
            size = state.throttle.piece(min(WINDOW, state.pieces.size))
            data: bytes = yield Do(partial(self._read, offset, size))
            last = len(data) < size
            length = offset + len(data) if last else None
            digest = self._blocks.result() if last and self._by_blocks and self._blocks is not None else None
            before = offset
            try:
                head: calls.UploadHead = yield calls.append(id, offset, data, length=length, block_digest=digest)
                state.count_sent(len(data))
                offset, asked = head.offset, False
            except (TransportError, APIError) as error:
                if isinstance(error, (NotFound, Gone)):
                    raise
                if isinstance(error, BadRequest) and problem_of(error) == "digest-mismatch":
                    raise DigestMismatch(
                        f"bytes of {state.name!r} arrived changed, and a stream can't be read again. Upload from a path"
                    ) from None
                if not (isinstance(error, TooLarge) and state.pieces.too_large(len(data))):
                    yield backoff.after(error, repeatable=True, moved=isinstance(error, OffsetMismatch))
                head = yield from request(calls.upload_head(id), state.retries)
                offset, asked = head.offset, True
                last = last and head.length == offset
            yield Do(partial(state.source.forget, offset))
            state.report(0, offset)
            if offset > before:
                backoff.reset()
            if last and offset == length:
                if asked and offset > 0:  # repeats a refusal to publish whose response was lost
                    yield from request(calls.append(id, offset, b"", block_digest=digest), state.retries)
                return (yield from self._published())
            if wait := state.throttle.delay(offset - before):
                yield Sleep(wait)

    def _published(self) -> Plan[wire.FileInfo]:
        if self._by_blocks:
            return (yield from plans.info(self._state.name, self._state.retries))
        return (yield from published(self._state, self._sha256.hexdigest()))

    def _offset(self) -> Plan[int]:
        """Return the offset on the server. Bytes after the last one that it has confirmed are still in the window."""
        state = self._state
        if state.record.parts:
            head = yield from request(calls.upload_head(state.record.parts[0].id), state.retries)
        else:
            head = yield from request(calls.create_upload(metadata=metadata_of(state)), state.retries)
            state.record.parts = [PartUpload(0, 0, head.id)]
            self._by_blocks = head.wants_blocks and self._blocks is not None
        yield Do(partial(state.source.forget, head.offset))
        return head.offset

    def _read(self, offset: int, size: int) -> bytes:
        """Read bytes of the source, and hash those that were not read before."""
        data = self._state.source.read(offset, size)
        fresh = memoryview(data)[max(0, self._hashed - offset) :]
        if self._by_blocks and self._blocks is not None:
            self._blocks.feed([fresh])
        else:
            self._sha256.update(fresh)
        self._hashed += len(fresh)
        return data
