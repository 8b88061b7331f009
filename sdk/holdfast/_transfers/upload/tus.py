"""One upload by tus 1.0.0: of a whole source, or of a part of it that the server joins with others."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from holdfast import calls, digests
from holdfast._local_files.records import PartUpload, ResumeRecord
from holdfast._transfers.upload.body import UploadBody
from holdfast._transfers.upload.state import UploadState
from holdfast.errors import APIError, Gone, NotFound, OffsetMismatch, TooLarge, TransportError
from holdfast.plans import Backoff, Plan, Retries, forget, request


def delete_uploads(record: ResumeRecord, retries: Retries) -> Plan[None]:
    """Delete all uploads of a record on the server."""
    deletions = [calls.delete_upload(part.id) for part in record.parts if part.id]
    if record.blocks:
        deletions.append(calls.delete_block_upload(record.blocks))
    for call in deletions:
        try:
            yield from forget(call, retries)
        except NotFound:
            pass


def metadata_of(state: UploadState, sha256: str | None = None) -> str:
    """Return the `Upload-Metadata` of an upload that becomes a file."""
    return calls.tus_metadata(filename=state.name, overwrite="true" if state.may_replace else None, sha256=sha256)


class TusUpload:
    """Bytes of a source that go to one upload, in as many requests as it takes.

    `offset` is what the server has. `is_asked` is true while it is from a HEAD, which does not say whether the last
    PATCH was refused.
    """

    def __init__(
        self, state: UploadState, part: PartUpload, metadata: str | None, on_offset: Callable[[], None] = lambda: None
    ) -> None:
        """Without `metadata` it is a part, which is not published. `on_offset` is called when `offset` has changed."""
        self.part = part
        self.offset = 0
        self.is_asked = True
        self._state = state
        self._metadata = metadata
        self._on_offset = on_offset

    def locate(self) -> Plan[None]:
        """Read the offset from the server; create the upload if it does not exist."""
        state, part = self._state, self.part
        head: calls.UploadHead | None = None
        if part.id:
            try:
                head = yield from request(calls.upload_head(part.id), state.retries)
            except (NotFound, Gone):  # cancelled or expired
                part.id, state.is_doubtful = "", False
        if head is None:
            partial = self._metadata is None
            call = calls.create_upload(length=part.end - part.begin, metadata=self._metadata, partial=partial)
            head = yield from request(call, state.retries)
            part.id = head.id
            yield from state.save()
        state.by_blocks = self._metadata is not None and head.wants_blocks and digests.AVAILABLE
        self.is_asked = True
        self._moved_to(head.offset)

    def _moved_to(self, offset: int) -> None:
        self.offset = offset
        self._state.report(self.part.begin, offset)
        self._on_offset()

    def send(self, end: int) -> Plan[None]:
        """Send the bytes from `offset` up to, not including, `end`. After any error, continue where the server is."""
        state, pieces = self._state, self._state.pieces
        backoff = Backoff(state.retries)
        while (left := end - self.offset) > 0:
            before, count = self.offset, min(left, pieces.size)
            begin = self.part.begin + before
            body = UploadBody(state, begin, count, partial(self._report_sent, before))
            start = time.monotonic()
            try:
                head: calls.UploadHead = yield calls.append(self.part.id, before, body)
                self.is_asked = False
                self._moved_to(head.offset)
                pieces.sent(count, time.monotonic() - start)
            except TooLarge:
                if not pieces.too_large(count):
                    raise
                yield from self.locate()
            except (TransportError, APIError) as error:
                yield backoff.after(error, repeatable=True, moved=isinstance(error, (OffsetMismatch, NotFound, Gone)))
                yield from self.locate()
                pieces.broken(self.offset - before)
            if self.offset > before:
                backoff.reset()
                yield from state.save_digests()

    def _report_sent(self, before: int, count: int) -> None:
        self._state.report(self.part.begin, before + count)
        self._on_offset()
