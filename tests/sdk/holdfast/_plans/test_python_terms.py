"""Errors in Python speak of arguments and methods, also where the server speaks of HTTP."""

from __future__ import annotations

import uuid

import pytest

import holdfast
from holdfast._plans.python_terms import in_python
from holdfast.errors import APIError, NotFound, PreconditionFailed


@pytest.fixture
def prefix() -> str:
    """Folder of this test on the server that all share."""
    return f"{uuid.uuid4().hex}/"


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ("there is a file 'a' already. Say overwrite=true to replace it", "Pass overwrite=True to replace it"),
        ("(give header=false when it names none)", "(give header=False when it names none)"),
        ("send the server's token as Authorization: Bearer TOKEN", "pass the server's token as token="),
        ("without the token. Send it as Authorization: Bearer TOKEN", "without the token. Pass it as token="),
        ("GET /v1/files lists those that there are", "client.files.list() lists those that there are"),
        ("GET /v1/work-types lists them", "client.work_types() lists them"),
        ("limit must be a whole number", "page_size must be a whole number"),
        ("deadline_s is more than 0 seconds", "deadline is more than 0 seconds"),
        ("there is no process 'limit must be'. Start it first", "there is no process 'limit must be'. Start it first"),
    ],
)
def test_advice_is_in_the_terms_of_python(detail: str, words: str) -> None:
    assert in_python(detail).endswith(words)


def test_the_errors_of_a_server_are(client: holdfast.Client, prefix: str) -> None:
    client.files.write(f"{prefix}a", b"1")
    with pytest.raises(PreconditionFailed, match=r"a' exists\. Pass overwrite=True to replace it"):
        client.files.write(f"{prefix}a", b"2")
    with pytest.raises(NotFound, match=r"there is no file '.*'\. client\.files\.list\(\) lists those that there are"):
        client.files.delete(f"{prefix}b")
    with pytest.raises(APIError, match="page_size must be a whole number from 1 to 1000"):
        list(client.processes.list(page_size=100_000))
    with pytest.raises(APIError, match="ids, work_type, state or labels"):
        client.processes.pause_all()
    with pytest.raises(APIError, match="deadline is more than 0 seconds"):
        client.processes.start("manifest", deadline=-1)


def test_an_etag_may_be_copied_with_its_quotes(client: holdfast.Client, prefix: str) -> None:
    etag = client.files.write(f"{prefix}a", b"1").etag
    with pytest.raises(PreconditionFailed, match=r"is not the version that the request expects\. Its etag is"):
        client.files.write(f"{prefix}a", b"2", etag='"another"')
    assert client.files.write(f"{prefix}a", b"2", etag=f'"{etag}"').size == 1
