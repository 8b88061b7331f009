"""The decoders of text bodies: any split of any body gives the same bytes, and what is wrong is said."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_app.protocols.forms.decoder import BodyError
from tornado_app.protocols.forms.text import decoder

FORM = "application/x-www-form-urlencoded"
MULTIPART = 'multipart/form-data; boundary="the boundary"'
JSON = "application/json; charset=utf-8"


def decoded(content_type: str, body: bytes, cuts: list[int] | None = None, encoding: str = "") -> bytes:
    """The text of a body that comes in pieces, cut at `cuts`."""
    reader = decoder(content_type, encoding)
    out = []
    last = 0
    for cut in [*sorted(min(cut, len(body)) for cut in cuts or []), len(body)]:
        out.append(reader.feed(body[last:cut]))
        last = cut
    out.append(reader.finish())
    return b"".join(out)


def multipart(text: bytes, name: str = "text", extra: str = "") -> bytes:
    head = f'--the boundary\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return b"preamble\r\n" + head.encode() + text + b"\r\n--the boundary--\r\nepilogue"


PIECES = [
    *(
        b"text",
        b"=",
        b"&",
        b"%",
        b"%4",
        b"41",
        b"{",
        b'"',
        b'"text"',
        b":",
        b"\\",
        b"\\u",
        b"d83d",
        b"\\ud83d",
        b"}",
        b" ",
    ),
    *(b"\r\n", b"--the boundary", b"--", b"Content-Disposition: form-data; name=text", b"QUI=", b"="),
]
texts = st.text(st.characters(codec="utf-8"), max_size=300)
splits = st.lists(st.integers(0, 2000), max_size=12)


@given(texts, splits)
def test_a_form_field_comes_out_as_it_went_in(text: str, cuts: list[int]) -> None:
    assert decoded(FORM, urlencode({"text": text}).encode(), cuts) == text.encode()
    assert decoded(FORM, b"te%78t=" + quote(text, safe="").encode(), cuts) == text.encode()


@given(texts, splits, st.booleans())
def test_a_json_text_comes_out_as_it_went_in(text: str, cuts: list[int], ascii_only: bool) -> None:
    body = json.dumps({"text": text}, ensure_ascii=ascii_only, indent=1).encode()
    assert decoded(JSON, body, cuts) == text.encode()


@given(st.binary(max_size=300), splits)
def test_a_multipart_field_comes_out_as_it_went_in(data: bytes, cuts: list[int]) -> None:
    assert decoded(MULTIPART, multipart(data), cuts) == data


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"--", b"\r\n--the boundar", b"-", b"x"]), max_size=12), splits)
def test_what_looks_like_a_boundary_is_data(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    assert decoded(MULTIPART, multipart(data, extra='; filename="a b.txt"'), cuts) == data


@given(st.binary(max_size=300), splits, st.sampled_from([b"", b"\n", b"\r\n"]))
def test_base64_comes_out_as_it_went_in(data: bytes, cuts: list[int], line_break: bytes) -> None:
    coded = base64.b64encode(data)
    lines = line_break.join(coded[i : i + 76] for i in range(0, len(coded), 76)) + line_break
    assert decoded("text/plain", lines, cuts, "base64") == data
    assert decoded(JSON, json.dumps({"text": lines.decode()}).encode(), cuts, "base64") == data
    assert decoded(FORM, urlencode({"text": lines}).encode(), cuts, "base64") == data


@given(st.binary(max_size=200), splits)
def test_a_raw_body_is_taken_as_it_is(data: bytes, cuts: list[int]) -> None:
    assert decoded("application/octet-stream", data, cuts) == data
    assert decoded("", data, cuts) == data


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from(PIECES),
            max_size=20,
        ).map(b"".join),
    ),
    splits,
    st.sampled_from([FORM, JSON, MULTIPART, ""]),
    st.sampled_from(["", "base64"]),
)
def test_any_bytes_are_read_or_refused_and_the_split_makes_no_difference(
    body: bytes, cuts: list[int], content_type: str, encoding: str
) -> None:
    def outcome(cuts: list[int]) -> bytes | None:
        try:
            return decoded(content_type, body, cuts, encoding)
        except BodyError:
            return None

    assert outcome(cuts) == outcome([])


@pytest.mark.parametrize(
    ("content_type", "body", "says"),
    [
        (FORM, b"hello", "a field 'hello'"),
        (FORM, b"a=1&text=2", "a field 'a'"),
        (FORM, b"text=1&b=2", "a field 'b'"),
        (FORM, b"text=1&text=2", "twice"),
        (FORM, b"text=100%", "the middle of the escape"),
        (FORM, b"text=100%zz", "starts no escape"),
        (FORM, b"x" * 300, "first field is not 'text'"),
        (JSON, b"", "not a JSON object like"),
        (JSON, b"[1]", "not a JSON object like"),
        (JSON, b"{}", "not a JSON object like"),
        (JSON, b'{"text": 5}', "must be a string"),
        (JSON, b'{"other": "x"}', "member 'other'"),
        (JSON, b'{"text": "x", "b": 1}', "must end after"),
        (JSON, b'{"text": "x"', "must end after"),
        (JSON, b'{"text": "x', "in the middle of the text"),
        (JSON, b'{"text": "a\nb"}', "no JSON string may have"),
        (JSON, b'{"text": "\\q"}', "no JSON string may have"),
        (JSON, b'{"text": "\\ud800"}', "not Unicode"),
        (JSON, b'{"text": "\xff"}', "not Unicode"),
        (JSON, b"x" * 300, "not a JSON object like"),
        (MULTIPART, multipart(b"x", name="file"), "a field 'file'"),
        (MULTIPART, multipart(b"x") + multipart(b"y"), None),
        (MULTIPART, multipart(b"x").replace(b"--\r\nepilogue", b"\r\n") + multipart(b"y")[10:], "twice"),
        (MULTIPART, multipart(b"x")[:-20], "without its closing boundary"),
        (MULTIPART, b"--the boundary--\r\n", "no field 'text'"),
        (MULTIPART, b"--the boundaryX\r\n", "something after a boundary"),
        (MULTIPART, b"--the boundary\r\n" + b"h: v\r\n" * 2000, "headers do not end"),
    ],
)
def test_what_is_wrong_is_said(content_type: str, body: bytes, says: str | None) -> None:
    if says is None:
        assert decoded(content_type, body)
        return
    for cuts in ([], list(range(len(body)))):
        with pytest.raises(BodyError, match=says):
            decoded(content_type, body, cuts)


@pytest.mark.parametrize("coded", [b"QUI", b"QUI=QUI=", b"Q!I=", b"QUI=\nA", b"===="])
def test_bad_base64_is_refused(coded: bytes) -> None:
    with pytest.raises(BodyError, match="base64"):
        decoded("", coded, encoding="base64")


def test_a_multipart_type_needs_a_boundary() -> None:
    for kind in ("multipart/form-data", f"multipart/form-data; boundary={'x' * 71}"):
        with pytest.raises(BodyError, match="boundary"):
            decoder(kind)


def test_an_empty_form_is_an_empty_text() -> None:
    assert decoded(FORM, b"") == b""


@pytest.mark.parametrize("kind", [FORM, JSON, MULTIPART, ""])
def test_what_is_held_back_stays_small(kind: str) -> None:
    bodies = {
        FORM: b"text=",
        JSON: b'{"text": "',
        MULTIPART: multipart(b"")[: -len(b"\r\n--the boundary--\r\nepilogue")],
    }
    reader = decoder(kind)
    sent = reader.feed(bodies.get(kind, b""))
    for _ in range(100):
        sent += reader.feed(b"x" * 10_000)
    assert len(sent) > 999_900
