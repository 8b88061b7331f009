"""The uploads that this server knows: look-up by id, their records, and the places that those in the making take."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from tornado_app import problems
from tornado_app.files import metrics, workspace
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.store.interface import FileStore, StagedData
from tornado_app.files.uploads.lease.interface import UploadLeases
from tornado_app.files.uploads.limits import SizeLimits
from tornado_app.files.uploads.upload import Upload, UploadRecord
from tornado_app.settings import Settings

log = logging.getLogger("holdfast.files")

MOST_OPEN = 128
"""Uploads whose descriptors stay open while nobody writes."""

_RETRY_S = 10  # after which one of too many uploads may have ended
_EXPIRED = 10_000  # ids of expired uploads that are remembered


class UploadRegistry:
    """Uploads by id. Lives on the event loop."""

    def __init__(self, settings: Settings, store: FileStore, executor: BlockingExecutor, limits: SizeLimits) -> None:
        self._most, self._most_each = settings.max_uploads, settings.max_uploads_each
        self._store = store
        self._executor = executor
        self._limits = limits
        self._all: dict[str, Upload] = {}
        self._share = metrics.Share(metrics.IN_THE_MAKING)
        self._making: dict[str, str] = {}  # the client by the upload's id
        self._per_client: Counter[str] = Counter()
        self._expired: OrderedDict[str, None] = OrderedDict()
        self._open: OrderedDict[str, Upload] = OrderedDict()

    def __iter__(self) -> Iterator[Upload]:
        return iter([*self._all.values()])

    def __len__(self) -> int:
        return len(self._all)

    # -- look-up

    def get(self, id: str, *, broken: bool = False) -> Upload:
        """Return an upload; one that is broken only with `broken=True`.

        Raises:
            ProblemError: NO_SUCH_UPLOAD, GONE for one that expired, BROKEN.
        """
        upload = self._all.get(id)
        if upload is not None:
            if upload.record.broken and not broken:
                self.check_usable(upload)
            return upload
        if id in self._expired:
            raise problems.GONE(f"the upload {id!r} has expired. Create another")
        raise problems.NO_SUCH_UPLOAD(
            f"there is no upload {id[:128]!r}. It was cancelled, has expired or never was: create another"
        )

    def find(self, id: str) -> Upload | None:
        """Return the upload of this id, or None."""
        return self._all.get(id)

    def after(self, id: str, limit: int) -> list[Upload]:
        """Return at most `limit` uploads in the order of their ids, from the one after `id`."""
        return [self._all[id] for id in sorted(other for other in self._all if other > id)[:limit]]

    @staticmethod
    def check_usable(upload: Upload) -> None:
        """Raise NO_SUCH_UPLOAD for an upload that was removed meanwhile, BROKEN for one that can't go on."""
        if upload.removed:
            raise problems.NO_SUCH_UPLOAD(f"the upload {upload.id!r} was removed. Create another")
        if upload.record.broken:
            raise problems.BROKEN(
                f"the upload {upload.id!r} can't go on: {upload.record.broken}. Delete it and create another"
            )

    # -- places

    @property
    def in_the_making(self) -> int:
        """Return how many uploads take a place."""
        return len(self._making)

    def takes_place(self, id: str) -> bool:
        """Return whether this upload is counted as one in the making."""
        return id in self._making

    def reserve(self, id: str, client: str) -> None:
        """Take a place for an upload that is about to be made. Raises CONFLICT, TOO_MANY."""
        if id in self._all or id in self._making:
            raise problems.CONFLICT(f"there is an upload {id!r} already. Use another id")
        if len(self._making) >= self._most:
            raise problems.TOO_MANY(
                f"{len(self._making)} uploads are in the making, as many as this server takes (--max-uploads). "
                "Finish or cancel one, or try again later",
                headers={"Retry-After": str(_RETRY_S)},
            )
        count = self._per_client[client] if client else 0
        if client and count >= self._most_each:
            raise problems.TOO_MANY(
                f"{count} uploads of yours are in the making, as many as one token at one address may have "
                "(--max-uploads-each). Finish or cancel one, or try again later",
                headers={"Retry-After": str(_RETRY_S)},
            )
        self._occupy(id, client)

    def vacate(self, id: str) -> None:
        """Give up the place of an upload."""
        client = self._making.pop(id)
        self._per_client[client] -= 1
        if not self._per_client[client]:
            del self._per_client[client]

    def _occupy(self, id: str, client: str) -> None:
        self._making[id] = client
        self._per_client[client] += 1

    def recount(self, upload: Upload) -> None:
        """Take or give up the place of an upload whose state has changed."""
        is_making = not (upload.removed or upload.record.broken or upload.complete)
        if is_making != (upload.id in self._making):
            if is_making:
                self._occupy(upload.id, upload.client)
            else:
                self.vacate(upload.id)
            self._share.set(len(self._making))

    def close(self) -> None:
        """Count none of these uploads any more."""
        self._share.set(0)

    # -- changes

    def add(self, upload: Upload) -> None:
        """Know an upload from now on."""
        self._all[upload.id] = upload
        self.recount(upload)
        self._share.set(len(self._making))

    def remove(self, upload: Upload, *, expired: bool = False) -> None:
        """Forget an upload; `get` answers GONE from now on when it has `expired`."""
        upload.removed = True
        self._all.pop(upload.id, None)
        self._open.pop(upload.id, None)
        self.recount(upload)
        if expired:
            self._expired[upload.id] = None
            if len(self._expired) > _EXPIRED:
                self._expired.popitem(last=False)

    def keep_open(self, upload: Upload, leases: UploadLeases) -> Upload | None:
        """Keep the descriptor of an upload, and return one that nobody writes to and whose descriptor has to close."""
        self._open[upload.id] = upload
        self._open.move_to_end(upload.id)
        if len(self._open) > MOST_OPEN:
            for other in self._open.values():
                if leases.holder(other.id) is None:
                    return self._open.pop(other.id)
        return None

    def create(self, id: str, record: UploadRecord) -> StagedData:
        """Create the staged bytes of an upload. Blocks. Raises BAD_NAME, FILE_EXISTS, NO_SPACE."""
        if record.name is not None:
            record.precondition.check(record.name, self._store.check_target(record.name))
        self._limits.check_space(record.length or 0)
        return self._store.create(id, msgspec.json.encode(record))

    async def reload(self, upload: Upload) -> None:
        """Read an upload again, which another server may have changed. Raises NO_SUCH_UPLOAD if it was removed."""
        try:
            upload.reload(*await self._executor.run(_load_again, self._store, upload.staged))
        except problems.ProblemError as error:
            if error.kind is problems.NO_SUCH_UPLOAD:
                self.remove(upload)
            raise
        self.recount(upload)

    async def update_record(self, upload: Upload, **changes: Any) -> None:
        """Change the record of an upload, as durably as everything about it."""
        record = msgspec.structs.replace(upload.record, **changes)
        await self._executor.run(upload.staged.set_info, msgspec.json.encode(record))
        upload.record = record

    async def set_length(self, upload: Upload, length: int) -> None:
        """Record the length of an upload. Raises INCONSISTENT_LENGTH for one that it can't have, TOO_LARGE."""
        await self.describe_whole(upload, length)

    async def describe_whole(
        self, upload: Upload, length: int | None = None, digests: Mapping[str, bytes] | None = None
    ) -> None:
        """Record the length of an upload and digests that its sender says that the whole will have.

        None: not said. Raises INCONSISTENT_LENGTH for a length that it can't have, TOO_LARGE.
        """
        changes: dict[str, Any] = {}
        if length is not None and upload.record.length != length:
            if upload.record.length is not None or length < upload.offset:
                known = f"{upload.record.length}" if upload.record.length is not None else f"at least {upload.offset}"
                raise problems.INCONSISTENT_LENGTH(
                    f"the length can't be {length}: it is {known}", bytes_read=upload.offset
                )
            self._limits.check_length(length)
            changes["length"] = length
        given = {**upload.record.digests, **(digests or {})}
        if given != upload.record.digests:
            changes["digests"] = given
        if changes:
            await self.update_record(upload, **changes)

    async def mark_broken(self, upload: Upload, why: str, error: BaseException | None = None) -> None:
        """Allow nothing but deleting an upload from here on: its bytes are not what they are taken for."""
        upload.record = msgspec.structs.replace(upload.record, broken=why)  # also where it can't be written
        log.error("upload %s can't go on: %s", upload.id, why, exc_info=error)
        try:
            await self.update_record(upload)
        except (problems.ProblemError, OSError):
            log.exception("the record of upload %s, which can't go on, could not be written", upload.id)
        self.recount(upload)


def _load_again(store: FileStore, staged: StagedData) -> tuple[UploadRecord, StagedData]:
    staged.close()
    staged = store.load(staged.id)
    return msgspec.json.decode(staged.info, type=UploadRecord), staged


def find_left(store: FileStore) -> tuple[list[tuple[str, UploadRecord, StagedData]], float | None]:
    """Start the store, and return the uploads that an earlier server left and the time that it noted last. Blocks.

    An upload that nobody can resume is removed; one whose record can't be read is left as it is.
    """
    store.start()
    found = []
    for id in store.staged_ids():
        if id.startswith(workspace.PREFIX):
            continue
        try:
            staged = store.load(id)
            staged.close()
            record = msgspec.json.decode(staged.info, type=UploadRecord)
        except (problems.ProblemError, msgspec.MsgspecError, OSError) as error:
            log.error("the record of upload %s can't be read, and it is left as it is: %s", id, error)
            continue
        if record.is_one_request or (staged.published is not None and not record.is_kept):
            staged.discard()
        else:
            found.append((id, record, staged))
    return found, store.noted_time()
