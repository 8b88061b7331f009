"""`fetch`: download a URL into the files directory, and resume where the connection was cut."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

import msgspec

from holdfast.work import Job, Progress, StagedFile, WorkError, work_type
from tornado_app.files import names
from tornado_app.protocols import dates
from tornado_app.protocols.ranges import RangePart, read_content_range

# `url_policy` is imported where it is used: its HTTP client takes a third of a second, and few servers fetch.
if TYPE_CHECKING:
    from tornado_app.work_types.url_policy import FetchedResponse, UrlPolicy

_SAFE_POINT_BYTES = 1 << 20
_SAFE_POINT_SECONDS = 0.2
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_DATES_APART = 60  # seconds that Last-Modified must be before Date for the date to be a strong validator
_LATER = (408, 425, 429)
_SMALL = 64 * 1024  # bytes: a request that brings fewer is followed by a wait
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0  # seconds


class Fetch(msgspec.Struct):
    """`url` must begin with a URL of the setting `fetch_allow`. `file_name` is by default the last part of its path.

    With `sha256` (hexadecimal) the file is published only if that is its digest.
    """

    url: Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]
    file_name: str = ""
    sha256: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-fA-F]{64})?$(?!\n)")] = ""


class TryAgain(WorkError):
    """Error that a later attempt may not meet."""


class _FetchCheckpoint(msgspec.Struct, frozen=True):
    """`byte` bytes of `total` (None: unknown) are staged; `validator` is what If-Range needs, "" when there is none."""

    byte: int = 0
    total: int | None = None
    validator: str = ""
    whole: bool = False

    def progress(self) -> Progress:
        of = "" if self.total is None else f" of {self.total}"
        return Progress(self.byte, self.total, self, f"{self.byte}{of} bytes")


@work_type("fetch", params=Fetch, checkpoint=_FetchCheckpoint, retries=8, retry_on=(TryAgain,))
def fetch(job: Job[Fetch]) -> Generator[Progress, None, dict[str, Any]]:
    """Download a URL into the files directory. The file appears under its name when it is complete.

    After a cut connection, a pause or a crash the download continues with Range and If-Range if the server sends a
    strong validator. Without one, or when the file has changed, it starts over, and the log says so.
    """
    name = _file_name(job.params)
    staged = job.files.stage(name, f"fetch-{job.id}")
    at: _FetchCheckpoint = job.checkpoint or _FetchCheckpoint()
    if staged.tell() < at.byte:
        job.log(f"the {at.byte} bytes that were fetched before are gone; starting over")
        at = _FetchCheckpoint()
    staged.truncate(at.byte)
    if not at.whole:
        at = yield from _all(job, staged, at)
    if job.params.sha256 and staged.sha256() != job.params.sha256.lower():
        found = staged.sha256()
        staged.truncate(0)
        raise WorkError(f"{job.params.url} has the SHA-256 {found}, not {job.params.sha256}: nothing was published")
    return {"file_name": name, "bytes": at.byte, "sha256": staged.publish()}


@fetch.rollback
def discard(job: Job[Fetch]) -> None:
    """Remove the staged bytes; an older file of that name stays."""
    job.files.stage(_file_name(job.params), f"fetch-{job.id}").discard()


@fetch.check
def may_be_fetched(params: Fetch, setting: Callable[[str], Any]) -> None:
    """Refuse a URL that the settings do not allow, and a URL without a file name."""
    from tornado_app.work_types.url_policy import allowed_url

    allowed_url(params.url, setting("fetch_allow"))
    names.check(_file_name(params))


def _file_name(params: Fetch) -> str:
    name = params.file_name or unquote(params.url.partition("#")[0].partition("?")[0].rpartition("/")[2])
    if not name:
        raise WorkError("the URL's path names no file. Give file_name")
    return name


def _all(job: Job[Fetch], staged: StagedFile, at: _FetchCheckpoint) -> Generator[Progress, None, _FetchCheckpoint]:
    """Send requests until the file is complete.

    A request that brings nothing new may mean that the file has changed; a second one ends the attempt. After a request
    that brings little there is a wait, which grows.
    """
    from tornado_app.work_types.url_policy import UrlPolicy

    allowed, private = job.setting("fetch_allow"), job.setting("fetch_private")
    most, changed, wait = at.byte, False, _FIRST_WAIT
    with closing(UrlPolicy(allowed, private=private, stopping=lambda: job.stopping)) as client:
        while True:
            before = at.byte
            at, revoked = yield from _request(job, client, staged, at)
            if at.whole:
                yield at.progress()
                return at
            if revoked:  # the stop request was revoked
                continue
            if at.byte <= most:
                if changed:
                    raise TryAgain(f"{job.params.url} can't be fetched now: it changes again and again, or is cut")
                changed = True
            little = at.byte - before < _SMALL
            wait = min(_LONGEST_WAIT, wait * 2) if little else _FIRST_WAIT
            most = max(most, at.byte)
            if little:
                yield from _pause(at, wait)


def _pause(at: _FetchCheckpoint, seconds: float) -> Generator[Progress, None, None]:
    """Wait, with a safe point every tenth of a second."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        yield at.progress()
        time.sleep(min(left, _FIRST_WAIT))


def _request(
    job: Job[Fetch], client: UrlPolicy, staged: StagedFile, at: _FetchCheckpoint
) -> Generator[Progress, None, tuple[_FetchCheckpoint, bool]]:
    """Send one request from the checkpoint. Returns the new checkpoint, whether the response was complete or cut.

    Also returns whether the request ended for a stop request that was then revoked.
    """
    from tornado_app.work_types.url_policy import CONNECTION_ERRORS, StopRequested

    if at.byte and not at.validator:
        job.log(f"the server names no version of the file to continue at byte {at.byte}; starting over")
        staged.truncate(0)
        at = _FetchCheckpoint()
    before = at.byte
    headers = {"Range": f"bytes={at.byte}-", "If-Range": at.validator} if at.byte else {}
    try:
        with client.get(job.params.url, headers) as response:
            at, room = _begin(job, response, staged, at)
            if room == 0:
                return at, False
            first = reported = at.byte
            when = time.monotonic()
            for piece in response.pieces():
                if room is not None and at.byte - first + len(piece) > room:
                    staged.truncate(first)
                    raise WorkError(f"{response.url} sends more than its Content-Range says. That part was not kept")
                staged.write(piece)
                at = msgspec.structs.replace(at, byte=at.byte + len(piece))
                now = time.monotonic()
                if at.byte - reported >= _SAFE_POINT_BYTES or now - when >= _SAFE_POINT_SECONDS:
                    reported, when = at.byte, now
                    yield at.progress()
            return msgspec.structs.replace(at, whole=at.total is None or at.byte >= at.total), False
    except StopRequested:
        yield at.progress()
        return at, True
    except CONNECTION_ERRORS as error:
        reason = str(error) or type(error).__name__
        if at.byte <= before or not at.validator:  # nothing was gained by this request
            raise TryAgain(f"{job.params.url} can't be fetched now: {reason}") from error
        job.log(f"cut at byte {at.byte} ({reason}). Going on from there")
    return at, False


def _begin(
    job: Job[Fetch], response: FetchedResponse, staged: StagedFile, at: _FetchCheckpoint
) -> tuple[_FetchCheckpoint, int | None]:
    """Return the checkpoint at which the body begins, and the most bytes to take of it (0: none; None: all).

    Raises `WorkError` when there is no file, or no room for it.
    """
    headers = response.headers
    validator = _validator(headers)
    if response.status in (206, 416) and at.byte:
        part = read_content_range(headers.get("content-range", ""))
        if response.status == 416 and part is not None and part.size == at.byte:
            return msgspec.structs.replace(at, total=at.byte, whole=True), 0
        if (
            response.status == 206
            and part is not None
            and part.first == at.byte
            and _is_same_version(at, validator, part.size)
        ):
            return _begin_part(response, staged, at, part)
        job.log(f"the file has changed since its first {at.byte} bytes were fetched; starting over")
        staged.truncate(0)
        return _FetchCheckpoint(), 0
    if response.status != 200:
        kind = TryAgain if response.status >= 500 or response.status in _LATER else WorkError
        raise kind(f"{response.url} answered with status {response.status}")
    _refuse_encoded(response)
    if at.byte:
        why = "the server sends no ranges" if validator == at.validator else "the file has changed"
        job.log(f"{why}; starting over at byte 0")
        staged.truncate(0)
    total = _length(headers)
    staged.reserve(total or 0)
    return _FetchCheckpoint(0, total, validator), None


def _begin_part(
    response: FetchedResponse, staged: StagedFile, at: _FetchCheckpoint, part: RangePart
) -> tuple[_FetchCheckpoint, int]:
    """Begin with a part that continues at the checkpoint."""
    assert part.first is not None and part.last is not None  # noqa: PT018, S101 - it is no response 416
    _refuse_encoded(response)
    wanted = part.last - part.first + 1
    length = _length(response.headers)
    if length is not None and length > wanted:
        raise WorkError(
            f"{response.url} sends {length} bytes as a part of {wanted}: its Content-Range can't be believed; "
            "nothing of it was kept"
        )
    total = at.total if part.size is None else part.size
    staged.reserve((total or part.last + 1) - at.byte)
    return msgspec.structs.replace(at, total=total), wanted


def _refuse_encoded(response: FetchedResponse) -> None:
    """Refuse a response with a content coding, because the file would be stored encoded (RFC 9110, section 8.4)."""
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise WorkError(
            f"{response.url} answers with Content-Encoding {coding}, though it was asked for none: the file would be "
            "stored as it is coded. Give a URL that serves the file itself"
        )


def _length(headers: dict[str, str]) -> int | None:
    length = headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else None


def _is_same_version(at: _FetchCheckpoint, validator: str, size: int | None) -> bool:
    """Return whether a part is of the staged version. It need not repeat a date (RFC 9110, section 15.3.7)."""
    other_tag = validator.startswith('"') and at.validator.startswith('"') and validator != at.validator
    return not other_tag and (size is None or at.total is None or size == at.total)


def _validator(headers: dict[str, str]) -> str:
    """Return the validator for If-Range (RFC 9110, section 13.1.5): a strong ETag, else a date that is old enough."""
    tag = headers.get("etag", "")
    if tag:
        return tag if _STRONG_TAG.fullmatch(tag) else ""
    modified, date = dates.read(headers.get("last-modified", "")), dates.read(headers.get("date", ""))
    strong = modified is not None and date is not None and date - modified >= _DATES_APART
    return headers["last-modified"] if strong else ""
