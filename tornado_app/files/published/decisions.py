"""Decisions about a request for a published file, from its headers and the version that there is. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from holdfast.wire import FileInfo
from tornado_app import problems
from tornado_app.files.store.interface import ANYTHING, FileReader, FileStat, Precondition
from tornado_app.protocols import conditionals, media_types, ranges
from tornado_app.protocols.conditionals import Validators, Verdict
from tornado_app.protocols.ranges import Span

CONDITIONS = ("If-Match", "If-None-Match", "If-Unmodified-Since")

_BY_ETAG = ("If-Match", "If-None-Match", "If-Range")
_READ_RATE = 400_000_000  # bytes a second, about
_LONGEST_WAIT_S = 30
_DECISIVE = (*CONDITIONS, "If-Modified-Since", "If-Range", "Range")


@dataclass(slots=True)
class FileAnswer:
    """The answer to a GET or HEAD, from one version of a file.

    `spans` is None for the whole file. The bytes are in `content`, or, when they are many, still in `reader`, which
    then belongs to the caller; `is_ready` says that reading them never waits for a disk. A HEAD and a 304 have neither.
    `digest_in`: the SHA-256 that the request wants is not there, and takes about so many seconds more.
    """

    status: int
    stat: FileStat
    spans: list[Span] | None = None
    content: bytes | None = None
    reader: FileReader | None = None
    is_ready: bool = False
    digest_in: int | None = None


def info(stat: FileStat) -> FileInfo:
    """Return a file as it crosses the wire."""
    return FileInfo(
        name=stat.name,
        size=stat.size,
        modified=datetime.fromtimestamp(stat.modified_ns / 1e9, UTC),
        etag=stat.etag,
        content_type=media_types.of(stat.name),
        sha256=stat.sha256,
        block_digest=stat.block_digest,
    )


def relevant(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that a GET depends on; most have none of them."""
    return {name: headers[name] for name in _DECISIVE if name in headers}


def plan(name: str, headers: Mapping[str, str], stat: FileStat) -> FileAnswer:
    """Decide by the preconditions first, then by If-Range and Range (RFC 9110, section 13.2.2). Raises as `get`."""
    if not headers:
        return FileAnswer(200, stat)
    status = status_of("GET", name, headers, stat)
    if status != 200 or not conditionals.range_holds(headers.get("If-Range"), _validators(stat), time.time()):
        return FileAnswer(status, stat)
    spans = ranges.select(headers.get("Range"), stat.size)
    if spans is None:
        return FileAnswer(200, stat)
    if not spans:
        raise problems.RANGE_NOT_SATISFIABLE(
            f"the range {headers['Range'][:100]} is past the end of {name!r}. Ask for a part of its {stat.size} bytes",
            headers={"Content-Range": ranges.unsatisfied(stat.size), "ETag": conditionals.quoted(stat.etag)},
            file_size=stat.size,
        )
    return FileAnswer(206, stat, spans)


def status_of(method: str, name: str, headers: Mapping[str, str], stat: FileStat) -> int:
    """Return 200, or 304. Raises PRECONDITION_FAILED, UNAVAILABLE."""
    _check_unconfirmed(name, headers, stat)
    verdict = conditionals.evaluate(method, headers, _validators(stat))
    if verdict is Verdict.FAILED:
        raise failed(f"{name!r} is not the version that the request expects. Its ETag is {stat.etag}", etag=stat.etag)
    return 304 if verdict is Verdict.NOT_MODIFIED else 200


def precondition(method: str, name: str, headers: Mapping[str, str], current: FileStat | None) -> Precondition:
    """Return what must still hold when a PUT or DELETE takes effect: with preconditions, the version they held for."""
    fault = conditionals.malformed(headers)
    if fault is not None:
        raise problems.BAD_REQUEST(fault)
    if current is not None:
        _check_unconfirmed(name, headers, current)
    verdict = conditionals.evaluate(method, headers, None if current is None else _validators(current))
    if verdict is Verdict.FAILED:
        if current is None:
            raise failed(f"there is no file {name!r}, though the request expects one")
        raise failed(
            f"{name!r} is not the version that the request expects. Its ETag is {current.etag}", etag=current.etag
        )
    if not any(condition in headers for condition in CONDITIONS):
        return ANYTHING
    if current is None:
        return Precondition(absent=True)
    if headers.get("If-Match", "").strip() == "*":
        return Precondition(present=True)
    return Precondition(etags=frozenset({current.etag}))


def _check_unconfirmed(name: str, headers: Mapping[str, str], stat: FileStat) -> None:
    """Refuse for now a request that names a digest which is being confirmed: the answer depends on it."""
    if stat.unconfirmed is not None and any(stat.unconfirmed in headers.get(field, "") for field in _BY_ETAG):
        seconds = min(_LONGEST_WAIT_S, 1 + stat.size // _READ_RATE)
        raise problems.UNAVAILABLE(
            f"{name!r} is being read to find out whether it is still the version {stat.unconfirmed}, since its mode, "
            "owner or place was changed by hand. Try again later",
            headers={"Retry-After": str(seconds)},
        )


def failed(detail: str, **members: Any) -> problems.ProblemError:
    return problems.PRECONDITION_FAILED(detail, **members)


def _validators(stat: FileStat) -> Validators:
    return Validators(stat.etag, stat.modified_ns / 1e9)
