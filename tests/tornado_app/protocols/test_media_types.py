"""Media types by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_app.protocols import media_types


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "text/csv"),
        ("data/2024/a.CSV", "text/csv"),
        ("a.csv.gz", "application/gzip"),
        ("a.tar.xz", "application/x-xz"),
        ("a.tgz", "application/gzip"),
        ("a.parquet", "application/vnd.apache.parquet"),
        ("a.ipynb", "application/x-ipynb+json"),
        ("a.json", "application/json"),
        ("page.html", "text/html"),
        ("a.zst", "application/zstd"),
        ("README", "application/octet-stream"),
        ("a.unheard-of", "application/octet-stream"),
        ("data:text", "application/octet-stream"),
        ("data:text/html,x", "application/octet-stream"),
    ],
)
def test_a_file_has_the_type_of_its_name(name: str, kind: str) -> None:
    assert media_types.of(name) == kind


@given(st.text())
def test_no_name_is_an_exception_and_every_type_fits_in_a_header(name: str) -> None:
    assert "/" in media_types.of(name)
    assert media_types.of(name).isascii()
