"""One upload: its record, which is kept beside its bytes, and its state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from holdfast.wire import UploadInfo
from tornado_app.files.store.hashing import DigestChoice
from tornado_app.files.store.interface import ABSENT, FileStat, Precondition, StagedData

Kind = Literal["seed", "tus", "draft", "plain", "put", "blocks"]


class UploadRecord(msgspec.Struct, omit_defaults=True):
    """The record of an upload, kept beside its bytes.

    `name` is None for a part of another upload (tus), which never becomes a file by itself. `length` is None while it
    is not known. `in_view`: the file is shown under its name as it grows. `digests`, by their names in Repr-Digest and
    Block-Digest, are what the sender says that the whole will have. `metadata` and `concat` are as they were sent
    (tus); `parts` are the ids that `concat` names. `joined` is when a part became part of a file, by the clock of
    uploads. `only` and `present`: the upload may replace a file with one of these entity tags, or any file, but not
    create one. `base` is the entity tag of the version that it takes blocks from. `broken` says why nothing can be
    appended any more; "" while something can.
    """

    kind: Kind
    name: str | None
    created: float
    length: int | None = None
    overwrite: bool = False
    only: list[str] | None = None
    present: bool = False
    base: str = ""
    in_view: bool = False
    digests: dict[str, bytes] = {}
    metadata: str = ""
    concat: str = ""
    parts: list[str] = []
    joined: float = 0.0
    broken: str = ""

    @property
    def precondition(self) -> Precondition:
        """Return what must exist under the name when the upload is published."""
        if not self.overwrite:
            return ABSENT
        return Precondition(etags=None if self.only is None else frozenset(self.only), present=self.present)

    @property
    def is_one_request(self) -> bool:
        """Return whether nobody can resume it: its client does not know its id."""
        return self.kind in ("plain", "put")

    @property
    def is_kept(self) -> bool:
        """Return whether its state stays after it has become a file, for as long as uploads are kept."""
        return self.kind in ("tus", "draft", "blocks")


class Upload:
    """One upload, as the event loop knows it."""

    def __init__(
        self,
        id: str,
        record: UploadRecord,
        staged: StagedData,
        *,
        digests: DigestChoice,
        most: int | None,
        client: str = "",
    ) -> None:
        self.id = id
        self.client = client
        self.record = record
        self.staged = staged
        self._digests, self.digest = digests, digests.of(staged, record.digests)
        self.removed = False
        self.stored: int | None = None  # of an upload by blocks: how many bytes are there, anywhere
        self.blocks: bytes | None = None  # the digests of its blocks, once it ends
        self.idle_since = 0.0  # by the clock of uploads
        self.moved_at = 0.0  # by `steady`: when bytes came last, and when an event said so
        self.announced_at = 0.0
        self._most = most

    def reload(self, record: UploadRecord, staged: StagedData) -> None:
        """Replace what was known of an upload that another server has written to."""
        self.record = record
        self.staged = staged
        self.digest = self._digests.of(staged, record.digests)

    @property
    def offset(self) -> int:
        """Return how many bytes are written."""
        return self.staged.offset if self.stored is None else self.stored

    @property
    def limit(self) -> int | None:
        """Return where the bytes have to end: the length, or the most that this server takes."""
        return self.record.length if self.record.length is not None else self._most

    @property
    def broken(self) -> str:
        """Return why nothing can be appended any more; "" while something can."""
        return self.record.broken

    @property
    def published(self) -> FileStat | None:
        """Return the file that it became."""
        return self.staged.published

    @property
    def is_empty(self) -> bool:
        """Return whether bytes are expected and none has come."""
        return self.offset == 0 and not self.record.parts and not self.complete

    @property
    def has_all(self) -> bool:
        """Return whether every byte is there, be it a file yet or not."""
        record = self.record
        return record.length is not None and self.offset >= record.length and not record.broken

    def has_length(self, offset: int) -> bool:
        """Return whether every byte is there once the upload stands at `offset`."""
        record = self.record
        return record.length is not None and offset >= record.length and not record.broken

    @property
    def complete(self) -> bool:
        """Return whether nothing is left to do."""
        return self.staged.published is not None or (self.record.name is None and self.has_all)

    @property
    def is_ready_to_publish(self) -> bool:
        """Return whether every byte is there and no client has to say so.

        By the IETF draft, and of an upload by blocks, the sender completes it, not its length.
        """
        return self.has_all and self.record.kind not in ("draft", "blocks") and not self.complete

    def info(self, expires: float) -> UploadInfo:
        """Return it as it crosses the wire; `expires` in seconds since the epoch."""
        return UploadInfo(
            id=self.id,
            name=self.record.name or "",
            offset=self.offset,
            length=self.record.length,
            created=datetime.fromtimestamp(self.record.created, UTC),
            expires=datetime.fromtimestamp(expires, UTC),
            complete=self.complete,
        )
