"""Digest fields as RFC 9530 has them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_app.protocols import digests

CONTENT = b'{"hello": "world"}\n'
SHA256 = hashlib.sha256(CONTENT).digest()
SHA512 = hashlib.sha512(CONTENT).digest()


def test_the_example_of_the_standard() -> None:
    assert digests.write("sha-256", SHA256) == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


def test_digests_read_back() -> None:
    field = f"{digests.write('sha-256', SHA256)}, {digests.write('sha-512', SHA512)}"
    assert digests.read(field) == {"sha-256": SHA256, "sha-512": SHA512}


def test_algorithms_that_are_unknown_or_unsafe_are_left_out() -> None:
    assert digests.read("md5=:AAAA:, crc32c=:AAAA:") == {}
    assert digests.read(f"md5=:AAAA:, {digests.write('sha-256', SHA256)}") == {"sha-256": SHA256}


@pytest.mark.parametrize(
    "field", ["sha-256=abc", "sha-256", "sha-256=:AAAA:", 'sha-256="x"', "sha-256=:AAAA", "=", "SHA-256=::"]
)
def test_ill_formed_fields_are_none(field: str) -> None:
    assert digests.read(field) is None


@pytest.mark.parametrize(
    ("field", "algorithm"),
    [
        (None, "sha-256"),
        ("", "sha-256"),
        ("sha-256=1", "sha-256"),
        ("sha-512=10, sha-256=1", "sha-512"),
        ("sha-512=1, sha-256=10", "sha-256"),
        ("sha-256=0", "sha-512"),
        ("sha-256=0, sha-512=0", None),
        ("md5=10", "sha-256"),
        ("sha-512=11", "sha-256"),
        ("sha-512=?1", "sha-256"),
        ("((", "sha-256"),
    ],
)
def test_the_algorithm_that_the_client_prefers(field: str | None, algorithm: str | None) -> None:
    assert digests.preferred(field, ["sha-256", "sha-512"]) == algorithm


def test_nothing_is_preferred_where_nothing_is_known() -> None:
    assert digests.preferred("sha-256=10", []) is None


def test_a_block_digest_is_read_as_it_is_written() -> None:
    digest = bytes(range(32))
    field = digests.write_block(digest)
    assert field.startswith("blake3-1m=:AAEC")
    assert digests.read_block(field) == {"blake3-1m": digest}
    assert digests.read_block(f"{field}, other=:AAAA:") == {"blake3-1m": digest}
    assert digests.read_block("other=:AAAA:") == {}
    for ill_formed in ("blake3-1m=:AAAA:", "blake3-1m=1", "blake3-1m", "(("):
        assert digests.read_block(ill_formed) is None
    assert digests.read(field) == {}  # in Repr-Digest it is one of the unknown algorithms


@given(st.text())
def test_no_field_is_an_exception(field: str) -> None:
    digests.read(field)
    digests.read_block(field)
    digests.preferred(field, digests.LENGTHS)


def test_every_algorithm_is_one_of_hashlib() -> None:
    for algorithm, length in digests.LENGTHS.items():
        assert hashlib.new(digests.HASHLIB[algorithm]).digest_size == length
