"""`import-csv` row by row: what it reads, what it refuses, and that stops, rollbacks and neighbours cost no row."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest

from holdfast.wire import Process, StartRequest, State
from tests.support.processes import engine_on, reaches, shut, until
from tornado_app.problems import ProblemError
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine
from tornado_app.settings import Settings
from tornado_app.work_types.import_csv import import_csv

Row = tuple[str, ...]


class Table:
    """An engine that imports, and what is in its database."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.files = settings.files_dir
        self.database = settings.data_dir / "default.sqlite"

    def write(self, content: bytes | str, name: str = "x.csv") -> None:
        (self.files / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    async def begin(self, id: str = "p", **params: Any) -> Process:
        params = {"file_name": "x.csv", "table": "t"} | params
        process, _ = await self.engine.start(StartRequest(work_type="import-csv", id=id, params=params))
        return process

    async def load(self, id: str = "p", **params: Any) -> Process:
        """Begun and waited for."""
        await self.begin(id, **params)
        return await reaches(self.engine, id, State.SUCCEEDED, State.FAILED)

    async def fails(self, **params: Any) -> str:
        process = await self.load(**params)
        assert process.error is not None
        assert process.error.type == "WorkError", process.error
        return process.error.message

    async def cancelled(self, id: str = "p") -> None:
        await self.engine.cancel(id)
        await reaches(self.engine, id, State.CANCELLED)

    def rows(self, what: str = "*") -> list[Any]:
        with closing(sqlite3.connect(self.database)) as database:
            return database.execute(f"SELECT {what} FROM t ORDER BY rowid").fetchall()

    def run(self, statement: str) -> None:
        with closing(sqlite3.connect(self.database)) as database, database:
            database.execute(statement)


@pytest.fixture
async def table(settings: Settings) -> AsyncIterator[Table]:
    settings.data_dir.mkdir()
    engine = engine_on(settings, Registry([import_csv]))
    await engine.open()
    yield Table(engine, settings)
    await shut(engine, 2)


@pytest.mark.parametrize(
    ("content", "params", "rows"),
    [
        ("a,b\n1,2\n3,4\n", {}, [("1", "2"), ("3", "4")]),
        ("a,b\r\n1,2\r\n3,4", {}, [("1", "2"), ("3", "4")]),
        ("a,b\n\n1,2\n\n\n3,4\n\n", {}, [("1", "2"), ("3", "4")]),
        ("a,b\n", {}, []),
        ("a,b", {}, []),
        ('a,b\n"1,1","2\n2"\n"say ""hi""",\n', {}, [("1,1", "2\n2"), ('say "hi"', "")]),
        ("a;b\n1;2\n", {"delimiter": ";"}, [("1", "2")]),
        ("a\tb\n1\t2\n", {"delimiter": "\t"}, [("1", "2")]),
        ("\ufeffa,b\n1,2\n", {}, [("1", "2")]),
        ('\ufeff"a","b"\n1,2\n', {}, [("1", "2")]),
        ("a,b\ncafé,naïve\n", {}, [("café", "naïve")]),
        ("a,b\ncafé,2\n".encode("latin-1"), {"encoding": "latin-1"}, [("café", "2")]),
        ("a,b\n5 €,2\n".encode("cp1252"), {"encoding": "cp1252"}, [("5 €", "2")]),
        (" a , b \n 1 , 2 \n", {}, [(" 1 ", " 2 ")]),
    ],
)
@pytest.mark.parametrize("batch_rows", [1, 1000])
async def test_every_dialect_comes_in_as_it_stands(
    table: Table, content: bytes | str, params: dict[str, Any], rows: list[Row], batch_rows: int
) -> None:
    table.write(content)
    process = await table.load(batch_rows=batch_rows, **params)
    assert process.state == State.SUCCEEDED, process.error
    assert process.result == {"rows": len(rows), "table": "t", "columns": ["a", "b"]}
    assert table.rows("a, b") == rows


async def test_columns_may_have_any_name(table: Table) -> None:
    names = ["a b", "x%y", "f(x)", "p:q", "d.e", "sélect", "select", "'", "Ω"]
    table.write(",".join(names) + "\n" + ",".join("123456789") + "\n")
    process = await table.load()
    assert process.state == State.SUCCEEDED, process.error
    assert table.rows()[0][:9] == tuple("123456789")


@pytest.mark.parametrize(
    ("content", "params", "words"),
    [
        ("a,holdfast_process\n1,2\n", {}, "has no usable header"),
        ("a, A\n1,2\n", {}, "should name each column once"),
        ('a,b\n1,2\n3,"4"5\n', {}, "row 2 (before byte 15) is not CSV"),
        ("a,b\ncafé,2\n".encode("latin-1"), {}, "the line before byte 11 is not utf-8. Name its encoding"),
        ("ä,b\n1,2\n".encode("latin-1"), {}, "the line before byte 4 is not utf-8"),
        ("a,b\n1,2\n", {"file_name": "y.csv"}, "there is no file 'y.csv': upload it first"),
        ("a,b\n1,2\n", {"file_name": "../x.csv"}, "there is no file '../x.csv'"),
        ("a,b\n1,2\n", {"file_name": ""}, "there is no file ''"),
        ("a,b\n1,2\n", {"database": "moon"}, "there is no database 'moon'; the server has default"),
    ],
)
async def test_what_is_wrong_is_said_with_the_row_and_the_byte(
    table: Table, content: bytes | str, params: dict[str, Any], words: str
) -> None:
    table.write(content)
    assert words in await table.fails(**params)


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "\r"])
async def test_a_delimiter_that_is_none_is_refused_before_anything_starts(table: Table, delimiter: str) -> None:
    table.write("a,b\n1,2\n")
    with pytest.raises(ProblemError, match="parameter 'delimiter' of import-csv"):
        await table.begin(delimiter=delimiter)


async def test_a_table_of_other_columns_or_of_somebody_else_is_left_alone(table: Table) -> None:
    table.write("a,b\n1,2\n")
    table.run("CREATE TABLE t (a TEXT)")
    assert "is there without the column b, holdfast_process: choose another table" in await table.fails()
    await table.cancelled()
    assert table.rows() == []


async def test_what_was_there_before_stays_and_a_rollback_takes_its_own_rows_alone(table: Table) -> None:
    table.run("CREATE TABLE t (b TEXT, a TEXT, holdfast_process TEXT)")
    table.run("INSERT INTO t VALUES ('old', 'row', NULL)")
    table.write("a,b\n1,2\n")
    table.write("a,b\n3,4\n5,6\n7\n", "bad.csv")
    assert (await table.load("one")).state == State.SUCCEEDED
    assert (await table.load("two", file_name="bad.csv", batch_rows=1)).state == State.FAILED
    assert table.rows("a, b") == [("row", "old"), ("1", "2"), ("3", "4"), ("5", "6")]
    await table.cancelled("two")
    assert table.rows("a, b") == [("row", "old"), ("1", "2")]


async def test_it_goes_on_in_the_middle_after_each_pause(table: Table) -> None:
    count = 3000
    expected = [(str(n), "two\nlines" * (n % 2), "née" * (n % 3)) for n in range(count)]
    table.write("n,t,u\n" + "".join(f'{n},"{t}",{u}\n' for n, t, u in expected))
    await table.begin(batch_rows=10)
    pauses = 0
    while not (process := await table.engine.get("p")).has_ended:
        if process.state == State.RUNNING and pauses < 6:
            try:
                await table.engine.pause("p")
            except ProblemError:  # it has come to its end meanwhile
                continue
            process = await reaches(table.engine, "p", State.PAUSED, State.SUCCEEDED)
            if process.state == State.PAUSED:
                pauses += 1
                written = len(table.rows())
                assert (process.progress.note or "0 rows") == f"{written} rows", "what is shown is what is there"
                await table.engine.resume("p")
        await table.engine.wait("p", process.version, 0.02)
    assert process.state == State.SUCCEEDED
    assert pauses
    assert table.rows("n, t, u") == expected


async def test_a_file_that_was_replaced_while_it_was_paused_is_not_spliced(table: Table) -> None:
    table.write("a,b\n" + "1,2\n" * 50_000)
    await table.begin(batch_rows=10)
    await until(table.engine, "p", lambda p: (p.progress.done or 0) > 0)
    await table.engine.pause("p")
    await reaches(table.engine, "p", State.PAUSED)
    replacement = table.files / ".new"
    replacement.write_text("a,b\n" + "9,9\n" * 50_000)
    replacement.rename(table.files / "x.csv")
    await table.engine.resume("p")
    process = await reaches(table.engine, "p", State.FAILED)
    assert process.error is not None
    assert "the file has changed since the import began: cancel this one" in process.error.message
    assert ("9", "9") not in table.rows("a, b")
    await table.cancelled()
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        table.rows()


async def test_two_runs_of_one_process_cannot_both_write(table: Table, settings: Settings) -> None:
    """A run that was taken for dead and still writes stops at its next batch: the position is compared and set."""
    table.write("a,b\n" + "1,2\n" * 100_000)
    await table.begin(batch_rows=10)
    await until(table.engine, "p", lambda p: (p.progress.done or 0) > 0)
    table.run("UPDATE holdfast_imports SET byte = byte + 4, rows = rows + 1")
    process = await reaches(table.engine, "p", State.FAILED)
    assert process.error is not None
    assert process.error.message == "another run of this process writes to the table. This one stops"


async def test_an_id_used_again_imports_anew_and_its_cancel_leaves_the_earlier_rows(table: Table) -> None:
    table.write("a,b\n1,2\n3,4\n")
    assert (await table.load()).state is State.SUCCEEDED
    await table.engine.delete("p")
    again = await table.load()
    assert again.result == {"rows": 2, "table": "t", "columns": ["a", "b"]}
    assert table.rows("a") == [("1",), ("3",), ("1",), ("3",)]
    table.write("a,b\n5,6\n7\n")
    await table.engine.delete("p")
    assert (await table.load(batch_rows=1)).state is State.FAILED
    await table.cancelled()
    assert table.rows("a") == [("1",), ("3",), ("1",), ("3",)]
