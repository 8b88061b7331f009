"""Nothing that reads a request takes more than in proportion to its length, whatever stands in it.

Growth is measured by doubling: the processor time of this thread for a text and for one eight times as long. What grows
with the square takes 64 times as long, and what is linear 8 times; the bound lies far from both. A pair is measured
anew before it counts as a failure, so that a busy machine does not.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from tornado_app import problems
from tornado_app.handlers.events import EventsQuery
from tornado_app.handlers.files.reading import FilesQuery
from tornado_app.handlers.openapi import query
from tornado_app.protocols import (
    conditionals,
    content_disposition,
    dates,
    digests,
    media_types,
    parameters,
    ranges,
    resumable_uploads,
    structured_fields,
    tus,
)
from tornado_app.protocols.conditionals import Validators
from tornado_app.protocols.forms import multipart, text
from tornado_app.protocols.forms.decoder import BodyError, Decoder

SHORT = 4_000
TIMES = 8
BOUND = 28  # between the 8 of what is linear and the 64 of what is quadratic
NOTHING_S = 0.004  # so little, for the long one, says nothing
TRIES = 6

UNITS = [
    *(";", ",", " ", "\t", '"', "\\", "=", ":", "(", ")", "%", "&", "+", "-", "*", "/", "?", "'", "0", "a", ".", "é"),
    *(";a", ";a=", ";a=b", '; a="b"', ";a*=UTF-8''x", '\\"', '""', 'W/"a",', '"a", ', ", ,", " ;", "; ", " =", "= "),
    *("?1,", "a=1,", "a,", "a;b,", ":YQ==:,", "(a ", "(a)", ":A", "1.", "-1", "1-2,", "-5,", "bytes=", "%41", "%4"),
    *("a ", " YQ==,", "a YQ==,", "final;", " /v1/uploads/a", "/v1/uploads/", "text=", "&text=", "=&", '{"', "\\u00e4"),
    *("\\ud83d", "\r\n", "\r\n\r\n", "\r\n--b", "\r\n--", "--b\r\n", "a: b\r\n", "\n", "\r", "'%41", "%%", "a'"),
    *("Mon, ", "01 Jan ", "sha-256=", "sha-256=:", "id=1&", "[", "]", "{", "}", "\\\\", "\x00", "true,", "../", "a/"),
]
OPENINGS = [
    *("", ";", "a", 'a;b="', "a=", ":", '"', "(", "final;", "bytes=", "bytes=0-1,", "sha-256=:", '"a"', "a YQ==,", "1"),
    *("multipart/form-data; boundary=", "attachment; filename=", 'attachment; filename="', "a;b=c", "UTF-8''"),
    *("state=", "label="),
]
OPENINGS_OF_BODIES = [
    *("", '{"text": "', "{", "text=", "--b", "--b ", "--b\r\n"),
    '--b\r\nContent-Disposition: form-data; name="text"',
    '--b\r\nContent-Disposition: form-data; name="text"; filename="x"\r\n\r\n',
]
VALIDATORS = Validators("a", 0.0)


def fed(make: Callable[[], Decoder], step: int) -> Callable[[str], None]:
    """A body that comes in pieces of `step` bytes, or in one."""

    def read(text: str) -> None:
        reader, body = make(), text.encode("utf-8", "replace")
        for at in range(0, len(body), step or len(body) or 1):
            reader.feed(body[at : at + (step or len(body))])
        reader.finish()

    return read


def query_of(type: type[Any]) -> Callable[[str], None]:
    def read(text: str) -> None:
        given: dict[str, list[str]] = {}
        for pair in text.split("&"):
            name, _, value = pair.partition("=")
            given.setdefault(name, []).append(value)
        query.read(type, given)
        for name in query.parameters(type):  # type: ignore[arg-type]
            query.read(type, {name: [text]})

    return read


def conditions(name: str) -> Callable[[str], object]:
    return lambda text: (conditionals.evaluate("GET", {name: text}, VALIDATORS), conditionals.malformed({name: text}))


READERS: Mapping[str, Callable[[str], object]] = {
    "Content-Type": lambda text: (parameters.media_type(text), parameters.parameter(text, "boundary")),
    "Content-Type of a form": multipart.boundary,
    "Content-Type of an append": resumable_uploads.is_partial_upload,
    "Content-Disposition": content_disposition.file_name,
    "If-Match": conditions("If-Match"),
    "If-None-Match": conditions("If-None-Match"),
    "If-Modified-Since": conditions("If-Modified-Since"),
    "If-Range": lambda text: conditionals.range_holds(text, VALIDATORS, 9.0),
    "a date": dates.read,
    "Range": lambda text: ranges.select(text, 1000),
    "Content-Range": ranges.read_content_range,
    "an item": structured_fields.parse_item,
    "a dictionary": structured_fields.parse_dictionary,
    "Block-Digest": digests.read_block,
    "Repr-Digest": digests.read,
    "Want-Repr-Digest": lambda text: digests.preferred(text, ("sha-256",)),
    "Upload-Offset": lambda text: resumable_uploads.Fields.read({"Upload-Offset": text, "Upload-Complete": text}),
    "Upload-Metadata": tus.metadata,
    "Upload-Checksum": tus.checksum,
    "Upload-Concat": tus.concat,
    "Upload-Length": lambda text: tus.count("Upload-Length", text),
    "a file's name": media_types.of.__wrapped__,
    "the query of files": query_of(FilesQuery),
    "the query of events": query_of(EventsQuery),
    **{
        f"{name}, {step or 'all'} at a time": fed(make, step)
        for name, make in {
            "a form's text": lambda: text.decoder("application/x-www-form-urlencoded"),
            "JSON": lambda: text.decoder("application/json"),
            "base64": lambda: text.decoder("text/plain", "base64"),
            "multipart text": lambda: text.decoder("multipart/form-data; boundary=b"),
            "a multipart file": lambda: multipart.FileField(b"b"),
        }.items()
        for step in (0, 16)
    },
}


def seconds(read: Callable[[str], object], text: str) -> float:
    """The processor time of one reading; a refusal is a reading."""
    start = time.thread_time()
    with contextlib.suppress(ValueError, BodyError, problems.ProblemError):
        read(text)
    return time.thread_time() - start


def is_steep(read: Callable[[str], object], short: str, long: str) -> bool:
    """Return whether the time grows by more than `BOUND` from the short text to the long one, at each try."""
    most, least = float("inf"), float("inf")
    for _ in range(TRIES):
        most = min(most, seconds(read, long))
        if most < NOTHING_S:
            return False
        least = min(least, seconds(read, short))
        if most <= BOUND * least:
            return False
    return True


def texts(openings: Sequence[str], count: int) -> Iterator[tuple[str, str]]:
    """Every opening, with every unit again and again after it; and what it is."""
    for opening in openings:
        for unit in UNITS:
            for end in ("", "\x01"):
                yield f"{opening!r} + {unit!r} * n + {end!r}", opening + unit * (count // len(unit)) + end


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_time_grows_with_the_length_and_not_with_its_square(name: str) -> None:
    read, openings = READERS[name], OPENINGS_OF_BODIES if "at a time" in name else OPENINGS
    pairs = zip(texts(openings, SHORT), texts(openings, SHORT * TIMES), strict=True)
    steep = [what for (what, short), (_, long) in pairs if is_steep(read, short, long)]
    assert not steep


@pytest.mark.slow
def test_what_is_quadratic_is_found() -> None:
    def quadratic(text: str) -> None:
        while text:
            text = text[1:]

    assert is_steep(quadratic, "x" * 40_000, "x" * 320_000)
