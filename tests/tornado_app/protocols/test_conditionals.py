"""Conditional requests as RFC 9110, section 13, has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_app.protocols import dates
from tornado_app.protocols.conditionals import (
    Tags,
    Validators,
    Verdict,
    evaluate,
    malformed,
    quoted,
    range_holds,
    read_tags,
)

CURRENT = Validators(etag="abc", modified=1_000_000_000.9)
SAME = "Sun, 09 Sep 2001 01:46:40 GMT"
EARLIER = "Sun, 09 Sep 2001 01:46:39 GMT"
LATER = "Sun, 09 Sep 2001 01:46:41 GMT"
GO, NOT_MODIFIED, FAILED = Verdict.PROCEED, Verdict.NOT_MODIFIED, Verdict.FAILED


@pytest.mark.parametrize(
    ("headers", "get", "put"),
    [
        ({}, GO, GO),
        ({"If-Match": '"abc"'}, GO, GO),
        ({"If-Match": "*"}, GO, GO),
        ({"If-Match": '"x", "abc"'}, GO, GO),
        ({"If-Match": '"x"'}, FAILED, FAILED),
        ({"If-Match": 'W/"abc"'}, FAILED, FAILED),
        ({"If-Match": "abc"}, FAILED, FAILED),
        ({"If-None-Match": '"abc"'}, NOT_MODIFIED, FAILED),
        ({"If-None-Match": 'W/"abc"'}, NOT_MODIFIED, FAILED),
        ({"If-None-Match": "*"}, NOT_MODIFIED, FAILED),
        ({"If-None-Match": '"x"'}, GO, GO),
        ({"If-None-Match": "abc"}, GO, GO),
        ({"If-Modified-Since": SAME}, NOT_MODIFIED, GO),
        ({"If-Modified-Since": LATER}, NOT_MODIFIED, GO),
        ({"If-Modified-Since": EARLIER}, GO, GO),
        ({"If-Modified-Since": "yesterday"}, GO, GO),
        ({"If-Unmodified-Since": SAME}, GO, GO),
        ({"If-Unmodified-Since": EARLIER}, FAILED, FAILED),
        ({"If-Unmodified-Since": "yesterday"}, GO, GO),
    ],
)
def test_each_precondition(headers: dict[str, str], get: Verdict, put: Verdict) -> None:
    assert evaluate("GET", headers, CURRENT) is get
    assert evaluate("HEAD", headers, CURRENT) is get
    assert evaluate("PUT", headers, CURRENT) is put


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({"If-Match": '"abc"', "If-Unmodified-Since": EARLIER}, GO),
        ({"If-Match": '"x"', "If-None-Match": '"abc"'}, FAILED),
        ({"If-Unmodified-Since": EARLIER, "If-None-Match": '"abc"'}, FAILED),
        ({"If-None-Match": '"x"', "If-Modified-Since": SAME}, GO),
        ({"If-None-Match": '"abc"', "If-Modified-Since": EARLIER}, NOT_MODIFIED),
        ({"If-Match": '"abc"', "If-None-Match": '"abc"'}, NOT_MODIFIED),
    ],
)
def test_the_order_of_precedence(headers: dict[str, str], verdict: Verdict) -> None:
    assert evaluate("GET", headers, CURRENT) is verdict


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({"If-Match": "*"}, FAILED),
        ({"If-Match": '"abc"'}, FAILED),
        ({"If-None-Match": "*"}, GO),
        ({"If-Unmodified-Since": EARLIER}, GO),
    ],
)
def test_where_there_is_no_file_yet(headers: dict[str, str], verdict: Verdict) -> None:
    assert evaluate("PUT", headers, None) is verdict


@pytest.mark.parametrize(
    ("field", "holds"),
    [
        (None, True),
        ('"abc"', True),
        (' "abc" ', True),
        ('"x"', False),
        ('W/"abc"', False),
        ("abc", False),
        ('"abc", "x"', False),
        (SAME, True),
        (f" {SAME}", True),
        (LATER, False),
        (EARLIER, False),
    ],
)
def test_if_range_is_true_for_the_same_strong_tag_or_date_only(field: str | None, holds: bool) -> None:
    assert range_holds(field, CURRENT, CURRENT.modified + 5) is holds


def test_a_date_is_weak_while_its_second_lasts() -> None:
    second = int(CURRENT.modified)
    assert not range_holds(SAME, CURRENT, second + 0.99)
    assert range_holds(SAME, CURRENT, second + 1.0)


@pytest.mark.parametrize(
    ("field", "tags"),
    [
        ("*", Tags(any=True)),
        ('"a"', Tags(strong=frozenset("a"))),
        ('"a","b",W/"c"', Tags(strong=frozenset("ab"), weak=frozenset("c"))),
        (', "a" ,, "b",', Tags(strong=frozenset("ab"))),
        ('"a,b"', Tags(strong=frozenset({"a,b"}))),
        ('""', Tags(strong=frozenset({""}))),
        ("", None),
        (",", None),
        ('"a" "b"', None),
        ('"a', None),
        ('w/"a"', None),
        ('*, "a"', None),
        ('"a b"', None),
    ],
)
def test_lists_of_entity_tags(field: str, tags: Tags | None) -> None:
    assert read_tags(field) == tags


def test_a_condition_that_cannot_be_read_is_named_with_what_would_be_right() -> None:
    assert malformed({"If-Match": '"abc"', "If-None-Match": "*"}) is None
    told = malformed({"If-None-Match": "abc"})
    assert told is not None
    assert "If-None-Match" in told
    assert '"abc"' in told


opaque = st.text(st.characters(min_codepoint=0x23, max_codepoint=0x7E), max_size=10)


@given(st.lists(opaque, min_size=1), opaque)
def test_a_list_of_tags_reads_back(etags: list[str], other: str) -> None:
    field = ", ".join(quoted(etag) for etag in etags)
    assert read_tags(field) == Tags(strong=frozenset(etags))
    verdict = evaluate("GET", {"If-None-Match": field}, Validators(other, 0))
    assert verdict is (NOT_MODIFIED if other in etags else GO)


names = st.sampled_from(["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"])


@given(st.sampled_from(["GET", "HEAD", "PUT", "DELETE"]), st.dictionaries(names, st.text()))
def test_no_field_is_an_exception(method: str, headers: dict[str, str]) -> None:
    for current in (CURRENT, None):
        assert evaluate(method, headers, current) in Verdict
    range_holds(headers.get("If-Range"), CURRENT, 1e10)
    malformed(headers)


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        " Sun, 06 Nov 1994 08:49:37 GMT ",
    ],
)
def test_the_three_forms_of_dates_mean_the_same(text: str) -> None:
    assert dates.read(text) == 784_111_777


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "sun, 06 nov 1994 08:49:37 gmt",
        "Sun, 06 Nov 0000 08:49:37 GMT",
    ],
)
def test_what_is_no_http_date_is_none(text: str) -> None:
    assert dates.read(text) is None


def test_a_year_of_two_digits_is_at_most_fifty_years_ahead() -> None:
    assert dates.read("Tuesday, 06-Nov-75 08:49:37 GMT", this_year=2026) == dates.read("Tue, 06 Nov 2075 08:49:37 GMT")
    assert dates.read("Tuesday, 06-Nov-77 08:49:37 GMT", this_year=2026) == dates.read("Tue, 06 Nov 1977 08:49:37 GMT")


@given(st.integers(0, 253_402_300_799))
def test_a_date_reads_back(timestamp: int) -> None:
    assert dates.read(dates.write(timestamp)) == timestamp


@given(st.text())
def test_no_date_is_an_exception(text: str) -> None:
    dates.read(text)
