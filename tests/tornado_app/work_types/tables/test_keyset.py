"""`export-csv` by keys of every order: whatever a collation takes for equal, no row is lost and none comes twice."""

from __future__ import annotations

import csv
import io
import itertools
import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import create_engine, event, text

from holdfast.work import Job, WorkError
from holdfast.work.testing import Workshop, check
from tests.support.databases import Databases
from tests.support.servers import wait_until
from tests.support.work_runs import Run
from tornado_app.work_types.export_csv import ExportCsv, export_csv

SPELLINGS = ["".join(letters) for letters in itertools.product("aA", "bB", "cC")]
BLANKS = ["a", "a ", "a  ", " a", "b", "b "]


def has_icu(workshop: Databases) -> bool:
    return bool(workshop.ask("SELECT count(*) FROM pg_collation WHERE collprovider = 'i'")[0][0])


def fill(workshop: Databases, create: str, values: list[Any]) -> None:
    workshop.execute(*create.split(";"))
    with workshop.engine.begin() as connection:
        for n, value in enumerate(values):
            connection.execute(text("INSERT INTO keys (k, n) VALUES (:k, :n)"), {"k": value, "n": n})


@pytest.fixture
def sqlite() -> Iterator[Databases]:
    engine = create_engine("sqlite://")
    with Databases(engine) as made:
        yield made


@pytest.fixture
def postgresql(postgres: str) -> Iterator[Databases]:
    engine = create_engine(postgres)
    with Databases(engine) as made:
        yield made


def export(workshop: Workshop, **params: Any) -> list[list[str]]:
    """The rows of a whole run that is paused at every yield."""
    wanted = msgspec.convert({"query": "SELECT k, n FROM keys", "key": "k", "file_name": "x.csv", **params}, ExportCsv)
    checkpoint: Any = None
    while True:
        running = export_csv.function(Job("p", wanted, checkpoint, services=workshop))
        try:
            progress = next(running)
        except StopIteration:
            return list(csv.reader(io.StringIO(workshop.files.read("x.csv").decode(), newline="")))[1:]
        running.close()
        checkpoint = msgspec.json.decode(msgspec.json.encode(progress.checkpoint), type=export_csv.checkpoint)


SQLITE = [
    ("NOCASE", "CREATE TABLE keys (k TEXT COLLATE NOCASE, n INTEGER)", SPELLINGS),
    ("NOCASE with an index", "CREATE TABLE keys (k TEXT COLLATE NOCASE, n); CREATE INDEX i ON keys (k)", SPELLINGS),
    ("RTRIM", "CREATE TABLE keys (k TEXT COLLATE RTRIM, n INTEGER)", BLANKS),
    ("all types in one", "CREATE TABLE keys (k, n INTEGER)", [3, 2.5, "3", "A", "a", b"a", b"A", -1e300, 2**62, ""]),
    ("infinite", "CREATE TABLE keys (k REAL, n INTEGER)", [1.0, float("inf"), float("-inf"), 0.1, 1e-320]),
]


@pytest.mark.parametrize("batch_rows", [1, 3, 1000])
@pytest.mark.parametrize(("create", "keys"), [case[1:] for case in SQLITE], ids=[case[0] for case in SQLITE])
def test_sqlite_loses_no_row(sqlite: Databases, create: str, keys: list[Any], batch_rows: int) -> None:
    fill(sqlite, create, keys)
    rows = export(sqlite, batch_rows=batch_rows)
    assert sorted(int(row[1]) for row in rows) == list(range(len(keys)))


def test_a_collation_of_ones_own_is_used_where_the_engine_has_it(sqlite: Databases) -> None:
    @event.listens_for(sqlite.engine, "connect")
    def knows(connection: Any, record: object) -> None:
        connection.create_collation("mine", lambda a, b: (a.lower() < b.lower()) - (a.lower() > b.lower()))

    fill(sqlite, "CREATE TABLE keys (k TEXT COLLATE mine, n INTEGER)", [*SPELLINGS, "z", "Z"])
    rows = [row[0] for row in export(sqlite, batch_rows=1)]
    assert sorted(rows) == sorted([*SPELLINGS, "z", "Z"])
    assert rows[:2] == ["Z", "z"]


def test_a_collation_that_the_server_does_not_know_is_told_with_what_to_write(sqlite: Databases) -> None:
    """SQLite itself reads no such column in a subquery, and an index in that order would be read wrongly."""
    with sqlite.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.create_collation("mine", lambda a, b: 0)
        fill(sqlite, "CREATE TABLE keys (k TEXT COLLATE mine, n INTEGER)", SPELLINGS)
        driver.create_collation("mine", None)
    with pytest.raises(WorkError, match=r"no such collation sequence: mine\. In the query, write"):
        export(sqlite)
    rows = export(sqlite, query="SELECT k COLLATE BINARY AS k, n FROM keys", batch_rows=3)
    assert [row[0] for row in rows] == sorted(SPELLINGS)


def test_an_index_in_the_order_of_the_collation_is_used(sqlite: Databases) -> None:
    """So that a page costs what a page holds."""
    fill(sqlite, "CREATE TABLE keys (k TEXT COLLATE NOCASE, n); CREATE INDEX i ON keys (k)", SPELLINGS)
    plans: list[str] = []

    @event.listens_for(sqlite.engine, "before_cursor_execute")
    def explained(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        if "holdfast_key" in statement:
            plan = connection.connection.driver_connection.execute("EXPLAIN QUERY PLAN " + statement, values)
            plans.append(" / ".join(row[3] for row in plan))

    export(sqlite, batch_rows=3)
    assert plans
    assert all("USING INDEX i" in plan for plan in plans)
    assert all("SEARCH" in plan for plan in plans[1:])


POSTGRES = [
    ("citext", "CREATE EXTENSION citext; CREATE TABLE keys (k CITEXT, n INTEGER)", SPELLINGS),
    ("default", "CREATE TABLE keys (k TEXT PRIMARY KEY, n INTEGER)", [*SPELLINGS, *BLANKS, "é", "e", "-", "_x"]),
    ("a language", 'CREATE TABLE keys (k TEXT COLLATE "en-x-icu", n INTEGER)', [*SPELLINGS, *BLANKS, "é", "e"]),
    (
        "nondeterministic",
        "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        "CREATE TABLE keys (k TEXT COLLATE ci, n INTEGER)",
        SPELLINGS,
    ),
    ("enum", "CREATE TYPE mood AS ENUM ('b', 'c', 'a'); CREATE TABLE keys (k mood, n INTEGER)", ["b", "c", "a"]),
    ("char", "CREATE TABLE keys (k CHAR(5), n INTEGER)", SPELLINGS),
    ("int", "CREATE TABLE keys (k BIGINT, n INTEGER)", [5, -3, 2**40, 0]),
    ("numeric", "CREATE TABLE keys (k NUMERIC, n INTEGER)", ["1.5", "2", "NaN", "-3.25", "1e30"]),
    ("real", "CREATE TABLE keys (k REAL, n INTEGER)", [0.1, 0.2, 1e30, "inf", "-inf", "nan"]),
    ("double", "CREATE TABLE keys (k FLOAT8, n INTEGER)", [0.1, 1 / 3, "inf", "nan", -1e-300]),
    ("bytea", "CREATE TABLE keys (k BYTEA, n INTEGER)", [b"a", b"A", b"\\", b"\x00\xff", b""]),
    ("timestamp", "CREATE TABLE keys (k TIMESTAMPTZ, n INTEGER)", ["2026-01-01 00:00:00.000001+02", "1999-12-31"]),
    ("interval", "CREATE TABLE keys (k INTERVAL, n INTEGER)", ["1 day", "24 hours", "1 month", "30 days"]),
    ("uuid", "CREATE TABLE keys (k UUID, n INTEGER)", [f"{n}0000000-0000-0000-0000-000000000000" for n in "f19"]),
    ("inet", "CREATE TABLE keys (k INET, n INTEGER)", ["10.0.0.1", "10.0.0.1/8", "::1"]),
    ("bit", "CREATE TABLE keys (k VARBIT, n INTEGER)", ["101", "1", "0"]),
    ("domain", 'CREATE DOMAIN word AS TEXT COLLATE "en-x-icu"; CREATE TABLE keys (k word, n INTEGER)', SPELLINGS),
]  # fmt: skip


@pytest.mark.parametrize(("create", "keys"), [case[1:] for case in POSTGRES], ids=[case[0] for case in POSTGRES])
def test_postgresql_loses_no_row(postgresql: Databases, create: str, keys: list[Any]) -> None:
    if "icu" in create and not has_icu(postgresql):
        pytest.skip("this PostgreSQL was built without ICU, so it has no such collations")
    fill(postgresql, create, [])
    with postgresql.engine.begin() as connection:
        typed = connection.execute(
            text(
                "SELECT CAST(format_type(atttypid, atttypmod) AS text) FROM pg_attribute "
                "WHERE attrelid = CAST('keys' AS regclass) AND attname = 'k'"
            )
        ).scalar()
        for n, key in enumerate(keys):
            connection.execute(text(f"INSERT INTO keys (k, n) VALUES (CAST(:k AS {typed}), :n)"), {"k": key, "n": n})
    for batch_rows in (1, 3, 1000):
        rows = export(postgresql, batch_rows=batch_rows)
        assert sorted(int(row[1]) for row in rows) == list(range(len(keys)))


def test_names_that_need_quoting_and_columns_of_one_name(postgresql: Databases, sqlite: Databases) -> None:
    for workshop in (postgresql, sqlite):
        fill(workshop, "CREATE TABLE keys (k INTEGER, n INTEGER)", [1, 2, 3])
        query = 'SELECT k AS "a %s:b""\\c", n AS x, \'100%\' AS x FROM keys WHERE k % 10 < :most'
        rows = export(workshop, query=query, key='a %s:b"\\c', batch_rows=1, values={"most": 9})
        assert rows == [["1", "0", "100%"], ["2", "1", "100%"], ["3", "2", "100%"]]


def test_it_can_be_stopped_anywhere_on_postgresql(postgresql: Databases) -> None:
    fill(postgresql, "CREATE TABLE keys (k TEXT, n INTEGER)", SPELLINGS)
    assert len(export(postgresql, batch_rows=3)) == 8


@pytest.mark.parametrize(("kind", "after", "create", "keys"), [
    ("int", 2, "CREATE TABLE keys (k INTEGER, n INTEGER)", [1, 2, 3]),
    ("str", "b", "CREATE TABLE keys (k TEXT, n INTEGER)", ["a", "b", "c"]),
    ("bytes", "Yg==", "CREATE TABLE keys (k BYTEA, n INTEGER)", [b"a", b"b", b"c"]),
    ("float", 0.5, "CREATE TABLE keys (k FLOAT, n INTEGER)", [0.25, 0.5, 0.75]),
])  # fmt: skip
def test_what_an_earlier_version_began_goes_on(
    postgresql: Databases, sqlite: Databases, kind: str, after: Any, create: str, keys: list[Any]
) -> None:
    for workshop in (postgresql, sqlite):
        fill(workshop, create, keys)
        workshop.files.stage("x.csv", "export-csv-p").write(b"k,n\n1,0\n2,1\n")
        old = {"kind": kind, "after": after, "byte": 12, "rows": 2, "total": 3}
        params = ExportCsv("SELECT k, n FROM keys", "k", "x.csv")
        for _ in export_csv.function(Job("p", params, msgspec.convert(old, export_csv.checkpoint), services=workshop)):
            pass
        assert workshop.files.read("x.csv").splitlines()[3].endswith(b",2")


def test_fewer_rows_than_the_select_holds_is_a_failure(sqlite: Databases) -> None:
    """A row whose key moves behind where the export stands."""
    fill(sqlite, "CREATE TABLE keys (k INTEGER, n INTEGER)", [1, 2, 3, 4])
    running = export_csv.function(
        Job("p", ExportCsv("SELECT k FROM keys", "k", "x.csv", batch_rows=2), services=sqlite)
    )
    next(running)
    with sqlite.engine.begin() as connection:
        connection.execute(text("UPDATE keys SET k = 0 WHERE k = 4"))
    with pytest.raises(WorkError, match="3 rows were written, but the SELECT holds 4"):
        list(running)
    assert workshop_is_empty(sqlite)


def test_rows_that_come_and_go_meanwhile_are_no_failure(sqlite: Databases) -> None:
    for statement in ("INSERT INTO keys (k) VALUES (0)", "DELETE FROM keys WHERE k = 3"):
        with sqlite.engine.begin() as connection:
            connection.execute(text("DROP TABLE IF EXISTS keys"))
        fill(sqlite, "CREATE TABLE keys (k INTEGER, n INTEGER)", [1, 2, 3, 4])
        running = export_csv.function(
            Job("p" + statement, ExportCsv("SELECT k FROM keys", "k", "x.csv", batch_rows=2), services=sqlite)
        )
        next(running)
        with sqlite.engine.begin() as connection:
            connection.execute(text(statement))
        list(running)


def workshop_is_empty(workshop: Workshop) -> bool:
    return workshop.files.list() == []


@pytest.mark.usefixtures("postgres_server")
@pytest.mark.parametrize("fixture", ["sqlite", "postgresql"])
def test_the_transactions_that_read_can_not_write(request: pytest.FixtureRequest, fixture: str) -> None:
    workshop: Databases = request.getfixturevalue(fixture)
    fill(workshop, "CREATE TABLE keys (k INTEGER, n INTEGER)", [1, 2, 3])
    if fixture == "postgresql":
        fill(workshop, "CREATE FUNCTION wipe() RETURNS INTEGER LANGUAGE sql AS 'DELETE FROM keys RETURNING 1'", [])
        with pytest.raises(WorkError, match="read-only transaction"):
            export(workshop, query="SELECT k, wipe() FROM keys")
    statements: list[str] = []

    @event.listens_for(workshop.engine, "before_cursor_execute")
    def tries(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "ORDER BY" in statement and fixture == "sqlite":
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                connection.connection.driver_connection.execute("DELETE FROM keys")
            statements.append(statement)

    assert len(export(workshop, batch_rows=1)) == 3
    assert statements or fixture == "postgresql"
    event.remove(workshop.engine, "before_cursor_execute", tries)
    with workshop.engine.begin() as connection:
        connection.execute(text("DELETE FROM keys WHERE k = 1"))


def too_large(workshop: Databases, query: str) -> str:
    with pytest.raises(WorkError) as caught:
        export(workshop, query=query, key="k")
    return str(caught.value)


@pytest.mark.slow
def test_a_value_that_is_too_large_is_refused_before_it_is_made(sqlite: Databases) -> None:
    for value in ("zeroblob(200000000)", "hex(zeroblob(60000000))", "group_concat(printf('%1000000d', k))"):
        rows = "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < 100)"
        said = too_large(sqlite, f"{rows} SELECT min(k) AS k, {value} AS v FROM n")
        assert "at most 67108864 bytes are exported (--max-field-size)" in said
    fill(sqlite, "CREATE TABLE keys (k INTEGER, n INTEGER)", [1])
    with sqlite.engine.connect() as connection:
        assert connection.execute(text("SELECT length(zeroblob(200000000))")).scalar() == 200000000, "as before"


@pytest.mark.slow
def test_a_value_that_is_too_large_is_not_sent_by_postgresql(postgresql: Databases) -> None:
    for value in (
        "repeat('x', 70000000)",
        "convert_to(repeat('x', 70000000), 'UTF8')",
        "to_json(repeat('x', 70000000))",
    ):
        said = too_large(postgresql, f"SELECT 1 AS k, {value} AS v")
        assert "at most 67108864 bytes are exported (--max-field-size)" in said


@pytest.mark.slow
def test_a_page_of_large_values_ends_by_bytes(sqlite: Databases, postgresql: Databases) -> None:
    for workshop, value in ((sqlite, "hex(zeroblob(1000000))"), (postgresql, "repeat('0', 2000000)")):
        fill(workshop, "CREATE TABLE keys (k INTEGER, n INTEGER)", list(range(12)))
        params = ExportCsv(f"SELECT k, {value} AS v FROM keys", "k", "x.csv")
        pages = [item.done for item in export_csv.function(Job("p", params, services=workshop))]
        assert pages == [5, 10, 12]


@pytest.mark.usefixtures("postgres_server")
@pytest.mark.parametrize("fixture", ["sqlite", "postgresql"])
def test_a_key_that_no_checkpoint_could_keep_is_refused(request: pytest.FixtureRequest, fixture: str) -> None:
    workshop: Databases = request.getfixturevalue(fixture)
    fill(workshop, "CREATE TABLE keys (k TEXT, n INTEGER)", ["x" * 8192])
    assert len(export(workshop)) == 1
    fill(workshop, "DELETE FROM keys", ["x" * 8193])
    with pytest.raises(WorkError, match="a key has 8193 characters; at most 8192"):
        export(workshop)


ENDLESS = {
    "sqlite": "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n) SELECT count(*) AS k FROM n",
    "postgresql": "SELECT count(*) AS k FROM generate_series(1, 1000000000000) AS n",
}


@pytest.mark.usefixtures("postgres_server")
@pytest.mark.parametrize("fixture", ["sqlite", "postgresql"])
def test_a_query_may_have_a_time_limit(request: pytest.FixtureRequest, fixture: str) -> None:
    workshop: Databases = request.getfixturevalue(fixture)
    with pytest.raises(WorkError, match=r"longer than query_timeout_s = 0\.1"):
        export(workshop, query=ENDLESS[fixture], query_timeout_s=0.1)
    fill(workshop, "CREATE TABLE keys (k INTEGER, n INTEGER)", [1])
    assert export(workshop, query_timeout_s=60) == [["1", "0"]]


@pytest.mark.slow
def test_check_holds_with_a_collation(sqlite: Databases) -> None:
    def prepare(workshop: Workshop) -> None:
        with workshop.database().begin() as connection:
            connection.exec_driver_sql("CREATE TABLE keys (k TEXT COLLATE NOCASE)")
            for key in SPELLINGS:
                connection.execute(text("INSERT INTO keys VALUES (:k)"), {"k": key})

    checked = check(
        export_csv,
        {"query": "SELECT k FROM keys", "key": "k", "file_name": "x.csv", "batch_rows": 3},
        prepare=prepare,
    )
    assert checked.result["rows"] == 8


RUNS = text(
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE state = 'active' AND query LIKE '%generate_series%' AND pid <> pg_backend_pid()"
)


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "state"), [("cancel", "cancelled"), ("kill", "failed"), ("pause", "paused")])
def test_an_endless_query_on_postgresql_gives_its_slot_back(run: Run, postgres: str, verb: str, state: str) -> None:
    query = {"query": ENDLESS["postgresql"], "key": "k", "file_name": "x.csv", "database": "d"}
    running = run("--database", f"d={postgres}", work_type="export-csv", **query)
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        wait_until(lambda: connection.execute(RUNS).scalar() == 1, 60, "that the query runs")
        assert running.ask(verb).status_code == 200
        running.until(state)
        wait_until(lambda: connection.execute(RUNS).scalar() == 0, 60, "that the query has ended")
    engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "state"), [("cancel", "cancelled"), ("kill", "failed"), ("pause", "paused")])
def test_an_endless_query_on_sqlite_gives_its_slot_back(run: Run, verb: str, state: str) -> None:
    query = {"query": ENDLESS["sqlite"], "key": "k", "file_name": "x.csv"}
    running = run("--stall-after", "0.1", work_type="export-csv", **query)
    wait_until(lambda: running.get()["stalled"], 60, "that it runs for a while")
    assert running.ask(verb).status_code == 200
    running.until(state)
