"""Requests as they are made, and answers as they are read, without a socket."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from holdfast import calls, wire
from holdfast._endpoints.call import ENDPOINTS, Call, CallResponse
from holdfast.errors import ProtocolError


def url(call: Call[object]) -> str:
    return call.path + ("?" + "&".join(f"{name}={value}" for name, value in call.query) if call.query else "")


def test_parameters_become_a_query_and_what_is_none_is_left_out() -> None:
    assert url(calls.seed_upload("a b", 3, b"x", file_size=9)) == "/upload/?file_name=a b&bytes_read=3&file_size=9"
    assert url(calls.seed_upload("a", 0, b"", overwrite=True, is_complete=False)).endswith(
        "overwrite=true&is_complete=false"
    )
    assert url(calls.list_processes(state=["paused", "failed"], label=["a=1", "b=2"])) == (
        "/v1/processes?state=paused,failed&label=a=1&label=b=2"
    )
    assert url(calls.seed_start("x", "t", {"n": 5, "f": True, "l": [1], "s": "text", "z": None})) == (
        "/x/process/?work_type=t&n=5&f=true&l=[1]&s=text"
    )


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/b c.txt", "/v1/files/a/b%20c.txt"),
        ("ü?#%", "/v1/files/%C3%BC%3F%23%25"),
        ("../x", "/v1/files/%2E%2E/x"),
        ("a/./b..c", "/v1/files/a/%2E/b..c"),
    ],
)
def test_a_name_is_one_path_whatever_is_in_it(name: str, path: str) -> None:
    assert calls.get_file(name).path == path


def test_an_id_can_not_become_another_path() -> None:
    assert calls.get_process("a/../b").path == "/v1/processes/a%2F..%2Fb"
    assert calls.get_process("..").path == "/v1/processes/%2E%2E"


def test_ranges_and_conditions_are_headers() -> None:
    headers = calls.get_file("x", begin=5, end=10, etag="v1").headers
    assert (headers["Range"], headers["If-Match"]) == ("bytes=5-9", '"v1"')
    assert calls.get_file("x", begin=5).headers["Range"] == "bytes=5-"
    assert "Range" not in calls.get_file("x").headers
    assert calls.put_file("x", b"", absent=True).headers["If-None-Match"] == "*"


def test_the_headers_of_a_file_are_read() -> None:
    headers = {
        "content-length": "3",
        "etag": '"v1"',
        "repr-digest": "md5=:AAAA:, sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:",
        "content-type": "text/csv",
        "last-modified": "Sun, 06 Nov 1994 08:49:37 GMT",
    }
    head = calls.file_head(CallResponse(200, headers))
    assert (head.size, head.etag, head.content_type) == (3, "v1", "text/csv")
    assert head.sha256 == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert head.info("x").modified == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
    part = calls.file_head(CallResponse(206, headers | {"content-range": "bytes 5-7/100", "etag": 'W/"v1"'}))
    assert (part.size, part.etag) == (100, None)


@pytest.mark.parametrize(
    "headers",
    [{}, {"content-length": "x"}],
)
def test_an_answer_that_does_not_say_how_long_the_file_is_is_an_error(headers: dict[str, str]) -> None:
    with pytest.raises(ProtocolError):
        calls.file_head(CallResponse(200, headers))


def test_answers_of_other_servers_are_protocol_errors() -> None:
    with pytest.raises(ProtocolError, match="Process"):
        calls.get_process("x").read(CallResponse(200, {}, b"OK"))
    with pytest.raises(ProtocolError, match="a web page"):
        calls.get_process("x").read(CallResponse(200, {}, b"<html>"))
    with pytest.raises(ProtocolError, match="Upload-Offset"):
        calls.upload_head("x").read(CallResponse(200, {}))
    with pytest.raises(ProtocolError, match="Content-Range"):
        calls.file_head(CallResponse(206, {"content-length": "5"}))
    with pytest.raises(ProtocolError, match="ETag"):
        calls.FileHead(3, None, None, "text/plain", None).info("x")


def test_a_creation_says_what_kind_of_upload_it_begins() -> None:
    whole = calls.create_upload(length=5, metadata=calls.tus_metadata(filename="ü", overwrite=None)).headers
    assert (whole["Upload-Length"], whole["Upload-Metadata"]) == ("5", "filename w7w=")
    assert calls.create_upload().headers["Upload-Defer-Length"] == "1"
    assert calls.create_upload(length=5, partial=True).headers["Upload-Concat"] == "partial"
    final = calls.create_upload(parts=["/v1/uploads/a", "/v1/uploads/b"]).headers
    assert final["Upload-Concat"] == "final;/v1/uploads/a /v1/uploads/b"
    assert "Upload-Length" not in final
    head = calls.create_upload(length=5).read(CallResponse(201, {"location": "/prefix/v1/uploads/abc"}))
    assert (head.id, head.offset) == ("abc", 0)


def test_reading_methods_may_be_repeated_and_appending_may_not() -> None:
    never = {name for name, line in ENDPOINTS.items() if not line.repeatable}
    assert {"append", "seed_upload"} <= never
    assert not any(ENDPOINTS[name].method in ("GET", "HEAD", "OPTIONS") for name in never)
    assert ENDPOINTS["start_process"].takes is wire.StartRequest


def test_base64_is_for_bytes_that_are_there() -> None:
    assert calls.seed_upload("x", 0, b"\xff", encoding="base64").content == b"/w=="

    class Nothing:
        length = 0

        def pieces(self):  # type: ignore[no-untyped-def]
            yield b""

    with pytest.raises(TypeError):
        calls.seed_upload("x", 0, Nothing(), encoding="base64")
