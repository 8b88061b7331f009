"""Headers of answers that carry a file or an archive."""

from __future__ import annotations

import secrets
import time
from functools import lru_cache

from tornado_app.files.published.decisions import FileAnswer
from tornado_app.files.store.interface import FileStat
from tornado_app.protocols import conditionals, content_disposition, dates, digests, media_types
from tornado_app.protocols.ranges import Multipart, Span


def describe(answer: FileAnswer, want_repr_digest: str | None) -> tuple[dict[str, str], Multipart | None]:
    """Return the headers of an answer about a file, its digests included; see `representation`."""
    stat = answer.stat
    headers, multipart = representation(answer.status, stat, answer.spans, media_types.of(stat.name))
    if answer.status == 304:
        return headers, None
    digest = _digest(stat, want_repr_digest)
    if digest is not None:
        headers["Repr-Digest"] = digest
    elif answer.digest_in is not None:
        headers["Retry-After"] = str(answer.digest_in)
    if stat.block_digest is not None:
        headers["Block-Digest"] = digests.write_block(bytes.fromhex(stat.block_digest))
    return headers, multipart


def representation(
    status: int, stat: FileStat, spans: list[Span] | None, media_type: str
) -> tuple[dict[str, str], Multipart | None]:
    """Return the headers of a file or an archive, and the framing of a body of several ranges.

    No value has a line break. `spans` is None for the whole; a 304 has only what a cache needs.
    """
    headers = {
        "ETag": conditionals.quoted(stat.etag),
        "Cache-Control": "no-cache",
        "Last-Modified": dates.write(min(stat.modified_ns // 1_000_000_000, time.time())),
    }
    if status == 304:
        return headers, None
    headers["Accept-Ranges"] = "bytes"
    headers["Content-Disposition"] = _disposition(stat.name)
    if spans is not None and len(spans) > 1:
        multipart = Multipart(secrets.token_hex(16), spans, stat.size, media_type)
        headers["Content-Type"] = multipart.content_type
        headers["Content-Length"] = str(multipart.content_length)
        return headers, multipart
    headers["Content-Type"] = media_type
    if spans is None:
        headers["Content-Length"] = str(stat.size)
    else:
        headers["Content-Range"] = spans[0].content_range(stat.size)
        headers["Content-Length"] = str(spans[0].length)
    return headers, None


def _digest(stat: FileStat, wanted: str | None) -> str | None:
    if stat.sha256 is None:
        return None
    algorithm = digests.preferred(wanted, ("sha-256",))
    return None if algorithm is None else digests.write(algorithm, bytes.fromhex(stat.sha256))


@lru_cache(maxsize=4096)
def _disposition(name: str) -> str:
    return content_disposition.attachment(name.rpartition("/")[2])
