"""`import-csv` among others of its kind."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import httpx
import pytest

from tornado_app.settings import Settings


@pytest.mark.slow
async def test_imports_that_begin_together_make_one_table_and_lose_no_row(
    http: httpx.AsyncClient, settings: Settings
) -> None:
    rows, imports, tables = 200, 8, 6
    (settings.files_dir / "x.csv").write_text("a,b\n" + "1,2\n" * rows, encoding="utf-8")
    for table in range(tables):
        query = f"work_type=import-csv&file_name=x.csv&table=t{table}&batch_rows=50"
        ids = [f"p{table}-{number}" for number in range(imports)]
        await asyncio.gather(*(http.get(f"/{id}/process/?{query}") for id in ids))
        for id in ids:
            while (process := (await http.get(f"/{id}/process/")).json())["ended"] is None:
                await asyncio.sleep(0.01)
            assert process["state"] == "succeeded", process["error"]
    with closing(sqlite3.connect(settings.data_dir / "default.sqlite")) as database:
        for table in range(tables):
            assert database.execute(f"SELECT count(*) FROM t{table}").fetchone() == (rows * imports,)


@pytest.mark.slow
async def test_imports_of_different_files_into_one_new_table_say_which_column_it_lacks(
    http: httpx.AsyncClient, settings: Settings
) -> None:
    (settings.files_dir / "a.csv").write_text("a\n1\n", encoding="utf-8")
    (settings.files_dir / "b.csv").write_text("b\n1\n", encoding="utf-8")
    ids = [f"{letter}{number}" for letter in "ab" for number in range(4)]
    await asyncio.gather(
        *(http.get(f"/{id}/process/?work_type=import-csv&file_name={id[0]}.csv&table=t") for id in ids)
    )
    failures = set()
    for id in ids:
        while (process := (await http.get(f"/{id}/process/")).json())["ended"] is None:
            await asyncio.sleep(0.01)
        if process["state"] == "failed":
            failures.add(id[0])
            assert f"without the column {id[0]}" in process["error"]["message"]
    assert len(failures) == 1
