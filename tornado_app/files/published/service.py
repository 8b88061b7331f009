"""Published files for HTTP: GET, HEAD, PUT and DELETE with their preconditions, decided in a worker thread."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from holdfast.wire import FileInfo, FilePage
from tornado_app import problems
from tornado_app.files import readahead
from tornado_app.files.published import decisions
from tornado_app.files.published.decisions import FileAnswer, info, plan, relevant, status_of
from tornado_app.files.sha256.service import Sha256Service
from tornado_app.files.store import powers
from tornado_app.files.store.interface import ABSENT, ANYTHING, FileReader, FileStat, FileStore, Precondition
from tornado_app.files.store.optional_powers import OpensAtOnce
from tornado_app.files.uploads.digest_check import DigestCheck
from tornado_app.files.uploads.service import Uploads
from tornado_app.files.uploads.small_files.requests import SmallUpload, SmallUploads
from tornado_app.files.uploads.upload import UploadRecord
from tornado_app.files.uploads.writer import Writer
from tornado_app.protocols import digests

SMALL = 64 * 1024
"""Up to so many bytes are read in the same call to a thread that finds and opens the file."""

DIGEST_WAIT_S = 3.0
"""Seconds that an answer waits for a SHA-256, for each point of preference in Want-Repr-Digest (RFC 9530: 0 to 10)."""

_TRIES = 3


@dataclass(frozen=True, slots=True)
class PutRequest:
    """A PUT whose body is to come: write it to `writer`. `replaces` says whether a file has this name already."""

    writer: Writer
    replaces: bool


class PublishedFiles:
    """The service behind `/v1/files`. Every method is one call to a worker thread."""

    def __init__(self, store: FileStore, uploads: Uploads, sha256: Sha256Service, small: SmallUploads) -> None:
        self._store = store
        self._opener = store if isinstance(store, OpensAtOnce) else None
        self._uploads = uploads
        self._sha256 = sha256
        self._small = small

    # -- reading

    def get(self, name: str, headers: Mapping[str, str], client: object = None) -> Awaitable[FileAnswer]:
        """Return the answer to a GET with these headers. `client` identifies the request, for `stop_waiting`.

        With a Want-Repr-Digest it waits for a SHA-256 that is not known, at most `DIGEST_WAIT_S` a point of preference.

        Raises:
            ProblemError: NO_SUCH_FILE, PRECONDITION_FAILED, RANGE_NOT_SATISFIABLE; UNAVAILABLE for a small file that
                somebody writes to all the time.
        """
        if "Want-Repr-Digest" in headers:
            return self._with_digest(self._get, name, headers, client)
        return self._uploads.run(self._get, name, relevant(headers))

    def head(self, name: str, headers: Mapping[str, str], client: object = None) -> Awaitable[FileAnswer]:
        """Return the answer to a HEAD: that of a GET without a Range, without the bytes. Waits and raises as `get`."""
        if "Want-Repr-Digest" in headers:
            return self._with_digest(self._head, name, headers, client)
        return self._uploads.run(self._head, name, relevant(headers))

    def stop_waiting(self, client: object) -> None:
        """Note that the client of a GET or HEAD has left, so that no digest is made for it."""
        self._sha256.leave(client)

    async def _with_digest(
        self, find: Callable[[str, dict[str, str]], FileAnswer], name: str, headers: Mapping[str, str], client: object
    ) -> FileAnswer:
        """Return an answer with the SHA-256 as well, where waiting for it is worth while."""
        patience = DIGEST_WAIT_S * digests.preference(headers["Want-Repr-Digest"], "sha-256")
        answer = await self._uploads.run(find, name, relevant(headers))
        if not patience or answer.stat.sha256 is not None or answer.status == 304:
            return answer
        made = self._sha256.ask(answer.stat, client)
        if made is None:
            return answer
        try:
            if self._sha256.seconds_left(name) <= patience:
                if answer.reader is not None:
                    await self._uploads.run(answer.reader.close)
                await asyncio.wait({made}, timeout=patience)
                answer = await self._uploads.run(find, name, relevant(headers))
        finally:
            self._sha256.expire(name, client)
        if answer.stat.sha256 is None and self._sha256.is_asked(name):
            answer.digest_in = max(1, math.ceil(self._sha256.seconds_left(name)))
        return answer

    async def page(self, prefix: str, after: str, limit: int, *, by_level: bool = False) -> FilePage:
        """Return at most `limit` files by name, from the one after `after`; `by_level` gives a folder for all in it."""
        return await self._uploads.run(self._page, prefix, after, limit, by_level)

    def _page(self, prefix: str, after: str, limit: int, by_level: bool) -> FilePage:
        found: Sequence[FileStat | str]
        if by_level:
            found = powers.level(self._store, prefix, after, limit + 1)
        else:
            found = self._store.listing(prefix, after, limit + 1)
        page, more = found[:limit], len(found) > limit
        last = page[-1] if more else None
        return FilePage(
            [info(item) for item in page if not isinstance(item, str)],
            next=last.name if isinstance(last, FileStat) else last,
            prefixes=[item for item in page if isinstance(item, str)],
        )

    def _head(self, name: str, headers: Mapping[str, str]) -> FileAnswer:
        stat = self._store.stat(name)
        return FileAnswer(status_of("HEAD", name, headers, stat), stat)

    def _get(self, name: str, headers: Mapping[str, str]) -> FileAnswer:
        for _ in range(_TRIES):
            answer = self._from_reader(name, headers, self._store.open(name))
            if answer is not None:
                return answer
        raise problems.UNAVAILABLE(f"{name!r} is being written to. Try again", headers={"Retry-After": "1"})

    @staticmethod
    def _from_reader(
        name: str, headers: Mapping[str, str], reader: FileReader, most: int | None = None
    ) -> FileAnswer | None:
        """Return the answer from an open file; None if it was written to meanwhile, or has more than `most` bytes."""
        keep = False
        try:
            answer = plan(name, headers, reader.stat)
            if answer.status == 304:
                return answer
            first, count = _extent(answer)
            if most is not None and count > most:
                return None
            keep = count > SMALL
            if keep:
                answer.reader = reader
                answer.is_ready = readahead.begin(reader, first, count)
                return answer
            answer.content = reader.read(first, count)
            return None if reader.changed() else answer
        finally:
            if not keep:
                reader.close()

    # -- on the event loop

    def get_at_once(self, name: str, headers: Mapping[str, str]) -> FileAnswer | None:
        """Return what `get` does for a small file that is in memory; None where that might wait. Raises as `get`."""
        reader = self._open_at_once(name)
        try:
            return None if reader is None else self._from_reader(name, relevant(headers), reader, most=SMALL)
        except BlockingIOError:
            return None

    def head_at_once(self, name: str, headers: Mapping[str, str]) -> FileAnswer | None:
        """Return what `head` does; None where that might wait. Raises as `head`."""
        reader = self._open_at_once(name)
        if reader is None:
            return None
        reader.close()
        return FileAnswer(status_of("HEAD", name, relevant(headers), reader.stat), reader.stat)

    def _open_at_once(self, name: str) -> FileReader | None:
        return None if self._opener is None else self._opener.open_at_once(name)

    # -- writing

    async def put(
        self,
        name: str,
        headers: Mapping[str, str],
        *,
        length: int | None,
        digests: Mapping[str, bytes],
        block_digest: Mapping[str, bytes],
        on_release_requested: Callable[[], None],
        client: str = "",
    ) -> PutRequest:
        """Begin to create or replace a file: write its bytes to the writer, then call `finish_put`.

        `digests` are those that the bytes should have, by hashlib name, and `block_digest` by its algorithm; `length`
        is None while it is not known; `client` as in `Uploads.create`.

        Raises:
            ProblemError: BAD_REQUEST, BAD_NAME, PRECONDITION_FAILED, and what `Uploads.create` raises.
        """
        current, expect = await self._uploads.run(self._expect_for_put, name, headers)
        checked = dict(digests)
        sha256 = checked.pop("sha256", None)  # made of the whole upload, which this request is
        record = UploadRecord(
            "put",
            name,
            time.time(),
            length=length,
            overwrite=not expect.absent,
            only=None if expect.etags is None else sorted(expect.etags),
            present=expect.present,
            digests={**block_digest} if sha256 is None else {**block_digest, "sha-256": sha256},
        )
        upload = await self._uploads.create(record, client=client)
        writer = await self._uploads.write(upload, 0, on_release_requested, DigestCheck(checked) if checked else None)
        return PutRequest(writer, replaces=current is not None)

    async def finish_put(self, put: PutRequest) -> FileInfo:
        """Publish the bytes in one step. Raises what `Uploads.finish` raises; nothing is kept then."""
        upload = put.writer.upload
        try:
            await self._uploads.finish(put.writer, last=True)
        except problems.ProblemError as error:
            if error.kind is problems.FILE_EXISTS:
                raise decisions.failed(
                    f"{upload.record.name!r} has come to be in the meantime", **error.members
                ) from None
            if error.kind is problems.CHECKSUM_MISMATCH:
                raise problems.DIGEST_MISMATCH(error.detail) from None
            raise
        return info(cast(FileStat, upload.published))

    def begin_small_put(
        self, name: str, *, length: int, digests: Mapping[str, bytes], block_digest: bytes | None, client: str = ""
    ) -> SmallUpload:
        """Begin to create or replace a small file: `finish_small_put` or `cancel_small_put` follows.

        Raises:
            ProblemError: BAD_NAME, TOO_LARGE, TOO_MANY.
        """
        return self._small.begin(name, length, digests, block_digest, client)

    def cancel_small_put(self, upload: SmallUpload) -> None:
        """Forget a request that was cut. Does nothing once its file is being published."""
        self._small.cancel(upload)

    async def finish_small_put(self, upload: SmallUpload, headers: Mapping[str, str]) -> tuple[FileInfo, bool]:
        """Publish a small file, and return it and whether it replaces one; its bytes are all there.

        Raises:
            ProblemError: BAD_REQUEST, BAD_NAME, PRECONDITION_FAILED, DIGEST_MISMATCH, UNAVAILABLE, NO_SPACE.
        """
        name = upload.name
        given = {field: headers[field] for field in decisions.CONDITIONS if field in headers}
        simple = ANYTHING if not given else ABSENT if given == {"If-None-Match": "*"} else None
        try:
            placed = await self._small.publish(
                upload, lambda: self._expect_for_put(name, given)[1] if simple is None else simple
            )
        except problems.ProblemError as error:
            if error.kind is not problems.FILE_EXISTS:
                raise
            etag = error.members.get("etag")
            if etag is None:
                raise decisions.failed(f"{name!r} has come to be in the meantime", **error.members) from None
            raise decisions.failed(
                f"{name!r} is not the version that the request expects. Its ETag is {etag}", etag=etag
            ) from None
        return info(placed.stat), placed.replaces

    async def delete(self, name: str, headers: Mapping[str, str]) -> None:
        """Delete a file. Raises BAD_REQUEST, BAD_NAME, NO_SUCH_FILE, PRECONDITION_FAILED."""
        await self._uploads.run(self._delete, name, headers)
        self._uploads.events.of_file(name, "deleted")

    def _delete(self, name: str, headers: Mapping[str, str]) -> None:
        current = self._store.check_target(name, removing=True)
        if current is None:
            raise problems.NO_SUCH_FILE(f"there is no file {name!r}. GET /v1/files lists those that there are")
        self._store.delete(name, decisions.precondition("DELETE", name, headers, current))

    def _expect_for_put(self, name: str, headers: Mapping[str, str]) -> tuple[FileStat | None, Precondition]:
        current = self._store.check_target(name)
        return current, decisions.precondition("PUT", name, headers, current)


def _extent(answer: FileAnswer) -> tuple[int, int]:
    """Return the offset and the count of the bytes to read; several spans count as more than is read at once."""
    if answer.spans is None:
        return 0, answer.stat.size
    if len(answer.spans) > 1:
        return 0, SMALL + 1
    return answer.spans[0].first, answer.spans[0].length
