"""Upload by blocks, over several connections, straight into their places; also of the missing blocks alone."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

from holdfast import calls, digests, wire
from holdfast._transfers.pace import MOST_AT_ONCE, Growth
from holdfast._transfers.upload.body import UploadBody
from holdfast._transfers.upload.sequential import TRIES, damaged
from holdfast._transfers.upload.state import UploadState, problem_of, ranges_of
from holdfast.digests import BLOCK
from holdfast.errors import APIError, BadRequest, Conflict, Gone, NotFound, TooLarge, TransportError
from holdfast.plans import Backoff, Do, Plan, Together, request

Blocks = tuple[int, int]  # the first block, and the one after the last


class NoBlockUploadsError(Exception):
    """The server has no uploads by blocks, or a proxy on the way forwards no body as large as a block."""


class UploadByBlocks:
    """Upload of a source of known size. Blocks are sent in any order; an interrupted upload asks what is missing."""

    def __init__(self, state: UploadState) -> None:
        self._state = state
        self._free: list[Blocks] = []
        self._missing = 0  # bytes that are free or on their way
        self._under_way: dict[int, int] = {}  # bytes of each request, by its first block
        self._wrong = 0  # refused blocks, since the last one that was not
        self._upload: wire.BlockUpload
        state.by_blocks = True

    def create(
        self, *, etag: str | None = None, base: str | None = None, blocks: bytes | None = None
    ) -> Plan[wire.BlockUpload]:
        """Create the upload, and note it in the record. With `blocks`, all digests, the server says what it has.

        Raises:
            NoBlockUploadsError: the server has none.
        """
        state = self._state
        overwrite = state.may_replace or etag is not None
        call = calls.create_block_upload(
            state.name, state.size, overwrite=overwrite, etag=etag, base=base, blocks=blocks
        )
        try:
            self._upload = yield from request(call, state.retries)
        except APIError as error:
            if error.status in (404, 405, 501):
                raise NoBlockUploadsError from None
            raise
        state.record.blocks, state.record.parts = self._upload.id, []
        yield from state.save()
        self._take_missing()
        return self._upload

    def locate(self) -> Plan[bool]:
        """Ask what the upload of the record is missing. Return whether it still exists."""
        state = self._state
        try:
            self._upload = yield from request(calls.get_block_upload(state.record.blocks), state.retries)
        except (NotFound, Gone):
            state.record.blocks, state.is_doubtful = "", False
            return False
        self._take_missing()
        return True

    def _take_missing(self) -> None:
        state = self._state
        with state.lock:
            self._free = [(first, last) for first, last in self._upload.missing]
            self._under_way = {}
            self._missing = sum(self._bytes(blocks) for blocks in self._free)
        self._report()

    def _bytes(self, blocks: Blocks) -> int:
        return min(self._state.size, blocks[1] * BLOCK) - blocks[0] * BLOCK

    def _report(self) -> None:
        self._state.report_all(self._state.size - self._missing + sum(self._under_way.copy().values()))

    # -- the plan

    def run(self) -> Plan[wire.FileInfo]:
        """Send what is missing, and return the published file."""
        state = self._state
        if self._upload.file is not None:
            return self._upload.file
        if state.is_doubtful:
            yield from self._compare()
        for _ in range(TRIES):
            yield from self._send_missing()
            digest = yield from state.digest()
            proof: str | None = yield Do(self._proof)
            try:
                file: wire.FileInfo = yield from request(
                    calls.end_block_upload(self._upload.id, digest.hex(), proof=proof), state.retries
                )
            except (BadRequest, Conflict) as error:
                problem = problem_of(error)
                if problem not in ("digest-mismatch", "conflict") or not (yield from self.locate()):
                    raise
            else:
                return file
            if problem == "digest-mismatch":
                yield from self._compare()
        raise damaged(state.name)

    def _proof(self) -> str | None:
        """Return the proof that this side has the content of blocks which the server has already."""
        if not self._upload.proof or self._upload.nonce is None:
            return None
        source, size = self._state.source, self._state.size
        blocks = (source.read(i * BLOCK, min(BLOCK, size - i * BLOCK)) for i in self._upload.proof)
        return digests.of_proof(bytes.fromhex(self._upload.nonce), blocks).hex()

    def _compare(self) -> Plan[None]:
        """Compare what the server has with the local file, and let blocks that differ be sent again.

        Raises:
            LocalChanged: the file has changed since they were sent, and this is not a delta upload.
        """
        state = self._state
        there = [i for i in range(state.digests.count) if not any(first <= i < last for first, last in self._free)]
        for first, last in ranges_of(there):
            yield from state.hash_blocks(first, last)
        found: wire.BlockDigests = yield from request(calls.block_upload_digests(self._upload.id), state.retries)
        wrong = ranges_of(state.wrong_blocks(found.blocks, there))
        self._free = sorted([*self._free, *wrong])
        self._missing += sum(self._bytes(blocks) for blocks in wrong)
        self._report()
        yield from state.trust_local()

    def _send_missing(self) -> Plan[None]:
        state = self._state
        growth = Growth(state.connections or MOST_AT_ONCE, at_once=state.connections is not None)
        workers = 1

        def more() -> list[Plan[None]]:
            nonlocal workers
            add = growth.more(workers, state.done, state.size - state.done)
            workers += add
            return [self._work() for _ in range(add)]

        if self._free:
            yield Together([self._work(), *more()], more)

    def _work(self) -> Plan[None]:
        """Send free blocks until there are none."""
        state = self._state
        backoff = Backoff(state.retries)
        while (blocks := self._next()) is not None:
            first, start = blocks[0], time.monotonic()
            body = UploadBody(state, first * BLOCK, self._bytes(blocks), partial(self._report_sent, first))
            try:
                yield calls.put_blocks(self._upload.id, first, body)
                state.pieces.sent(body.length, time.monotonic() - start)
                self._arrived(blocks, [])
                backoff.reset()
            except TooLarge:
                self._arrived(blocks, [blocks])
                if body.length <= BLOCK or not state.pieces.too_large(body.length):
                    raise NoBlockUploadsError from None
            except BadRequest as error:
                if problem_of(error) != "digest-mismatch":
                    raise
                yield from self._after_error(blocks, backoff, error)
            except (TransportError, APIError) as error:
                if isinstance(error, (NotFound, Gone)):
                    raise
                yield backoff.after(error, repeatable=True)
                yield from self._after_error(blocks, backoff, error)
            yield from state.save_digests()

    def _next(self) -> Blocks | None:
        """Take blocks for one request: fewer towards the end, so that all connections end together."""
        state = self._state
        with state.lock:
            if not self._free:
                return None
            first, last = self._free[0]
            left = sum(end - begin for begin, end in self._free)
            workers = 1 + len(self._under_way)
            most = max(1, min(state.pieces.size // BLOCK, -(-left // (2 * workers))))
            blocks = (first, min(last, first + most))
            self._free[:1] = [(blocks[1], last)] if blocks[1] < last else []
            self._under_way[first] = 0
            return blocks

    def _arrived(self, blocks: Blocks, missing: Iterable[Blocks]) -> None:
        """Note that a request has ended, and which of its blocks are still missing."""
        state = self._state
        again = [*missing]
        with state.lock:
            self._under_way.pop(blocks[0], None)
            self._free = sorted([*self._free, *again])
            self._missing -= self._bytes(blocks) - sum(map(self._bytes, again))
        self._report()

    def _after_error(self, blocks: Blocks, backoff: Backoff, error: APIError | TransportError) -> Plan[None]:
        """Ask which blocks of a request that broke, or was refused, have arrived."""
        state = self._state
        found: wire.BlockUpload = yield from request(calls.get_block_upload(self._upload.id), state.retries)
        inside = ((max(first, blocks[0]), min(last, blocks[1])) for first, last in found.missing)
        missing = [(first, last) for first, last in inside if first < last]
        came = self._bytes(blocks) - sum(map(self._bytes, missing))
        state.pieces.broken(came)
        self._arrived(blocks, missing)
        if came:
            backoff.reset()
            self._wrong = 0
        elif isinstance(error, BadRequest):
            self._wrong += 1
            if self._wrong >= TRIES:
                raise damaged(state.name)

    def _report_sent(self, first: int, count: int) -> None:
        self._under_way[first] = count
        self._report()
