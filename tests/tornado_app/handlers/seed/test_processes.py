"""Refusals of bad input at the seed's process endpoints: the fault, the remedy, and nothing begun."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tornado_app.settings import Settings

GOOD = {"work_type": "import-csv", "file_name": "good.csv", "table": "t"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    (settings.files_dir / "good.csv").write_text("a,b\n1,2\n3,4\n", encoding="utf-8")
    return settings


async def refused(http: httpx.AsyncClient, params: dict[str, Any], status: int = 400) -> dict[str, Any]:
    """The problem that a start gets; nothing was begun."""
    answer = await http.get("/bad/process/", params=params)
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert answer.status_code == status
    assert (await http.post("/bad/process/pause/")).status_code == 404
    return dict(answer.json())


async def ended(http: httpx.AsyncClient, params: dict[str, Any], id: str = "p") -> dict[str, Any]:
    """A process, started and waited for."""
    process = (await http.get(f"/{id}/process/", params=params)).json()
    while process.get("ended") is None:
        await asyncio.sleep(0.01)
        process = (await http.get(f"/{id}/process/")).json()
    return dict(process)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"work_type": "no-such"}, ["no-such", "manifest", "import-csv"]),
        ({"batch_rows": "many"}, ["batch_rows", "int"]),
        ({"batch_rows": "0"}, ["batch_rows"]),
        ({"colour": "red"}, ["colour"]),
        ({"table": "1; DROP TABLE t"}, ["table"]),
        ({"table": "holdfast_imports"}, ["table"]),
        ({"table": None}, ["table"]),
        ({"file_name": None}, ["file_name"]),
        ({"table": "t\n"}, ["table"]),
        ({"delimiter": ",,"}, ["delimiter"]),
        ({"delimiter": ",\n"}, ["delimiter"]),
        (
            {"encoding": "klingon"},
            ["encoding", "klingon", "one of cp1252, latin-1, utf-16, utf-16-be, utf-16-le, utf-8"],
        ),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None,
)
async def test_a_start_that_cannot_be_names_what_is_wrong(
    http: httpx.AsyncClient, change: dict[str, Any], says: list[str]
) -> None:
    params = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    problem = await refused(http, params)
    for word in says:
        assert word in problem["detail"], problem


@pytest.mark.parametrize("id", ["a b", "ü", "x" * 129, "a/b", "../x", "a\nb", "a\0b", ".", ".."])
async def test_an_id_that_cannot_be_is_refused(http: httpx.AsyncClient, id: str) -> None:
    answer = await http.get(f"/{quote(id, safe='').replace('.', '%2E')}/process/")
    assert answer.status_code == 400, answer.text
    assert "128" in answer.json()["detail"]


async def test_a_value_that_ends_in_a_slash_is_written_with_two(http: httpx.AsyncClient) -> None:
    for given, meant in (("2013", "2013"), ("2013/", "2013"), ("2013//", "2013/")):
        answer = await http.get(f"/p-{len(given)}/process/?work_type=manifest/&prefix={given}")
        assert answer.json()["params"] == {"prefix": meant}


async def test_the_same_id_with_another_request_is_refused_and_the_first_goes_on(http: httpx.AsyncClient) -> None:
    first = await ended(http, GOOD)
    for other in ({**GOOD, "table": "u"}, {"work_type": "manifest"}):
        answer = await http.get("/p/process/", params=other)
        assert answer.status_code == 400
        assert "p" in answer.json()["detail"]
    again = (await http.get("/p/process/", params=GOOD)).json()
    assert again["version"] == first["version"]
    assert again["state"] == "succeeded"


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
async def test_what_has_ended_takes_no_more_verbs(http: httpx.AsyncClient, verb: str) -> None:
    await ended(http, GOOD)
    answer = await http.post(f"/p/process/{verb}/")
    assert answer.status_code == 400
    assert answer.json()["state"] == "succeeded"
    assert "ended" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"work_types": "import-csv"}', b'{"work_type": ["x"]}', b"\xff", b'{"work_types": [1]}']
)
async def test_a_resume_whose_body_does_not_fit_is_refused(http: httpx.AsyncClient, body: bytes) -> None:
    await ended(http, GOOD)
    answer = await http.post("/p/process/resume/", content=body)
    assert answer.status_code == 400
    assert answer.json()["type"] in ("/problems/bad-body", "/problems/bad-parameters")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "first line should name the columns"),
        (b"a,a\n1,2\n", "name each column once"),
        (b"a,\n1,2\n", "name each column once"),
        (b"a,b\n1,2\n1,2,3\n", "row 2"),
        (b"a,b\n1,2\n1\n", "row 2"),
        (b"a,b\n1,2\n\xe9,3\n", "not utf-8"),
        (b'a,b\n1,"2\n', "row 1"),
    ],
    ids=["empty", "twice", "nameless", "too wide", "too narrow", "latin-1", "open quote"],
)
async def test_a_csv_that_is_not_one_fails_with_the_row_and_cancelling_takes_back_what_it_wrote(
    http: httpx.AsyncClient, settings: Settings, content: bytes, says: str
) -> None:
    (settings.files_dir / "bad.csv").write_bytes(content)
    process = await ended(http, {**GOOD, "file_name": "bad.csv", "batch_rows": 1})
    assert process["state"] == "failed"
    assert says in process["error"]["message"]
    assert "bad.csv" in process["error"]["message"]
    assert "Traceback" not in process["error"]["message"]
    await http.post("/p/process/cancel/")
    while (process := (await http.get("/p/process/")).json())["state"] != "cancelled":
        await asyncio.sleep(0.01)
    with closing(sqlite3.connect(settings.data_dir / "default.sqlite")) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert "t" not in tables or database.execute("SELECT count(*) FROM t").fetchone() == (0,)


async def test_a_file_that_is_not_there_fails_and_a_resume_tries_again_once_it_is(
    http: httpx.AsyncClient, settings: Settings
) -> None:
    params = {**GOOD, "file_name": "later.csv"}
    process = await ended(http, params)
    assert process["state"] == "failed"
    assert "later.csv" in process["error"]["message"]
    (settings.files_dir / "later.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    assert (await http.post("/p/process/resume/")).status_code == 200
    assert (await ended(http, params))["result"]["rows"] == 1
