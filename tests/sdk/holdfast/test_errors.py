"""The exception tree: what an answer becomes, and that it survives a pickle."""

from __future__ import annotations

import pickle
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest

from holdfast import errors
from holdfast.wire import Process, ProgressInfo, State


def refusal(status: int, headers: dict[str, str] | None = None, **problem: object) -> errors.APIError:
    return errors.from_answer(status, headers or {}, msgspec.json.encode(problem))


def test_an_error_carries_status_title_detail_type_and_hints() -> None:
    error = refusal(
        400,
        title="The upload stands elsewhere",
        detail="it stands at 7",
        type="/problems/offset-mismatch",
        bytes_read=7,
    )
    assert isinstance(error, errors.OffsetMismatch)
    assert (error.status, error.title, error.detail) == (400, "The upload stands elsewhere", "it stands at 7")
    assert error.offset == 7
    assert error.members == {"bytes_read": 7}
    assert str(error) == "The upload stands elsewhere: it stands at 7 (400)"


@pytest.mark.parametrize(
    ("status", "type", "expected"),
    [
        (400, "about:blank", errors.BadRequest),
        (401, "/problems/unauthorized", errors.Unauthorized),
        (404, "/problems/no-such-file", errors.NotFound),
        (400, "/problems/illegal-state", errors.IllegalState),
        (409, "/problems/illegal-state", errors.IllegalState),
        (409, "/problems/conflict", errors.Conflict),
        (409, "https://iana.org/assignments/http-problem-types#mismatching-upload-offset", errors.OffsetMismatch),
        (460, "/problems/checksum-mismatch", errors.ChecksumMismatch),
        (418, "about:blank", errors.APIError),
        (500, "/problems/internal", errors.ServerError),
        (502, "about:blank", errors.ServerError),
        (503, "/problems/unavailable", errors.Unavailable),
        (507, "/problems/no-space", errors.NoSpace),
    ],
)
def test_the_type_decides_then_the_status(status: int, type: str, expected: type[Exception]) -> None:
    assert refusal(status, type=type).__class__ is expected


def test_the_page_of_a_proxy_becomes_the_detail() -> None:
    error = errors.from_answer(502, {}, b"<html>bad gateway</html>")
    assert isinstance(error, errors.ServerError)
    assert error.detail == "<html>bad gateway</html>"
    assert errors.from_answer(502, {}, b"\xff\xfe").detail


def test_hints_are_attributes() -> None:
    illegal = refusal(409, type="/problems/illegal-state", state="paused", possible=["resume", "cancel"])
    assert isinstance(illegal, errors.IllegalState)
    assert (illegal.state, illegal.possible) == ("paused", ["resume", "cancel"])
    bad = refusal(400, field="table")
    assert isinstance(bad, errors.BadRequest)
    assert bad.field == "table"
    bug = refusal(500, error_id="abc")
    assert isinstance(bug, errors.ServerError)
    assert bug.error_id == "abc"


def test_an_offset_that_is_not_told_is_a_protocol_error() -> None:
    error = refusal(409, type="/problems/offset-mismatch")
    assert isinstance(error, errors.OffsetMismatch)
    with pytest.raises(errors.ProtocolError):
        _ = error.offset


def test_retry_after_is_seconds_or_a_date() -> None:
    assert errors.retry_after("3") == 3
    assert errors.retry_after(None) is None
    assert errors.retry_after("soon") is None
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (errors.retry_after(later) or 0) <= 60
    assert errors.retry_after("Thu, 01 Jan 1970 00:00:00 -0000") == 0
    assert refusal(429, {"retry-after": "2"}).retry_after == 2


def every(cls: type[errors.HoldfastError]) -> list[type[errors.HoldfastError]]:
    return [cls, *(below for child in cls.__subclasses__() for below in every(child))]


def test_every_exception_can_be_pickled() -> None:
    process = Process("p", "t", {}, State.FAILED, ProgressInfo(), datetime.now(UTC))
    for cls in {c for c in every(errors.HoldfastError) if c.__module__ == "holdfast.errors"}:
        if issubclass(cls, errors.APIError):
            error: errors.HoldfastError = cls(409, "title", "detail", "type", {"a": 1}, 2.0)
        elif issubclass(cls, errors.ProcessError):
            error = cls("it failed", process)
        else:
            error = cls("words")
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is cls
        assert again.args == error.args
        assert vars(again) == vars(error)


def test_the_tree_at_the_top_names_every_exception() -> None:
    drawn = set(re.findall(r"\b[A-Z]\w+\b", (errors.__doc__ or "").split("Every one")[0]))
    defined = {cls.__name__ for cls in every(errors.HoldfastError) if cls.__module__ == "holdfast.errors"}
    assert defined - drawn == set()
    assert defined | {"from_answer"} == set(errors.__all__)
