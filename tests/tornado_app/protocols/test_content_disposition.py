"""File names in Content-Disposition: RFC 6266 and RFC 8187."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_app.protocols.content_disposition import attachment, file_name


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("a.csv", 'attachment; filename="a.csv"'),
        ("a b.csv", 'attachment; filename="a b.csv"'),
        ("€ rates.csv", "attachment; filename=\"_ rates.csv\"; filename*=UTF-8''%E2%82%AC%20rates.csv"),
        ('a"b.txt', "attachment; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"),
        ("100%.txt", "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
    ],
)
def test_names_are_written_for_every_client(name: str, field: str) -> None:
    assert attachment(name) == field


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("attachment; filename=example.html", "example.html"),
        ('attachment; filename="example.html"', "example.html"),
        ('INLINE; FILENAME= "an example.html"', "an example.html"),
        ("attachment; filename*= UTF-8''%e2%82%ac%20rates", "€ rates"),
        ("attachment; filename=\"EURO rates\"; filename*=utf-8''%e2%82%ac%20rates", "€ rates"),
        ("attachment; filename*=utf-8''%e2%82%ac%20rates; filename=\"EURO rates\"", "€ rates"),
        ("attachment; filename*=iso-8859-1'en'%A3%20rates", "£ rates"),
        (r'attachment; filename="a \"b\" \\c"', r'a "b" \c'),
        ("attachment; filename*=UTF-8''%ff; filename=plan-b", "plan-b"),
        ("attachment; filename*=klingon''x; filename=plan-b", "plan-b"),
        ('attachment; filename="data/2024/a.csv"', "data/2024/a.csv"),
        ("attachment; filename=a.csv;", "a.csv"),
        ('form-data; name="f"; filename="a.csv"', "a.csv"),
        ('attachment; filename="' + "ü.csv".encode().decode("latin-1") + '"', "ü.csv"),
        ('attachment; filename="\xfc.csv"', "ü.csv"),
        ("attachment", None),
        ("", None),
        ("attachment; filename", None),
        ('attachment; filename="a', None),
        ("attachment; filename=a b", None),
        ("attachment; filename=a; filename=b", None),
        ('"attachment"; filename=a', None),
    ],
)
def test_names_are_read_as_they_were_meant(field: str, name: str | None) -> None:
    assert file_name(field) == name


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_name_reads_back_and_fits_in_a_header(name: str) -> None:
    field = attachment(name)
    assert all(" " <= char <= "~" for char in field)
    assert file_name(field) == name


@given(st.text())
def test_no_name_and_no_field_is_an_exception(text: str) -> None:
    attachment(text)
    file_name(text)
    file_name(f"attachment; {text}")
