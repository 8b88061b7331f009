"""Structured fields as RFC 9651, section 4.2, has them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_app.protocols.structured_fields import (
    Date,
    Item,
    Token,
    boolean,
    integer,
    parse_dictionary,
    parse_item,
    write_bytes,
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("42", 42),
        ("-0", 0),
        ("007", 7),
        ("999999999999999", 999_999_999_999_999),
        ("  42  ", 42),
        ("4.5", Decimal("4.5")),
        ("123456789012.123", Decimal("123456789012.123")),
        ('"a b"', "a b"),
        (r'"a \"b\" \\"', r'a "b" \ '.strip()),
        ('""', ""),
        ("foo123/456", Token("foo123/456")),
        ("*", Token("*")),
        (":aGVsbG8=:", b"hello"),
        (":aGVsbG8:", b"hello"),
        ("::", b""),
        ("?1", True),
        ("?0", False),
        ("@1659578233", Date(1_659_578_233)),
        ("@-5", Date(-5)),
        ('%"f%c3%bc%c3%bc"', "füü"),
    ],
)
def test_items_of_every_type(field: str, value: Any) -> None:
    assert parse_item(field) == Item(value, {})
    item = parse_item(field)
    assert item is not None
    assert type(item.value) is type(value)


@pytest.mark.parametrize(
    "field",
    [
        "",
        "1000000000000000",
        "+1",
        "1_000",
        "--1",
        "1.",
        "1.1234",
        "1234567890123.1",
        "42, 43",
        "42 43",
        '"abc',
        '"a\tb"',
        r'"\a"',
        ":a b:",
        ":aGVsbG8",
        ":a:",
        "?2",
        "?true",
        "true?",
        "@1.5",
        '%"%zz"',
        '%"%ff"',
        '%"%C3%BC"',
        "é",
        "\t1",
        "1;",
        "1;A=1",
    ],
)
def test_what_is_ill_formed_is_none(field: str) -> None:
    assert parse_item(field) is None


def test_parameters_stand_beside_the_value() -> None:
    assert parse_item('?1;a;b=2; c="x"') == Item(True, {"a": True, "b": 2, "c": "x"})
    assert parse_item("1;a=1;a=2") == Item(1, {"a": 2})


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("", {}),
        ("a=1", {"a": Item(1, {})}),
        ("a=1,b=?0", {"a": Item(1, {}), "b": Item(False, {})}),
        ("a=1 ,\tb", {"a": Item(1, {}), "b": Item(True, {})}),
        ("a;x=1", {"a": Item(True, {"x": 1})}),
        ("a=1, a=2", {"a": Item(2, {})}),
        ("a=(1 2)", {"a": Item((Item(1, {}), Item(2, {})), {})}),
        ("a=( 1;q  t );z", {"a": Item((Item(1, {"q": True}), Item(Token("t"), {})), {"z": True})}),
        ("a=()", {"a": Item((), {})}),
        ("a=1,", None),
        ("a=1 b=2", None),
        (",a", None),
        ("A=1", None),
        ("a=", None),
        ("a=(1", None),
        ("a=(1,2)", None),
        ('a=("x""y")', None),
    ],
)
def test_dictionaries(field: str, found: dict[str, Item] | None) -> None:
    assert parse_dictionary(field) == found


@pytest.mark.parametrize(
    ("field", "value"), [("5", 5), ("5;a=b", 5), ("-5", -5), (None, None), ("5.0", None), ("?1", None), ("5, 5", None)]
)
def test_a_field_that_must_be_an_integer(field: str | None, value: int | None) -> None:
    assert integer(field) == value


@pytest.mark.parametrize(
    ("field", "value"), [("?1", True), ("?0;x", False), (None, None), ("1", None), ("?1, ?1", None)]
)
def test_a_field_that_must_be_a_boolean(field: str | None, value: bool | None) -> None:
    assert boolean(field) is value


@given(st.binary())
def test_bytes_read_back(value: bytes) -> None:
    assert parse_item(write_bytes(value)) == Item(value, {})


@pytest.mark.slow
@given(st.one_of(st.text(), st.text('?:"@%;=,() \\ab01-.*')))
def test_no_field_is_an_exception(field: str) -> None:
    parse_item(field)
    parse_dictionary(field)
