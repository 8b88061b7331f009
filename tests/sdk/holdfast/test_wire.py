"""Structs of the wire: what programs rely on in JSON, and what is refused."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from holdfast import wire
from holdfast.wire import ENDED, LIVE, BulkRequest, FileLink, FileName, ProcessId, ProgressInfo, StartRequest, State

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_every_state_has_ended_or_is_live() -> None:
    assert set(State) == ENDED | LIVE
    assert not ENDED & LIVE
    for state in State:
        process = wire.ProcessInfo("p", "t", {}, state, ProgressInfo(), NOW)
        assert process.has_ended is (state in ENDED)


def test_a_process_is_read_as_it_was_sent() -> None:
    process = wire.ProcessInfo("p", "t", {"to": 5}, State.PAUSED, ProgressInfo(1, 5, "one"), NOW, labels={"a": "b"})
    encoded = msgspec.json.encode(process)
    assert msgspec.json.decode(encoded, type=wire.ProcessInfo) == process
    assert msgspec.json.decode(encoded)["created"] == "2024-05-06T07:08:09Z"


def test_an_older_client_ignores_what_a_newer_server_adds() -> None:
    sent = {"name": "n", "size": 5, "modified": "2024-05-06T07:08:09Z", "etag": "e", "content_type": "t", "new": [1]}
    assert msgspec.json.decode(msgspec.json.encode(sent), type=wire.FileInfo).size == 5


@pytest.mark.parametrize("request_type", [StartRequest, BulkRequest, wire.ResumeRequest, wire.LinkRequest])
def test_a_request_with_an_unknown_field_is_refused(request_type: type[Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `misspelt`"):
        msgspec.json.decode(b'{"misspelt": 1}', type=request_type)


def test_a_request_leaves_out_what_was_not_given() -> None:
    assert msgspec.json.encode(StartRequest("steps", {"to": 5})) == b'{"work_type":"steps","params":{"to":5}}'
    assert msgspec.json.encode(BulkRequest(ids=["a"])) == b'{"ids":["a"]}'
    assert msgspec.json.encode(wire.Event("log", "p", NOW)) == b'{"type":"log","id":"p","time":"2024-05-06T07:08:09Z"}'
    assert msgspec.json.encode(wire.Problem("No", 404)) == b'{"title":"No","status":404}'


@pytest.mark.parametrize("id", ["a", "A-b_c.9", "...", "x" * 128])
def test_ids_of_processes(id: str) -> None:
    assert msgspec.convert(id, ProcessId) == id


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "ä", "a b", "x" * 129])
def test_what_is_no_id_of_a_process(id: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(id, ProcessId)


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("data/flights.csv", True),
        (".hidden/...", True),
        ("ü/日本", True),
        ("", False),
        ("/a", False),
        ("a//b", False),
        ("a/", False),
        (".", False),
        ("a/../b", False),
        ("a\\b", False),
        ("a\nb", False),
        ("a\u200bb", False),
    ],
)
def test_the_documented_pattern_of_names(name: str, fits: bool) -> None:
    schema = msgspec.json.schema(FileName)
    assert bool(re.search(schema["pattern"], name)) is fits


def test_numbers_are_those_that_a_database_has() -> None:
    for number in (0, 2**63 - 1):
        assert msgspec.convert(number, wire.Number) == number
    for number in (-1, 2**63):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(number, wire.Number)


def test_the_url_of_a_link_is_not_displayed() -> None:
    link = FileLink("n", "/v1/files/n?signature=secret", 5)
    assert repr(link) == "FileLink('n')"


def test_every_struct_is_exported_and_described() -> None:
    structs = {
        name for name, value in vars(wire).items() if inspect.isclass(value) and issubclass(value, msgspec.Struct)
    }
    assert structs <= set(wire.__all__)
    for name in structs:
        assert inspect.getdoc(getattr(wire, name)), name


def test_the_earlier_name_of_a_process_can_still_be_imported() -> None:
    assert wire.Process is wire.ProcessInfo
