"""Upload over one connection, from the offset that the server has, verified at the end."""

from __future__ import annotations

from functools import partial

from holdfast import calls, plans, wire
from holdfast._local_files.records import PartUpload
from holdfast._transfers.upload.body import UploadBody
from holdfast._transfers.upload.state import UploadState, problem_of, ranges_of
from holdfast._transfers.upload.tus import TusUpload, metadata_of
from holdfast.digests import BLOCK
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
from holdfast.plans import Backoff, Do, Plan, request

REPLACED = 8  # blocks that the server takes in one request
TRIES = 4  # times that wrong blocks are sent again


class SequentialUpload:
    """Upload of a source of known size by tus 1.0.0.

    The bytes are hashed as they are sent. The last block is held back until the digest of the whole is known, and goes
    with it: the server publishes what it has verified, and names wrong blocks, which alone are sent again.
    """

    def __init__(self, state: UploadState) -> None:
        self._state = state
        if not state.record.parts:
            state.record.parts = [PartUpload(0, state.size)]
        self._tus = TusUpload(state, state.record.parts[0], metadata_of(state), self._on_offset)
        self._mended = 0

    def _on_offset(self) -> None:
        if not self._state.by_blocks:
            self._state.sha256.advance(self._tus.offset)

    def run(self) -> Plan[wire.FileInfo]:
        """Send what is missing, and return the published file."""
        state, tus = self._state, self._tus
        yield from tus.locate()
        if state.is_doubtful:
            yield from self._compare()
        if not state.by_blocks:
            return (yield from self._run_by_sha256())
        backoff = Backoff(state.retries)
        while True:
            before = tus.offset
            yield from tus.send(state.size - min(BLOCK, state.pieces.size))
            if tus.offset > before:
                backoff.reset()
            digest = yield from state.digest()
            try:
                return (yield from self._end(digest))
            except TooLarge:
                if not state.pieces.too_large(state.size - tus.offset):
                    raise
            except BadRequest as error:
                if problem_of(error) != "digest-mismatch":
                    raise
                yield from tus.locate()
                yield from self._mend()
            except (TransportError, APIError) as error:
                yield backoff.after(error, repeatable=True, moved=isinstance(error, (OffsetMismatch, NotFound, Gone)))
            yield from tus.locate()

    def _end(self, digest: bytes) -> Plan[wire.FileInfo]:
        """Send the last bytes, and the digest of the whole."""
        state, tus = self._state, self._tus
        left = state.size - tus.offset
        body = UploadBody(state, tus.offset, left, partial(self._report_sent, tus.offset)) if left else b""
        head: calls.UploadHead = yield calls.append(tus.part.id, tus.offset, body, block_digest=digest)
        state.report(0, head.offset)
        return (yield from plans.info(state.name, state.retries))

    def _report_sent(self, before: int, count: int) -> None:
        self._state.report(0, before + count)

    # -- wrong blocks

    def _mend(self) -> Plan[None]:
        """Send the blocks again that the server has otherwise."""
        state = self._state
        if self._mended == TRIES:
            raise damaged(state.name)
        self._mended += 1
        yield from self._replace(state.digests.count)

    def _compare(self) -> Plan[None]:
        """Compare what the server has with the local file, whose time has changed.

        Raises:
            LocalChanged: the content has changed, too, and this is not a delta upload.
        """
        state, tus = self._state, self._tus
        if tus.offset and not state.by_blocks:
            raise state.changed()
        whole = tus.offset // BLOCK
        yield from state.hash_blocks(0, whole)
        if whole:
            yield from self._replace(whole)
        yield from state.trust_local()

    def _replace(self, count: int) -> Plan[None]:
        """Compare the first blocks with those of the server, and send again what differs."""
        state, id = self._state, self._tus.part.id
        try:
            found: wire.BlockDigests = yield from request(calls.upload_digests(id), state.retries)
        except NotFound:  # the upload has gone, or this server names no blocks
            raise damaged(state.name) from None
        for first, last in ranges_of(state.wrong_blocks(found.blocks, range(count)), REPLACED):
            begin, end = first * BLOCK, min(last * BLOCK, self._tus.offset or state.size)
            yield from request(calls.replace_blocks(id, first, UploadBody(state, begin, end - begin)), state.retries)

    # -- servers without block digests

    def _run_by_sha256(self) -> Plan[wire.FileInfo]:
        state, tus = self._state, self._tus
        yield from tus.send(state.size)
        if tus.is_asked and tus.offset > 0:  # repeats a refusal to publish whose response was lost
            yield from request(calls.append(tus.part.id, tus.offset, b""), state.retries)
        sha256: str = yield Do(partial(state.sha256.finish, state.size))
        return (yield from published(state, sha256))


def damaged(name: str) -> DigestMismatch:
    """Return the error for blocks that arrive changed again and again."""
    return DigestMismatch(
        f"blocks of {name!r} arrived changed {TRIES} times. Check the network and the disks, and upload it again"
    )


def published(state: UploadState, sha256: str) -> Plan[wire.FileInfo]:
    """Return the file that was published. Raises `DigestMismatch` if it is another one."""
    file = yield from plans.info(state.name, state.retries, sha256=True)  # a server that makes none says so at once
    if file.sha256 is not None and file.sha256 != sha256:
        raise DigestMismatch(
            f"{state.name!r} was published with SHA-256 {file.sha256}, but {sha256} was sent. Upload it again"
        )
    return file
