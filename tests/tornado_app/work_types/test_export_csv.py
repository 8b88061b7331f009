"""`export-csv`: what a SELECT finds, whole and in order, and nothing but a SELECT."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from holdfast.work import Job, WorkError
from holdfast.work.testing import Workshop, check
from tornado_app.problems import ProblemError
from tornado_app.work_types.export_csv import ExportCsv, export_csv
from tornado_app.work_types.import_csv import ImportCsv, import_csv

QUERY = "SELECT id, name, size FROM things"


def fill(workshop: Workshop, rows: int = 23) -> None:
    with workshop.database().begin() as connection:
        connection.execute(text("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT, size REAL, same INTEGER)"))
        for n in range(rows):
            values = {"id": n * 3, "name": f'née; "{n}"\n' if n % 5 else None, "size": n / 4}
            connection.execute(text("INSERT INTO things VALUES (:id, :name, :size, 7)"), values)


def run(workshop: Workshop, **params: Any) -> Any:
    """Uninterrupted; its result."""
    wanted = msgspec.convert({"query": QUERY, "key": "id", "file_name": "out.csv", **params}, ExportCsv)
    assert export_csv.check_function is not None
    export_csv.check_function(wanted, workshop.setting)
    running = export_csv.function(Job("p", wanted, services=workshop))
    while True:
        try:
            next(running)
        except StopIteration as end:
            return end.value


def table(workshop: Workshop) -> list[list[str]]:
    return list(csv.reader(io.StringIO(workshop.files.read("out.csv").decode(), newline="")))


@pytest.fixture
def workshop() -> Any:
    with Workshop() as made:
        fill(made)
        yield made


@pytest.mark.parametrize("batch_rows", [1, 7, 23, 24, 1000])
def test_every_row_is_written_once_in_the_order_of_the_key(workshop: Workshop, batch_rows: int) -> None:
    result = run(workshop, batch_rows=batch_rows)
    rows = table(workshop)
    assert rows[0] == ["id", "name", "size"]
    assert rows[1:] == [[str(n * 3), f'née; "{n}"\n' if n % 5 else "", str(n / 4)] for n in range(23)]
    assert (result["rows"], result["columns"], result["file_name"]) == (23, ["id", "name", "size"], "out.csv")


@pytest.mark.slow
def test_it_can_be_stopped_anywhere() -> None:
    checked = check(export_csv, {"query": QUERY, "key": "id", "file_name": "out.csv", "batch_rows": 5}, prepare=fill)
    assert checked.result["rows"] == 23
    assert checked.yields == 5


def test_text_floats_and_expressions_can_be_keys(workshop: Workshop) -> None:
    query = (
        "WITH big AS (SELECT * FROM things WHERE size >= :least) SELECT 'k-' || (id + 1000) AS Label, size FROM big;"
    )
    assert run(workshop, query=query, key="label", values={"least": 2.5}, batch_rows=2)["rows"] == 13
    assert [row[0] for row in table(workshop)[1:]] == [f"k-{n * 3 + 1000}" for n in range(10, 23)]
    assert run(workshop, query="SELECT size FROM things", key="size", batch_rows=4)["rows"] == 23


def test_an_empty_result_is_a_header(workshop: Workshop) -> None:
    assert run(workshop, query=QUERY + " WHERE id < 0 -- none")["rows"] == 0
    assert table(workshop) == [["id", "name", "size"]]


def test_what_csv_has_no_word_for_is_written_plainly(workshop: Workshop) -> None:
    run(workshop, query="SELECT 1 AS id, x'00ff' AS octets, NULL AS none, 1e100 AS big")
    assert table(workshop)[1] == ["1", "00ff", "", "1e+100"]


def test_what_was_exported_can_be_imported_again(workshop: Workshop) -> None:
    run(workshop)
    for _ in import_csv.function(Job("q", ImportCsv("out.csv", "copy"), services=workshop)):
        pass
    with workshop.database().connect() as connection:
        assert connection.execute(text("SELECT count(*), sum(id) FROM copy")).one() == (23, 759)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"query": "DELETE FROM things"}, "must be one SELECT"),
        ({"query": "PRAGMA query_only=OFF"}, "must be one SELECT"),
        ({"query": "SELECT 1 AS id; DROP TABLE things"}, "without a semicolon"),
        ({"query": "SELECTED"}, "must be one SELECT"),
        ({"query": QUERY + " WHERE size > :least"}, "query has :least: give it in values"),
        ({"values": {"least": 1}}, "values has 'least', but query has no :least"),
        ({"query": QUERY + " WHERE id > :holdfast_after", "values": {"holdfast_after": 1}}, "another name"),
        ({"database": "other"}, "no database 'other'; the server has default"),
        ({"query": "SELECT * FROM nowhere"}, "the database refuses the query: no such table: nowhere"),
        ({"key": "nokey"}, "the database refuses the query: no such column: holdfast_query.nokey"),
        ({"query": "SELECT id) FROM (things"}, "the database refuses the query"),
        ({"key": "same", "query": "SELECT * FROM things"}, "key 'same' is not unique: 7 is there twice"),
        ({"key": "name"}, "key 'name' is NULL in 5 rows"),
    ],
    ids=lambda value: str(value),
)
def test_what_cannot_be_is_refused_with_a_reason(workshop: Workshop, params: dict[str, Any], says: str) -> None:
    with pytest.raises(WorkError) as caught:
        run(workshop, **params)
    assert says in str(caught.value)
    assert workshop.files.list() == []


def test_a_key_that_repeats_across_two_batches_is_noticed(workshop: Workshop) -> None:
    query = "SELECT id / 6 AS half FROM things"
    with pytest.raises(WorkError, match="0 is there twice"):
        run(workshop, query=query, key="half", batch_rows=1)


def test_a_bad_file_name_is_refused_at_the_start(workshop: Workshop) -> None:
    with pytest.raises(ProblemError, match="names no file"):
        run(workshop, file_name="../out.csv")


def test_a_resumed_export_whose_staged_bytes_are_gone_starts_over(workshop: Workshop) -> None:
    params = ExportCsv(QUERY, "id", "out.csv", batch_rows=5)
    first = export_csv.function(Job("p", params, services=workshop))
    checkpoint = next(first).checkpoint
    first.close()
    workshop.files.drop("export-csv-p")
    again = export_csv.function(Job("p", params, checkpoint, services=workshop, log=workshop.log.append))
    assert sum(1 for _ in again) == 5
    assert len(table(workshop)) == 24
    assert workshop.log == ["what was exported before is gone; starting over"]


@pytest.mark.parametrize("delimiter", ['"', "\n", "\r"])
def test_a_delimiter_that_is_none_is_refused(workshop: Workshop, delimiter: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="delimiter"):
        run(workshop, delimiter=delimiter)


def test_text_that_a_spreadsheet_would_compute_is_defused(workshop: Workshop) -> None:
    """OWASP, "CSV Injection"."""
    texts = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "＝1", "a=1", " =1", "", None]
    with workshop.database().begin() as connection:
        connection.execute(text("CREATE TABLE cells (id INTEGER PRIMARY KEY, cell TEXT)"))
        for n, cell in enumerate(texts):
            connection.execute(text("INSERT INTO cells VALUES (:n, :cell)"), {"n": n - 3, "cell": cell})
    query = 'SELECT id, cell AS "=cell", -1.5 AS size FROM cells'
    run(workshop, query=query, spreadsheet=True)
    rows = table(workshop)
    assert rows[0] == ["id", "'=cell", "size"]
    assert [row[1] for row in rows[1:]] == [
        *("'" + cell for cell in texts[:8] if cell),
        *(cell or "" for cell in texts[8:]),
    ]
    assert [(row[0], row[2]) for row in rows[1:4]] == [("-3", "-1.5"), ("-2", "-1.5"), ("-1", "-1.5")]
    run(workshop, query=query)
    assert table(workshop)[1][1] == "=1+1"
