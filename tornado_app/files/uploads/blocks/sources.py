"""Published files that have blocks of an upload already: the version that it changes, or another with all of them."""

from __future__ import annotations

import hmac
import math
import random
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from holdfast import digests as block_digests
from holdfast.digests import BLOCK, SIZE
from tornado_app import problems
from tornado_app.files import metrics
from tornado_app.files.store import powers
from tornado_app.files.store.blocks import FindsContent
from tornado_app.files.store.interface import FileReader, FileStore
from tornado_app.files.uploads.blocks.state import Runs

PROOF = 64
"""Most blocks of which a sender has to prove that it has them."""

MayRead = Callable[[str], bool]
"""Returns whether the sender of an upload may read a file of this name."""


def everything(name: str) -> bool:
    """Return True: whoever may upload may read every file."""
    return True


# -- the version that an upload changes


@dataclass(frozen=True, slots=True)
class Copy:
    """Neighbouring blocks that a file has: `digests` of those from its block `start` on, which belong at `index`."""

    start: int
    index: int
    digests: bytes

    @property
    def end(self) -> int:
        """Return the block after the last."""
        return self.index + len(self.digests) // SIZE


class Copier:
    """`Member` of a session: the server itself, while it copies blocks."""

    def __init__(self) -> None:
        self.is_to_end = False

    @property
    def active_at(self) -> float:
        """See `Member`."""
        return -math.inf if self.is_to_end else time.monotonic()

    def on_release_requested(self) -> None:
        """See `Member`."""
        self.is_to_end = True


def open_base(store: FileStore, name: str, etag: str, may_read: MayRead) -> FileReader:
    """Open this version of a file. Blocks.

    Raises:
        ProblemError: PRECONDITION_FAILED when there is none, or another, now; UNAVAILABLE while somebody writes to it.
    """
    try:
        reader = powers.open_for_digest(store, name) if may_read(name) else None
    except problems.ProblemError as error:
        if error.kind is not problems.NO_SUCH_FILE:
            raise
        reader = None
    if reader is None:
        raise problems.PRECONDITION_FAILED(f"there is no file {name!r} as a base. Create the upload without one")
    if reader.stat.etag != etag:
        reader.close()
        raise problems.PRECONDITION_FAILED(
            f"the base is another version now: the ETag of {name!r} is {reader.stat.etag}. "
            "Create the upload with that base, or without one",
            etag=reader.stat.etag,
        )
    return reader


def plan_copies(store: FileStore, base: FileReader, expected: bytes) -> list[Copy]:
    """Return which of the expected blocks a file has. Blocks, for long if the file's digests are not known yet."""
    digests = powers.block_digests(store, base)
    if digests is None:
        digests = powers.make_block_digests(store, base)
    return [] if digests is None else plan(digests, expected)


def plan(digests: bytes, expected: bytes) -> list[Copy]:
    """Return which blocks of a file with these digests are expected, best at the same place. Blocks for a while."""
    places: dict[bytes, int] = {}
    for at in range(0, len(digests), SIZE):
        places.setdefault(digests[at : at + SIZE], at)
    copies: list[Copy] = []
    begin = start = 0  # of the run that goes on
    for at in range(0, len(expected) + 1, SIZE):
        digest = expected[at : at + SIZE]
        if begin < at and digest and digests[start + at - begin : start + at - begin + SIZE] == digest:
            continue
        if begin < at:
            copies.append(Copy(start // SIZE, begin // SIZE, expected[begin:at]))
        found = at if digests[at : at + SIZE] == digest else places.get(digest)
        begin, start = (at + SIZE, 0) if found is None else (at, found)
    return copies


def runs(copies: list[Copy]) -> Runs:
    """Return the runs of blocks that copies bring."""
    return [(copy.index, copy.end) for copy in copies]


def split(copies: list[Copy], most: int) -> Iterator[Copy]:
    """Yield the copies in parts of at most so many blocks."""
    for copy in copies:
        for at in range(0, len(copy.digests) // SIZE, most):
            part = copy.digests[at * SIZE : (at + most) * SIZE]
            yield Copy(copy.start + at, copy.index + at, part)


# -- another file with all its content


@dataclass(frozen=True, slots=True)
class KnownContent:
    """A file that has the content of an upload, and the blocks of which the sender has to prove that it has them."""

    name: str
    digest: str
    proof: list[int]
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def open(self, store: FileStore) -> FileReader | None:
        """Open the file; None when it has gone or has other content now. Blocks."""
        try:
            reader = store.open(self.name)
        except problems.ProblemError:
            return None
        if reader.stat.block_digest != self.digest:
            reader.close()
            return None
        return reader

    def is_proved(self, reader: FileReader, proof: str | None) -> bool:
        """Return whether a proof was given, and it is right. Blocks. Raises DIGEST_MISMATCH for a wrong one."""
        if proof is None:
            return False
        blocks = (reader.read(index * BLOCK, BLOCK) for index in self.proof)
        if not hmac.compare_digest(block_digests.of_proof(self.nonce, blocks).hex(), proof):
            metrics.DIGEST_FAILURES.inc()
            raise problems.DIGEST_MISMATCH(
                "the proof is not the keyed hash of the blocks that were asked for. Send all blocks instead"
            )
        return not reader.changed()


def find_content(store: FileStore, blocks: bytes, size: int, may_read: MayRead) -> KnownContent | None:
    """Return a file that the sender may read and whose blocks have these digests. Blocks."""
    if not isinstance(store, FindsContent):
        return None
    digest = block_digests.of_blocks(blocks).hex()
    name = store.find_content(digest)
    if name is None or not may_read(name):
        return None
    count = block_digests.count(size)
    return KnownContent(name, digest, sorted(random.SystemRandom().sample(range(count), min(PROOF, count))))


def may_have(store: FileStore, size: int, first: bytes, may_read: MayRead) -> bool:
    """Return whether a file that the sender may read has this size and this first block. Blocks."""
    name = store.find_similar(size, first) if isinstance(store, FindsContent) else None
    return name is not None and may_read(name)
