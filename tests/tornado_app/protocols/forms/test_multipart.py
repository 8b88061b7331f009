"""multipart/form-data with one file, in any split and with bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_app.protocols.forms.decoder import BodyError
from tornado_app.protocols.forms.multipart import FileField, FormPart, OnePart, boundary

B = b"a-boundary"


def part(content: bytes, disposition: str = 'form-data; name="file"; filename="a.bin"', more: str = "") -> bytes:
    return f"--a-boundary\r\nContent-Disposition: {disposition}\r\n{more}\r\n".encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--a-boundary--\r\n"


def read(body: bytes, size: int = 1 << 20) -> tuple[str | None, bytes]:
    """Return the name and the bytes of a form's file, read in pieces of this size."""
    field = FileField(B)
    out = b"".join(field.feed(body[i : i + size]) for i in range(0, len(body), size))
    return field.file_name, out + field.finish()


@given(st.binary(max_size=200) | st.just(b"\r\n--a-boundar\r\n--"), st.integers(1, 50))
def test_any_bytes_in_any_split_are_the_file(content: bytes, size: int) -> None:
    if b"\r\n--" + B not in b"\r\n" + content:
        assert read(form(part(content)), size) == ("a.bin", content)


@pytest.mark.parametrize("more", ["preamble\r\n", ""])
def test_text_around_the_form_is_not_of_it(more: str) -> None:
    assert read(more.encode() + form(part(b"x")) + b"epilogue") == ("a.bin", b"x")


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('form-data; name="file"; filename="a \\"b\\".txt"', 'a "b".txt'),
        ('form-data; name="file"; filename="a %22b%22.txt"', 'a "b".txt'),
        ("form-data; name=file; filename=a.txt", "a.txt"),
        ("form-data; name=file; filename=\"x\"; filename*=UTF-8''%C3%BC.txt", "ü.txt"),
        ('form-data; name="file"; filename="ü.txt"', "ü.txt"),
    ],
)
def test_names_are_read_as_clients_write_them(disposition: str, name: str) -> None:
    assert read(form(part(b"x", disposition))) == (name, b"x")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (form(), "no field"),
        (form(part(b"x"), part(b"y")), "second field"),
        (form(part(b"x", 'form-data; name="text"')), "is not a file"),
        (form(part(b"x"))[:-6], "closing boundary"),
        (b"--a-boundary!" + form(part(b"x")), "after a boundary"),
        (b"--a-boundary\r\n" + b"x" * 9000, "headers do not end"),
        (form(part(b"x", more="Content-Transfer-Encoding: base64\r\n")), "Send it as it is"),
    ],
)
def test_an_ill_formed_form_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(BodyError, match=says):
        read(body)


def test_a_part_is_known_before_its_content() -> None:
    seen: list[FormPart] = []
    parts = OnePart(B, seen.append)
    assert parts.feed(part(b"")[:-2]) == b""
    assert seen == [FormPart("file", "a.bin")]
    assert parts.feed(b"abc") == b"abc"


@pytest.mark.parametrize(
    ("kind", "found"),
    [("multipart/form-data; boundary=x", b"x"), ('multipart/form-data; charset=y; Boundary="a b"', b"a b")],
)
def test_the_boundary_is_a_parameter(kind: str, found: bytes) -> None:
    assert boundary(kind) == found


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 71])
def test_a_form_needs_a_boundary(kind: str) -> None:
    with pytest.raises(BodyError, match="needs a boundary"):
        boundary(kind)
