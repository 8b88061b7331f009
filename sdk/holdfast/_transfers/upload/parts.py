"""Upload of parts over several connections, which the server joins: for servers without uploads by blocks."""

from __future__ import annotations

from functools import partial

from holdfast import calls, wire
from holdfast._local_files.records import PartUpload
from holdfast._transfers.pace import MOST_AT_ONCE, Growth
from holdfast._transfers.upload.sequential import published
from holdfast._transfers.upload.state import UploadState
from holdfast._transfers.upload.tus import TusUpload, delete_uploads, metadata_of
from holdfast.plans import Do, Plan, Together, request

MIN_PART = 8 << 20  # bytes; a shorter part does not pay for an upload of its own
PARTS = 64  # maximum number of parts of a big file that is sent in parallel


class UploadByParts:
    """Upload by tus 1.0.0, with its extension concatenation, verified by SHA-256."""

    def __init__(self, state: UploadState) -> None:
        self._state = state
        if not state.record.parts:
            state.record.parts = self._divide()
        self._parts = state.record.parts
        self._uploads = [TusUpload(state, part, None, self._on_offset) for part in self._parts]

    def _divide(self) -> list[PartUpload]:
        size, wanted = self._state.size, self._state.connections
        count = max(1, min(wanted, size // 1024)) if wanted is not None else max(1, min(PARTS, size // MIN_PART))
        ends = [size * (index + 1) // count for index in range(count)]
        return [PartUpload(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]

    def run(self) -> Plan[wire.FileInfo]:
        """Send what is missing, and return the published file."""
        state = self._state
        state.by_blocks = False
        if state.is_doubtful and any(part.id for part in self._parts):
            raise state.changed()
        yield from self._send_all()
        sha256: str = yield Do(partial(state.sha256.finish, state.size))
        parts = [f"/v1/uploads/{part.id}" for part in self._parts]
        call = calls.create_upload(parts=parts, metadata=metadata_of(state, sha256))
        yield from request(call, state.retries)
        yield from delete_uploads(state.record, state.retries)
        return (yield from published(state, sha256))

    def _send_all(self) -> Plan[None]:
        state = self._state
        waiting = iter(self._uploads)
        growth = Growth(state.connections or MOST_AT_ONCE, at_once=state.connections is not None)
        workers = 1

        def worker() -> Plan[None]:
            while True:
                with state.lock:
                    upload = next(waiting, None)
                if upload is None:
                    return
                yield from upload.locate()
                yield from upload.send(upload.part.end - upload.part.begin)

        def more() -> list[Plan[None]]:
            nonlocal workers
            add = growth.more(workers, state.done, state.size - state.done)
            workers += add
            return [worker() for _ in range(add)]

        yield Together([worker(), *more()], more)

    def _on_offset(self) -> None:
        """Let the SHA-256 be computed up to the first gap."""
        at = 0
        for upload in self._uploads:
            at = upload.part.begin + upload.offset
            if at < upload.part.end:
                break
        self._state.sha256.advance(at)
