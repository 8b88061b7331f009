"""Ranges as RFC 9110, section 14, has them."""

from __future__ import annotations

import email
import email.policy
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tornado_app.protocols.ranges import MOST_RANGES, Multipart, Span, read_content_range, select, unsatisfied

SIZE = 10_000


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-499", [(0, 499)]),
        ("bytes=500-999", [(500, 999)]),
        ("bytes=-500", [(9500, 9999)]),
        ("bytes=9500-", [(9500, 9999)]),
        ("bytes=0-", [(0, 9999)]),
        ("bytes=0-0", [(0, 0)]),
        ("bytes=9999-", [(9999, 9999)]),
        ("bytes=0-999999999999999999999999999999", [(0, 9999)]),
        ("bytes=-999999999999999999999999999999", [(0, 9999)]),
        ("bytes=000000000000000000000000000000000005-6", [(5, 6)]),
        ("BYTES=1-2", [(1, 2)]),
        ("bytes= 1-2", [(1, 2)]),
        ("bytes=1-2,", [(1, 2)]),
        ("bytes=, ,1-2", [(1, 2)]),
        ("bytes=0-0,-1", [(0, 0), (9999, 9999)]),
        ("bytes= 0-9 ,\t20-29", [(0, 9), (20, 29)]),
        ("bytes=20-29,0-9", [(20, 29), (0, 9)]),
        ("bytes=0-9,99999-", [(0, 9)]),
        ("bytes=0-9,10-19", [(0, 9), (10, 19)]),
    ],
)
def test_ranges_of_every_form_are_understood(header: str, spans: list[tuple[int, int]]) -> None:
    assert select(header, SIZE) == spans


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=abc",
        "bytes=5-4",
        "bytes=0-9,5-4",
        "bytes=0-9,x",
        "bytes=1 - 2",
        "bytes=+1-2",
        "bytes=1_0-20",
        "bytes=0x1-2",
        "bytes=--5",
        "bytes=1-2-3",
        "bytes=١-٢",
        "bytes=0-9;5",
        "bytes=0-1,bytes=3-4",
        "bytes:0-9",
        "items=0-9",
        "lines=0-9, 20-",
    ],
)
def test_a_malformed_range_or_another_unit_is_ignored(header: str | None) -> None:
    assert select(header, SIZE) is None


@pytest.mark.parametrize("header", ["bytes=10000-", "bytes=10000-10001", "bytes=-0", "bytes=20000-,30000-40000,-0"])
def test_what_lies_outside_is_not_satisfiable(header: str) -> None:
    assert select(header, SIZE) == []
    assert unsatisfied(SIZE) == "bytes */10000"


def test_an_empty_file_has_no_range_but_its_suffix_is_the_whole() -> None:
    assert select("bytes=0-", 0) == []
    assert select("bytes=0-0", 0) == []
    assert select("bytes=-0", 0) == []
    assert select("bytes=-5", 0) is None


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-99,50-149", [(0, 149)]),
        ("bytes=50-149,0-99", [(0, 149)]),
        ("bytes=500-599,0-99,550-700", [(500, 700), (0, 99)]),
        ("bytes=0-999,100-199", [(0, 999)]),
        ("bytes=0-0,0-0", [(0, 0)]),
    ],
)
def test_ranges_that_overlap_become_one_at_the_place_of_the_first(header: str, spans: list[tuple[int, int]]) -> None:
    assert select(header, SIZE) == spans


@pytest.mark.parametrize(
    "header",
    [
        "bytes=" + ",".join(["0-"] * 3),
        "bytes=" + ",".join(f"{n}-" for n in range(20)),
        "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(MOST_RANGES + 1)),
        "bytes=" + "," * 5000 + "0-1",
    ],
)
def test_abusive_ranges_are_answered_whole(header: str) -> None:
    assert select(header, SIZE) is None


def test_as_many_ranges_as_are_allowed_are_all_sent() -> None:
    header = "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(MOST_RANGES))
    assert select(header, SIZE) == [(2 * n, 2 * n) for n in range(MOST_RANGES)]


number = st.one_of(st.integers(0, 60), st.integers(0, 10**40))
spec = st.one_of(
    st.builds("{}-{}".format, number, number), st.builds("{}-".format, number), st.builds("-{}".format, number)
)
lists = st.lists(spec, max_size=60).map(lambda specs: "bytes=" + ",".join(specs))


@given(st.one_of(st.text(), lists), st.one_of(st.integers(0, 60), st.integers(0, 10**18)))
@example("bytes=" + "9" * 4000 + "-", 5)
def test_no_range_is_an_exception_and_none_brings_more_than_was_asked(header: str, size: int) -> None:
    spans = select(header, size)
    if spans is None:
        return
    assert len(spans) <= MOST_RANGES
    for span in spans:
        assert 0 <= span.first <= span.last < size
    ordered = sorted(spans)
    assert all(a.last < b.first for a, b in itertools.pairwise(ordered)), "no byte is sent twice"
    assert sum(span.length for span in spans) <= size


@given(lists, st.integers(0, 60))
def test_the_bytes_are_exactly_those_asked_for(header: str, size: int) -> None:
    spans = select(header, size)
    if spans is None:
        return
    asked: set[int] = set()
    for element in header.removeprefix("bytes=").split(","):
        first, _, last = element.partition("-")
        if first:
            asked |= set(range(min(int(first), size), min(int(last) if last else size, size - 1) + 1))
        else:
            asked |= set(range(max(0, size - int(last)), size))
    assert {byte for span in spans for byte in range(span.first, span.last + 1)} == asked


@given(st.binary(min_size=1, max_size=200), lists)
def test_a_multipart_body_has_the_length_it_says_and_reads_back(content: bytes, header: str) -> None:
    spans = select(header, len(content))
    if spans is None or not spans:
        return
    multipart = Multipart("q9x7boundary", spans, len(content), "application/x-thing")
    body = b"".join(multipart.head(i) + content[s.first : s.last + 1] for i, s in enumerate(spans)) + multipart.tail
    assert len(body) == multipart.content_length
    message = email.message_from_bytes(
        b"Content-Type: " + multipart.content_type.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP
    )
    parts = list(message.iter_parts())
    assert [part["Content-Range"] for part in parts] == [f"bytes {s.first}-{s.last}/{len(content)}" for s in spans]
    assert {part["Content-Type"] for part in parts} == {"application/x-thing"}


def test_a_span_says_its_length_and_place() -> None:
    assert Span(3, 5).length == 3
    assert Span(3, 5).content_range(10) == "bytes 3-5/10"


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("bytes 0-9/10", (0, 9, 10)),
        (" bytes 5-5/*", (5, 5, None)),
        ("BYTES */10", (None, None, 10)),
        ("bytes */*", None),
        ("bytes 5-4/10", None),
        ("bytes 5-10/10", None),
        ("bytes 5-/10", None),
        ("bytes=5-6/10", None),
        ("items 5-6/10", None),
        ("bytes 5-6", None),
        ("", None),
    ],
)
def test_a_content_range_is_read_as_it_was_written(field: str, part: tuple[int, int, int] | None) -> None:
    assert read_content_range(field) == part
