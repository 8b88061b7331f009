"""`/v1/processes`: parameters become filters, and each request has its status and headers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from holdfast.wire import BulkRequest, State
from tornado_app.app import App
from tornado_app.handlers.processes import FilterQuery, ListQuery

pytestmark = pytest.mark.usefixtures("both_ways")


async def start(http: httpx.AsyncClient, id: str, **fields: Any) -> httpx.Response:
    return await http.post("/v1/processes?wait=30", json={"work_type": "manifest", "id": id, **fields})


def test_labels_become_a_filter() -> None:
    query = FilterQuery(work_type="manifest", label=["a=1", "b=x=y"])
    assert query.filter() == BulkRequest(work_type="manifest", label={"a": "1", "b": "x=y"})
    assert FilterQuery().filter() == BulkRequest()


def test_states_are_part_of_the_filter_of_a_list() -> None:
    assert ListQuery(state=[State.PAUSED]).filter() == BulkRequest(state=[State.PAUSED])


async def test_a_start_is_a_201_with_its_location_and_again_a_200(http: httpx.AsyncClient) -> None:
    first = await start(http, "a")
    assert (first.status_code, first.headers["Location"]) == (201, "/v1/processes/a")
    assert first.json()["state"] == "succeeded"
    assert (await start(http, "a")).status_code == 200
    assert (await start(http, "a", params={"prefix": "x"})).status_code == 409


async def test_work_types_have_a_schema_each_and_are_described_once(http: httpx.AsyncClient, app: App) -> None:
    answer = (await http.get("/v1/work-types")).json()
    assert answer["default"] == "manifest"
    schema = next(each["params_schema"] for each in answer["items"] if each["name"] == "manifest")
    assert "prefix" in str(schema)
    first, second = app.services.processes.registry.infos(), app.services.processes.registry.infos()
    assert all(one is other for one, other in zip(first, second, strict=True))


async def test_lists_are_filtered_and_paged(http: httpx.AsyncClient) -> None:
    for id in ("a", "b", "c"):
        await start(http, id, labels={"batch": id})
    page = (await http.get("/v1/processes?limit=2")).json()
    assert [each["id"] for each in page["items"]] == ["c", "b"]
    rest = (await http.get(f"/v1/processes?limit=2&cursor={page['next']}")).json()
    assert [each["id"] for each in rest["items"]] == ["a"]
    assert [each["id"] for each in (await http.get("/v1/processes?label=batch=b")).json()["items"]] == ["b"]
    assert (await http.get("/v1/processes?state=paused")).json()["items"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "state=unknown", "label=plain", "colour=red"])
async def test_a_query_that_does_not_fit_is_a_400_that_names_the_parameter(http: httpx.AsyncClient, query: str) -> None:
    answer = await http.get(f"/v1/processes?{query}")
    assert answer.status_code == 400
    assert answer.json()["field"] == query.partition("=")[0]


async def test_a_finished_process_is_forgotten_once(http: httpx.AsyncClient) -> None:
    await start(http, "a")
    assert (await http.delete("/v1/processes/a")).status_code == 204
    assert (await http.delete("/v1/processes/a")).status_code == 404


async def test_a_verb_may_be_the_id_of_a_process(http: httpx.AsyncClient) -> None:
    await start(http, "pause")
    assert (await http.get("/v1/processes/pause")).json()["id"] == "pause"
    assert (await http.post("/v1/processes/pause", json={"ids": ["b"]})).json()["changed"] == []


async def test_the_log_is_read_in_pages(http: httpx.AsyncClient) -> None:
    await start(http, "a")
    assert "items" in (await http.get("/v1/processes/a/log?limit=1")).json()
    assert (await http.get("/v1/processes/a/log?limit=0")).json()["field"] == "limit"
