"""The process endpoints over HTTP: statuses, headers, and the field that is wrong named; v1 and the seed's."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from holdfast.wire import State
from tests.support import work
from tests.support.processes import eventually, makes_progress, reaches, start, until
from tornado_app.app import App
from tornado_app.processes.service import Engine
from tornado_app.settings import Settings


@pytest.fixture
async def engine(app: App) -> AsyncIterator[Engine]:
    """The engine of the server."""
    work.RELEASE.clear()
    yield app.services.processes
    work.RELEASE.set()


def problem(answer: httpx.Response, status: int, type: str, *words: str) -> dict[str, Any]:
    """The problem details of an answer, which must be of that status and type and say those words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"/problems/{type}"
    assert body["status"] == status
    for word in words:
        assert word in body["detail"], body
    return body


# -- v1: start


async def test_a_start_is_201_with_its_location_and_again_200(engine: Engine, http: httpx.AsyncClient) -> None:
    request = {
        "id": "p", "work_type": "steps", "params": {"to": 3}, "priority": 2, "labels": {"a": "b"}, "retries": 1,
        "deadline_s": 60, "place": "process",
    }  # fmt: skip
    first = await http.post("/v1/processes", json=request)
    assert first.status_code == 201
    assert first.headers["location"] == "/v1/processes/p"
    body = first.json()
    assert {name: body[name] for name in ("id", "work_type", "priority", "labels", "retries", "place")} == {
        "id": "p", "work_type": "steps", "priority": 2, "labels": {"a": "b"}, "retries": 1, "place": "process"
    }  # fmt: skip
    assert body["params"] == {"to": 3, "every": 0.001, "trail": "", "undo_fails": 0, "fails": 0, "error": "ValueError"}
    again = await http.post("/v1/processes", json=request)
    assert (again.status_code, again.headers["location"]) == (200, "/v1/processes/p")
    assert again.json()["created"] == body["created"]
    got = await http.get(first.headers["location"])
    assert got.json()["id"] == "p"
    await reaches(engine, "p", "succeeded")


async def test_a_start_without_an_id_says_where_it_is(engine: Engine, http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/processes", json={"work_type": "empty"})
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/processes/{answer.json()['id']}"
    assert (await http.get(answer.headers["location"])).status_code == 200


async def test_the_same_id_with_another_request_is_a_409(engine: Engine, http: httpx.AsyncClient) -> None:
    await http.post("/v1/processes", json={"id": "p", "work_type": "empty"})
    answer = await http.post("/v1/processes", json={"id": "p", "work_type": "steps"})
    assert problem(answer, 409, "id-taken", "'p'", "empty", "another id")["id"] == "p"


@pytest.mark.parametrize(
    ("body", "type", "words"),
    [
        ({}, "unknown-work-type", ["there are bad, bad-async"]),
        ({"work_type": "moon"}, "unknown-work-type", ["'moon'", "import-csv", "manifest", "steps"]),
        ({"work_type": "steps", "params": {"to": "x"}}, "bad-parameters", ["'to'", "Expected `int`, got `str`"]),
        (
            {"work_type": "steps", "params": {"far": 1}},
            "bad-parameters",
            ["no parameter 'far'", "it takes optionally to"],
        ),
        ({"work_type": "bad"}, "bad-parameters", ["needs the parameter 'how'"]),
        ({"work_type": "steps", "place": "moon"}, "bad-parameters", ["Invalid enum value 'moon'", "$.place"]),
        ({"work_type": "steps", "place": "loop"}, "bad-parameters", ["'loop'"]),
        ({"work_type": "steps", "priority": "high"}, "bad-parameters", ["$.priority"]),
        ({"work_type": "steps", "priority": 2**40}, "bad-parameters", ["priority"]),
        ({"work_type": "steps", "labels": ["x"]}, "bad-parameters", ["$.labels"]),
        ({"work_type": "steps", "labels": {"x": 1}}, "bad-parameters", ["$.labels[...]"]),
        ({"work_type": "steps", "retries": -1}, "bad-parameters", ["retries"]),
        ({"work_type": "steps", "deadline_s": -1}, "bad-parameters", ["deadline_s"]),
        ({"work_type": "steps", "id": "a b"}, "bad-parameters", ["1 to 128"]),
        ({"work_type": "steps", "wrong": 1}, "bad-parameters", ["unknown field `wrong`"]),
        ({"code": "AAAA", "python": "3.11"}, "forbidden", ["--allow-code"]),
        ([], "bad-parameters", ["Expected `object`, got `array`"]),
    ],
)
async def test_a_start_that_does_not_fit_names_what_is_wrong(
    engine: Engine, http: httpx.AsyncClient, body: Any, type: str, words: list[str]
) -> None:
    answer = await http.post("/v1/processes", json=body)
    problem(answer, 403 if type == "forbidden" else 400, type, *words)
    assert (await http.get("/v1/processes")).json() == {"items": [], "next": None}


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"work_type=steps", b'{"work_type": "\\ud800"}'])
async def test_a_body_that_is_no_json_is_refused(http: httpx.AsyncClient, content: bytes) -> None:
    problem(await http.post("/v1/processes", content=content), 400, "bad-body", "not JSON")


async def test_a_body_that_is_nested_without_end_is_refused(http: httpx.AsyncClient) -> None:
    content = b'{"work_type": "steps", "params": {"to": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    problem(await http.post("/v1/processes", content=content), 400, "bad-body", "nested too deeply")


# -- v1: verbs


@pytest.mark.parametrize(
    ("state", "verb", "status"),
    [
        ("running", "pause", 200),
        ("running", "cancel", 200),
        ("running", "resume", 409),
        ("running", "kill", 409),
        ("paused", "resume", 200),
        ("paused", "cancel", 200),
        ("paused", "pause", 409),
        ("paused", "kill", 409),
        ("failed", "resume", 200),
        ("failed", "cancel", 200),
        ("failed", "pause", 409),
        ("succeeded", "pause", 409),
        ("succeeded", "resume", 409),
        ("succeeded", "cancel", 409),
        ("succeeded", "kill", 409),
        ("nowhere", "pause", 404),
        ("nowhere", "resume", 404),
        ("nowhere", "cancel", 404),
        ("nowhere", "kill", 404),
    ],
)
async def test_each_verb_in_each_state(
    engine: Engine, http: httpx.AsyncClient, state: str, verb: str, status: int
) -> None:
    if state != "nowhere":
        await start(engine, "p", to=1 if state == "succeeded" else 100_000, fails=9 if state == "failed" else 0)
        if state == "paused":
            await engine.pause("p")
        await reaches(engine, "p", state)
    answer = await http.post(f"/v1/processes/p/{verb}")
    if status == 200:
        assert answer.status_code == 200, answer.text
        assert answer.json()["id"] == "p"
    elif status == 404:
        assert problem(answer, 404, "no-such-process", "'p'", "Start it first")["id"] == "p"
    elif (state, verb) == ("running", "kill"):
        problem(answer, 409, "illegal-state", "place=process")
    else:
        body = problem(answer, 409, "illegal-state", f"cannot {verb} a process that is {state}")
        assert body["state"] == state
        assert verb not in body["possible"]
    if status == 409:
        assert (await http.get("/v1/processes/p")).json()["state"] == state


async def test_kill_over_http_ends_a_process_of_its_own(engine: Engine, http: httpx.AsyncClient) -> None:
    await start(engine, "p", "bad", how="spins", place="process")
    await until(engine, "p", lambda p: p.version & 0xFFFFFF > 0)
    answer = await http.post("/v1/processes/p/kill")
    assert answer.status_code == 200
    assert answer.json()["state"] == "failed"
    assert answer.json()["error"] == {"type": "Killed", "message": "it was killed with SIGTERM"}


async def test_delete_is_204_then_404_and_409_before_the_end(engine: Engine, http: httpx.AsyncClient) -> None:
    await start(engine, "p")
    body = problem(await http.delete("/v1/processes/p"), 409, "illegal-state", "cancel it and wait until it has ended")
    assert body["state"] in ("queued", "running")
    await engine.cancel("p")
    await reaches(engine, "p", "cancelled")
    answer = await http.delete("/v1/processes/p")
    assert (answer.status_code, answer.content) == (204, b"")
    problem(await http.delete("/v1/processes/p"), 404, "no-such-process")
    problem(await http.get("/v1/processes/p"), 404, "no-such-process")
    problem(await http.get("/v1/processes/p/log"), 404, "no-such-process")


@pytest.mark.parametrize("id", ["pause", "resume", "cancel"])
async def test_a_verb_is_an_id_like_any_other(engine: Engine, http: httpx.AsyncClient, id: str) -> None:
    await http.post("/v1/processes", json={"id": id, "work_type": "steps"})
    assert (await http.post(f"/v1/processes/{id}/pause")).status_code == 200
    assert (await http.get(f"/v1/processes/{id}")).json()["id"] == id
    await http.post(f"/v1/processes/{id}/cancel")
    await reaches(engine, id, "cancelled")
    assert (await http.delete(f"/v1/processes/{id}")).status_code == 204


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/processes"),
        ("PATCH", "/v1/processes/p"),
        ("GET", "/v1/processes/p/pause"),
        ("POST", "/v1/processes/p/log"),
        ("POST", "/v1/events"),
        ("DELETE", "/v1/work-types"),
        ("PUT", "/p/process/"),
        ("GET", "/p/process/pause/"),
    ],
)
async def test_another_method_is_a_405_that_names_the_right_ones(
    http: httpx.AsyncClient, method: str, path: str
) -> None:
    answer = await http.request(method, path)
    problem(answer, 405, "method-not-allowed")
    allowed = answer.headers["allow"].split(", ")
    assert method not in allowed
    async with http.stream(allowed[0], path) as right:
        assert right.status_code != 405


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/processes?stat=failed"),
        ("GET", "/v1/processes/p?waits=1"),
        ("GET", "/v1/processes/p/log?limits=1"),
        ("GET", "/v1/events?since=1"),
        ("POST", "/v1/processes/p/pause?force=1"),
        ("POST", "/v1/processes/cancel?force=1"),
        ("POST", "/p/process/pause/?force=1"),
    ],
)
async def test_an_unknown_query_parameter_is_named(http: httpx.AsyncClient, method: str, path: str) -> None:
    name = path.partition("?")[2].partition("=")[0]
    answer = await http.request(method, path, json={} if method == "POST" else None)
    assert problem(answer, 400, "bad-parameters", f"unknown parameter {name!r}")["field"] == name


# -- v1: lists and bulk


async def test_lists_are_filtered_and_paged(engine: Engine, http: httpx.AsyncClient) -> None:
    for n in range(5):
        await start(engine, f"p{n}", "empty", labels={"parity": str(n % 2), "x=y": "a,b"})
        await reaches(engine, f"p{n}", "succeeded")
    await start(engine, "q")

    async def ids(query: str) -> list[str]:
        answer = await http.get(f"/v1/processes?{query}")
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    assert await ids("work_type=empty&label=parity%3D0") == ["p4", "p2", "p0"]
    assert await ids("state=succeeded,failed&limit=2") == ["p4", "p3"]
    assert await ids("state=running,queued") == ["q"]
    assert await ids("label=parity%3D1&label=x%3Dy%3Da%2Cb") == [], "the key ends at the first ="
    first = (await http.get("/v1/processes?limit=4")).json()
    second = (await http.get(f"/v1/processes?limit=4&cursor={first['next']}")).json()
    assert [item["id"] for item in first["items"] + second["items"]] == ["q", "p4", "p3", "p2", "p1", "p0"]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("state=asleep", "state"),
        ("state=", "state"),
        ("label=x", "label"),
        ("cursor=moon", "cursor"),
        ("cursor=", "cursor"),
        ("work_type=%ff", "work_type"),
    ],
)
async def test_a_list_query_that_does_not_fit_is_named(http: httpx.AsyncClient, query: str, field: str) -> None:
    assert problem(await http.get(f"/v1/processes?{query}"), 400, "bad-parameters")["field"] == field


async def test_bulk_verbs_answer_what_changed_and_what_was_refused(engine: Engine, http: httpx.AsyncClient) -> None:
    for n in range(3):
        await start(engine, f"p{n}")
        await makes_progress(engine, f"p{n}")
    answer = await http.post("/v1/processes/pause", json={"ids": ["p0", "p1", "moon"]})
    assert answer.json() == {
        "changed": ["p0", "p1"],
        "refused": {"moon": "there is no process 'moon', or it does not match"},
    }
    await reaches(engine, "p0", "paused")
    await reaches(engine, "p1", "paused")
    assert (await http.post("/v1/processes/resume", json={"work_type": "steps"})).json()["changed"] == ["p0", "p1"]
    assert (await http.post("/v1/processes/cancel", json={"state": ["running", "queued"]})).json()["changed"] == [
        *("p0", "p1", "p2")
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "name what is meant"),
        ({"label": {}}, "name what is meant"),
        ({"states": ["running"]}, "unknown field `states`"),
        ({"state": ["asleep"]}, "Invalid enum value 'asleep'"),
        ({"ids": "p"}, "$.ids"),
    ],
)
async def test_a_bulk_filter_that_does_not_fit_changes_nothing(
    engine: Engine, http: httpx.AsyncClient, body: Any, words: str
) -> None:
    await start(engine, "p")
    problem(await http.post("/v1/processes/cancel", json=body), 400, "bad-parameters", words)
    assert (await http.get("/v1/processes/p")).json()["state"] in ("queued", "running")


async def test_work_types_tell_their_documentation_and_the_schema_of_their_parameters(
    http: httpx.AsyncClient,
) -> None:
    answer = (await http.get("/v1/work-types")).json()
    assert answer["default"] == "steps"
    by_name = {item["name"]: item for item in answer["items"]}
    assert list(by_name) == sorted(by_name)
    stubborn = by_name["stubborn"]
    assert stubborn["params_schema"]["$defs"]["Steps"]["properties"]["to"] == {"type": "integer", "default": 1_000_000}
    assert (stubborn["retries"], stubborn["can_roll_back"], stubborn["place"]) == (3, True, "thread")
    assert (by_name["limited"]["limit"], by_name["limited"]["can_roll_back"]) == (2, False)
    assert by_name["steps-async"]["place"] == "loop"
    assert by_name["import-csv"]["doc"].startswith("Load a CSV file")


# -- the seed's face


async def test_the_seeds_get_starts_at_once_and_then_shows_how_it_stands(
    engine: Engine, http: httpx.AsyncClient
) -> None:
    first = await http.get("/p/process/?work_type=bad&how=spins")
    assert first.status_code == 200
    assert first.json()["state"] in ("queued", "running")
    for path in (
        "/p/process/",
        "/p/process",
        "/p/process/?work_type=bad&how=spins",
        "/p/process?how=spins&work_type=bad/",
    ):
        again = await http.get(path)
        assert again.status_code == 200, again.text
        assert again.json()["created"] == first.json()["created"]
    assert {"id", "work_type", "state", "progress", "created", "started", "ended", "result", "error"} <= set(
        first.json()
    )


async def test_the_seeds_get_starts_the_default_work_type(engine: Engine, http: httpx.AsyncClient) -> None:
    assert (await http.get("/p/process/")).json()["work_type"] == "steps"
    answer = await http.get("/q/process/?to=3&every=0/")
    assert answer.json()["params"]["to"] == 3
    assert (await reaches(engine, "q", "succeeded")).result == {"at": 3}


async def test_the_seeds_verbs(engine: Engine, http: httpx.AsyncClient) -> None:
    await http.get("/p/process/")
    await makes_progress(engine, "p")
    assert (await http.post("/p/process/pause/")).json()["state"] == "pausing"
    await reaches(engine, "p", "paused")
    assert (await http.post("/p/process/resume/")).json()["state"] in ("queued", "running")
    await makes_progress(engine, "p")
    assert (await http.post("/p/process/cancel")).json()["state"] == "cancelling"
    await reaches(engine, "p", "cancelled")


@pytest.mark.parametrize(
    ("state", "verb", "words"),
    [
        ("succeeded", "pause", "It has ended"),
        ("succeeded", "cancel", "It has ended"),
        ("paused", "pause", "Possible now: resume, cancel"),
        ("running", "resume", "Possible now: pause, cancel, kill"),
    ],
)
async def test_what_does_not_fit_is_a_400_at_the_seeds_face(
    engine: Engine, http: httpx.AsyncClient, state: str, verb: str, words: str
) -> None:
    await start(engine, "p", to=1 if state == "succeeded" else 100_000)
    if state == "paused":
        await engine.pause("p")
    await reaches(engine, "p", state)
    problem(await http.post(f"/p/process/{verb}/"), 400, "illegal-state", f"cannot {verb}", words)
    assert (await http.get("/p/process/")).json()["state"] == state


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
async def test_the_seeds_verbs_on_what_was_never_started_are_a_404(http: httpx.AsyncClient, verb: str) -> None:
    problem(await http.post(f"/p/process/{verb}/"), 404, "no-such-process", "Start it first")


@pytest.mark.parametrize(
    ("body", "resumed"),
    [
        (None, True),
        ({}, True),
        ({"work_types": None}, True),
        ({"work_types": ["steps"]}, True),
        ({"work_types": ["manifest", "steps"]}, True),
        ({"work_types": ["manifest"]}, False),
        ({"work_types": []}, False),
    ],
)
async def test_resume_goes_by_the_list_of_work_types(
    engine: Engine, http: httpx.AsyncClient, body: Any, resumed: bool
) -> None:
    await start(engine, "p")
    await engine.pause("p")
    await reaches(engine, "p", "paused")
    answer = (
        await http.post("/p/process/resume/", json=body) if body is not None else await http.post("/p/process/resume/")
    )
    assert answer.status_code == 200
    assert (answer.json()["state"] != "paused") == resumed
    await asyncio.sleep(0.02)
    assert ((await engine.get("p")).state != "paused") == resumed


async def test_an_unknown_type_in_the_list_is_a_400_that_lists_the_valid_ones(
    engine: Engine, http: httpx.AsyncClient
) -> None:
    await start(engine, "p")
    await engine.pause("p")
    await reaches(engine, "p", "paused")
    answer = await http.post("/p/process/resume/", json={"work_types": ["steps", "moon"]})
    body = problem(answer, 400, "unknown-work-type", "'moon'", "steps", "manifest")
    assert "steps" in body["work_types"]
    assert (await engine.get("p")).state == "paused"


# -- the server itself


async def test_a_bug_is_a_500_with_an_id_that_the_log_has_and_no_traceback(
    engine: Engine, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def bug(id: str) -> None:
        raise ZeroDivisionError("in here")

    monkeypatch.setattr(engine, "get", bug)
    answer = await http.get("/v1/processes/p")
    body = problem(answer, 500, "internal")
    assert body["error_id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "ZeroDivisionError" not in answer.text


async def test_a_server_that_stops_takes_no_more_work_and_says_so(engine: Engine, http: httpx.AsyncClient) -> None:
    await engine.stop(1)
    problem(await http.post("/v1/processes", json={"work_type": "empty"}), 503, "unavailable", "the server is stopping")
    problem(await http.get("/health/ready"), 503, "unavailable", "the server is stopping")
    assert (await http.get("/health/live")).status_code == 200


def figures(text: str) -> dict[str, float]:
    """The samples of a metrics page, by name with labels."""
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("holdfast_"))
    return {name: float(value) for name, value in samples}


async def test_metrics_tell_what_lives_what_waits_and_how_quick_it_is(engine: Engine, http: httpx.AsyncClient) -> None:
    before = figures((await http.get("/metrics")).text)
    for id in ("p", "q", "waits"):
        await start(engine, id, "limited")  # two of these run at once
    for id in ("p", "q"):
        await makes_progress(engine, id)
    watcher = engine.broker.watch("p")
    now = figures((await http.get("/metrics")).text)
    engine.broker.leave("p", watcher)
    assert now['holdfast_processes{state="running",work_type="limited"}'] == 2
    assert now['holdfast_processes{state="queued",work_type="limited"}'] == 1
    assert now["holdfast_queue_age_seconds"] > 0
    assert now["holdfast_attempts_running"] == 2
    assert now["holdfast_watchers"] == 1
    changed = 'holdfast_process_state_changes_total{state="running",work_type="limited"}'
    assert now[changed] - before.get(changed, 0) == 2

    async def all_grew() -> bool:
        now = figures((await http.get("/metrics")).text)
        counts = "yields_total", "checkpoint_seconds_count", "journal_commit_seconds_count", "loop_lag_seconds_count"
        return all(now[f"holdfast_{name}"] > before[f"holdfast_{name}"] for name in counts)

    await eventually(all_grew)
    await engine.cancel("waits")
    after = figures((await http.get("/metrics")).text)
    assert 'holdfast_processes{state="queued",work_type="limited"}' not in after
    assert after["holdfast_queue_age_seconds"] == after["holdfast_watchers"] == 0


async def test_each_request_and_each_state_change_is_a_line_of_the_log_with_its_ids(
    engine: Engine, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    answer = await http.post("/v1/processes?wait=10", json={"work_type": "empty", "id": "p"})
    assert answer.json()["state"] == "succeeded"
    assert (await http.delete("/v1/processes/p")).status_code == 204

    def told() -> bool:
        lines = [vars(record) for record in caplog.records]
        of_p = [line for line in lines if line.get("process_id") == "p" and "state" in line]
        changes = [(line["state"], line["before"], line["attempt"]) for line in of_p]
        return changes == [
            (State.QUEUED, None, 0),
            (State.RUNNING, State.QUEUED, 1),
            (State.SUCCEEDED, State.RUNNING, 1),
        ] and any("process p is deleted" in record.getMessage() for record in caplog.records)

    await eventually(told)
    requests = [vars(record) for record in caplog.records if record.name == "holdfast.access"]
    assert [(line["method"], line["path"], line["status"]) for line in requests] == [
        ("POST", "/v1/processes", 201),
        ("DELETE", "/v1/processes/p", 204),
    ]


# -- files in memory


@pytest.mark.slow
async def test_a_process_in_an_os_process_fails_on_a_server_that_has_its_files_in_memory(settings: Settings) -> None:
    app = await App.open(settings)
    await start(app.services.processes, "p", place="process")
    await makes_progress(app.services.processes, "p")
    await app.services.processes.pause("p")
    await reaches(app.services.processes, "p", "paused")
    await app.close()
    app = await App.open(dataclasses.replace(settings, store="memory"))
    await app.services.processes.resume("p")
    failed = await reaches(app.services.processes, "p", "failed")
    assert failed.error is not None
    assert (failed.error.type, failed.error.message[:29]) == ("PlaceUnavailable", "place 'process' can't be used")
    await app.close()
