"""A request is repeated by a client that knows nothing of parameters which its work type has gained meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest

from holdfast.wire import State
from holdfast.work import Job, Progress, WorkType, work_type
from tests.support.processes import engine_on, reaches, shut, start
from tornado_app import problems
from tornado_app.problems import ProblemError
from tornado_app.processes.registry import Registry
from tornado_app.settings import Settings
from tornado_app.work_types.export_csv import export_csv
from tornado_app.work_types.import_csv import import_csv


class Inner(msgspec.Struct):
    a: int = 1


class InnerLater(msgspec.Struct):
    a: int = 1
    b: list[int] = []


class Before(msgspec.Struct):
    to: int
    inner: Inner = msgspec.field(default_factory=Inner)


class After(msgspec.Struct):
    to: int
    inner: InnerLater = msgspec.field(default_factory=InnerLater)
    anything: Any = 1
    octets: bytes = b"\0"


class Narrower(msgspec.Struct):
    to: str


def grows(params: type[Any]) -> WorkType:
    """A work type of one name, by its version."""

    @work_type("grows", params=params)
    def work(job: Job[Any]) -> Iterator[Progress]:
        yield Progress()

    return work


async def taken(engine: Any, *args: Any, **options: Any) -> None:
    with pytest.raises(ProblemError, match="'p' was started with another request") as refusal:
        await start(engine, *args, **options)
    assert refusal.value.kind is problems.ID_TAKEN


async def test_a_repeated_request_is_known_when_its_work_type_has_gained_parameters(settings: Settings) -> None:
    engine = engine_on(settings, Registry([grows(Before)]))
    await engine.open()
    first = await start(engine, "p", "grows", to=1)
    await reaches(engine, "p", State.SUCCEEDED)
    await shut(engine)
    engine = engine_on(settings, Registry([grows(After)]))
    await engine.open()
    try:
        assert (await start(engine, "p", "grows", to=1)).created == first.created
        again = await start(engine, "p", "grows", to=1, inner={"a": 1, "b": []}, anything=1)
        assert (again.created, again.attempt) == (first.created, 1)
        others: tuple[dict[str, Any], ...] = (
            {"to": 2}, {"inner": {"a": 2}}, {"inner": {"b": [1]}}, {"anything": True}, {"anything": None},
            {"octets": "AQ=="}, {"priority": 1}, {"labels": {"a": "b"}}, {"retries": 2}, {"deadline_s": 60},
        )  # fmt: skip
        for other in others:
            await taken(engine, "p", "grows", **{"to": 1} | other)
    finally:
        await shut(engine)


async def test_what_does_not_fit_its_work_type_any_more_is_another_request(settings: Settings) -> None:
    engine = engine_on(settings, Registry([grows(Before)]))
    await engine.open()
    await start(engine, "p", "grows", to=1)
    await reaches(engine, "p", State.SUCCEEDED)
    await shut(engine)
    engine = engine_on(settings, Registry([grows(Narrower)]))
    await engine.open()
    try:
        await taken(engine, "p", "grows", to="1")
    finally:
        await shut(engine)


OF_0_1 = (
    (
        import_csv,
        {"file_name": "x.csv", "table": "t"},
        b'{"batch_rows":1000,"database":"default","delimiter":",","encoding":"utf-8","file_name":"x.csv","table":"t"}',
        "e28d43a1a220910f3cd96974379f0403fe58cebbd82a9af72a60189aa3768464",
        {"header": False},
    ),
    (
        export_csv,
        {"query": "SELECT 1 AS n", "key": "n", "file_name": "x.csv"},
        b'{"batch_rows":1000,"database":"default","delimiter":",","file_name":"x.csv","key":"n",'
        b'"query":"SELECT 1 AS n","values":{}}',
        "b907a6937fd4d5505f2ccf5893b786f5b45611fbfee5bdb7de237d886ee55fd3",
        {"spreadsheet": True},
    ),
)
"""Requests with what an earlier version has kept of them in its journal, and what makes another one of each."""


@pytest.mark.parametrize(
    ("work", "params", "kept", "digest", "other"), OF_0_1, ids=lambda value: getattr(value, "name", "")
)
async def test_requests_of_an_earlier_version_are_known(
    settings: Settings, work: WorkType, params: dict[str, Any], kept: bytes, digest: str, other: dict[str, Any]
) -> None:
    engine = engine_on(settings, Registry([work]))
    await engine.open()
    first = await start(engine, "p", work.name, **params)
    await reaches(engine, "p", State.SUCCEEDED, State.FAILED)
    await shut(engine)
    with closing(sqlite3.connect(settings.data_dir / "journal.sqlite")) as journal, journal:
        journal.execute("UPDATE processes SET params = ?, request = ?", (kept, bytes.fromhex(digest)))
    journal.close()
    engine = engine_on(settings, Registry([work]))
    await engine.open()
    try:
        assert (await start(engine, "p", work.name, **params)).created == first.created
        await taken(engine, "p", work.name, **params | other)
        await taken(engine, "p", work.name, **params | {"batch_rows": 2})
    finally:
        await shut(engine)
