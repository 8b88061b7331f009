"""One upload: what is kept of it beside its bytes, and how it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from tornado_app.files.store.interface import ABSENT, FileStat, Precondition, StagedData
from tornado_app.files.uploads.hashing import RunningDigest
from tornado_app.files.uploads.lease import Lease

if TYPE_CHECKING:
    from tornado_app.files.uploads.writer import Writer

Kind = Literal["seed", "tus", "draft", "plain", "put"]


class UploadRecord(msgspec.Struct, omit_defaults=True):
    """What is known of an upload besides its bytes; kept on disk beside them.

    `name` is None for a part of another upload (tus), which never becomes a file by itself. `length` is None while it
    is not known. `in_view`: shown under its name as it grows. `digests` by algorithm (RFC 9530) are what the sender
    says the whole will have. `metadata` and `concat` are as they were sent (tus); `parts` are the ids that `concat`
    names. `joined` is when a part became part of a file, by the clock of uploads. `only` and `present`: it may
    replace a file with one of these entity tags, or any file, but not come to be where there is none. `broken` says why
    it can't go on, if it can't.
    """

    kind: Kind
    name: str | None
    created: float
    length: int | None = None
    overwrite: bool = False
    only: list[str] | None = None
    present: bool = False
    in_view: bool = False
    digests: dict[str, bytes] = {}
    metadata: str = ""
    concat: str = ""
    parts: list[str] = []
    joined: float = 0.0
    broken: str = ""

    @property
    def expect(self) -> Precondition:
        """What may stand under the name at the end."""
        if not self.overwrite:
            return ABSENT
        return Precondition(etags=None if self.only is None else frozenset(self.only), present=self.present)

    @property
    def is_one_request(self) -> bool:
        """Nobody can go on with it: its client has no name for it."""
        return self.kind in ("plain", "put")

    @property
    def is_kept(self) -> bool:
        """It can still be asked for once it has become a file, for as long as uploads are kept."""
        return self.kind in ("tus", "draft")


class Upload:
    """One upload, as the event loop knows it."""

    def __init__(
        self, id: str, record: UploadRecord, staged: StagedData, *, digest: bool, most: int | None, client: str = ""
    ) -> None:
        self.id = id
        self.client = client
        self.record = record
        self.staged = staged
        self.digest = RunningDigest(staged) if digest else None
        self.lease = Lease()
        self.removed = False
        self.broken = record.broken  # known here even where it could not be written down
        self.idle_since = 0.0  # by the clock of uploads
        self.moved = 0.0  # when bytes came last, by `steady`, and when news were told of it
        self.told = 0.0
        self._most = most

    @property
    def writer(self) -> Writer | None:
        """The request that writes to it."""
        return self.lease.writer

    @property
    def offset(self) -> int:
        """Bytes that are down."""
        return self.staged.offset

    @property
    def limit(self) -> int | None:
        """Where it has to end: its length, or what the server takes at most."""
        return self.record.length if self.record.length is not None else self._most

    @property
    def published(self) -> FileStat | None:
        """The file that it became."""
        return self.staged.published

    @property
    def is_empty(self) -> bool:
        """Nothing has come, and something is to come."""
        return self.offset == 0 and not self.record.parts and not self.complete

    @property
    def has_all(self) -> bool:
        """Every byte is there, whether it is a file yet or not."""
        return self.record.length is not None and self.offset >= self.record.length and not self.broken

    @property
    def complete(self) -> bool:
        """Nothing is left to do."""
        return self.published is not None or (self.record.name is None and self.has_all)

    @property
    def is_ready_to_publish(self) -> bool:
        """Every byte is there and nobody has to say so: by the draft the sender completes an upload, not its length."""
        return self.has_all and not self.complete and self.record.kind != "draft"
