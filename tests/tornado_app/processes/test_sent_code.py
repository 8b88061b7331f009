"""Code sent from a notebook: off unless allowed, in a process of its own, kept by the journal across restarts."""

from __future__ import annotations

import base64
import dataclasses
import sys
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import cloudpickle
import httpx
import pytest

from holdfast.work import Job, Progress
from tests.support.servers import ServerProcess, wait_until
from tornado_app.app import App
from tornado_app.settings import Settings

Spawn = Callable[..., ServerProcess]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def pickled(function: Any, *args: Any, **kwargs: Any) -> str:
    """As the SDK sends it. Made in a function, it is pickled by value, as one of a notebook's cell is."""
    return base64.b64encode(cloudpickle.dumps((function, args, kwargs))).decode()


def counting() -> Any:
    """A function as a notebook's cell would define it."""

    def count(job: Job[Any], to: int, seconds: float = 0.0) -> Generator[Progress, None, dict[str, int]]:
        import os
        import time

        for i in range((job.checkpoint or {"i": 0})["i"], to):
            time.sleep(seconds)
            job.log(f"step {i} in {os.getpid()}")
            yield Progress(i + 1, to, {"i": i + 1})
        return {"counted": to}

    count.__module__ = "__main__"
    return count


def start(server: ServerProcess, **request: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/processes", params={"wait": 20}, json={"python": PYTHON, **request}, timeout=30)


def look(server: ServerProcess, id: str) -> dict[str, Any]:
    return dict(httpx.get(f"{server.url}/v1/processes/{id}").json())


@pytest.mark.slow
def test_a_function_runs_in_a_process_of_its_own_and_its_result_comes_back(spawn_server: Spawn) -> None:
    server = spawn_server("--allow-code")
    answer = start(server, code=pickled(counting(), 3), params={"function": "count"})
    process = answer.json()
    assert (answer.status_code, process["state"], process["result"]) == (201, "succeeded", {"counted": 3}), process
    assert (process["work_type"], process["params"], process["place"]) == ("code", {"function": "count"}, "process")
    lines = httpx.get(f"{server.url}/v1/processes/{process['id']}/log").json()["items"]
    assert [line["message"].split(" in ")[0] for line in lines] == ["step 0", "step 1", "step 2"]
    assert str(server.pid) not in lines[0]["message"]


@pytest.mark.slow
def test_it_goes_on_from_its_checkpoint_after_the_server_was_killed(spawn_server: Spawn) -> None:
    server = spawn_server("--allow-code", "--journal-interval", "0")
    url = f"{server.url}/v1/processes"
    httpx.post(url, json={"id": "it", "python": PYTHON, "code": pickled(counting(), 40, seconds=0.02)})
    wait_until(lambda: (look(server, "it")["progress"]["done"] or 0) >= 3, what="the first steps")
    server.kill()
    server.restart()
    wait_until(lambda: look(server, "it")["state"] == "succeeded", what="the end")
    process = look(server, "it")
    assert (process["result"], process["attempt"]) == ({"counted": 40}, 2)
    lines = httpx.get(f"{server.url}/v1/processes/it/log").json()["items"]
    again = [line["message"] for line in lines if line["attempt"] == 2]
    assert not again[0].startswith("step 0 "), "it began anew"


@pytest.mark.slow
def test_rollback_of_a_sent_work_type_runs_in_its_process(spawn_server: Spawn) -> None:
    from holdfast.work import work_type

    server = spawn_server("--allow-code")
    work = work_type("sent")(counting())

    def undo(job: Job[Any]) -> None:
        job.log(f"undone at {job.checkpoint['i']}")

    undo.__module__ = "__main__"
    work.rollback(undo)
    url = f"{server.url}/v1/processes"
    httpx.post(url, json={"id": "it", "python": PYTHON, "code": pickled(work, 1000, seconds=0.01)})
    wait_until(lambda: (look(server, "it")["progress"]["done"] or 0) >= 2, what="the first steps")
    httpx.post(f"{url}/it/cancel")
    wait_until(lambda: look(server, "it")["state"] == "cancelled", what="the rollback")
    messages = [line["message"] for line in httpx.get(f"{url}/it/log").json()["items"]]
    assert messages[-1].startswith("undone at ")


@pytest.mark.slow
def test_what_cannot_be_loaded_fails_with_a_clear_sentence(spawn_server: Spawn) -> None:
    server = spawn_server("--allow-code")
    junk = start(server, code=base64.b64encode(b"not a pickle").decode()).json()
    assert junk["state"] == "failed"
    assert "can't be loaded in a process of its own" in junk["error"]["message"]
    plain = start(server, code=base64.b64encode(cloudpickle.dumps((len, (), {}))).decode()).json()
    assert "a work type must be a generator function" in plain["error"]["message"]


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"python": "3.8"}, "this server runs"),
        ({"place": "thread"}, "place process only"),
        ({"work_type": "manifest"}, "not both"),
        ({"code": "%%%"}, "not base64"),
        ({"code": ""}, "0 bytes"),
    ],
)
async def test_bad_requests_say_what_would_be_right(
    request_: dict[str, Any], says: str, allowing: httpx.AsyncClient
) -> None:
    body = {"code": pickled(counting(), 1), "python": PYTHON, **request_}
    answer = await allowing.post("/v1/processes", json=body)
    assert answer.status_code == 400
    assert says in answer.json()["detail"]


async def test_the_work_type_code_without_code_is_refused(allowing: httpx.AsyncClient) -> None:
    answer = await allowing.post("/v1/processes", json={"work_type": "code"})
    assert answer.status_code == 400
    assert "needs the code itself" in answer.json()["detail"]


async def test_code_is_refused_unless_it_is_allowed(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/processes", json={"code": pickled(counting(), 1), "python": PYTHON})
    assert answer.status_code == 403
    assert "--allow-code" in answer.json()["detail"]
    types = (await http.get("/v1/work-types")).json()["items"]
    assert "code" not in [one["name"] for one in types]


@pytest.fixture
async def allowing(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server in this process that allows code."""
    app = await App.open(dataclasses.replace(settings, allow_code=True))
    port = app.listen()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        yield client
    await app.close()
