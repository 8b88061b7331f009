"""Functions that are sent to the server."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import holdfast
from holdfast import errors
from holdfast.work import Job, Progress, work_type
from tests.support.servers import ServerProcess

pytestmark = pytest.mark.slow


def count(job: Job[Any], to: int, *, by: int = 1) -> Iterator[Progress]:
    for i in range((job.checkpoint or {"i": 0})["i"], to, by):
        yield Progress(i + by, to, {"i": i + by})
    return {"counted": to, "by": by}


def test_a_function_is_sent_and_its_result_comes_back(client: holdfast.Client) -> None:
    process = client.processes.submit(count, 6, by=2)
    assert process.id.startswith("count-")
    assert process.result(60) == {"counted": 6, "by": 2}
    again = client.processes.submit(count, 6, id=f"{process.id}-2")
    assert client.processes.submit(count, 6, id=again.id).id == again.id
    again.wait(60)


def test_a_decorated_function_runs_there_when_it_is_called(client: holdfast.Client) -> None:
    @client.process
    def double(job: Job[Any], number: int) -> Iterator[Progress]:
        """Twice as much."""
        yield Progress(1, 1)
        return number * 2

    assert double.__doc__ == "Twice as much."
    assert double(21).result(60) == 42
    assert [p.id for p in (double(1),) if p.wait(60)]


def test_what_can_not_be_sent_is_a_clear_error(client: holdfast.Client) -> None:
    with pytest.raises(TypeError, match="not a generator function"):
        client.processes.submit(len)
    with pytest.raises(TypeError, match="the first is the job"):
        client.processes.submit(count)
    with pytest.raises(TypeError, match="can't be pickled"):
        client.processes.submit(count, threading.Lock())


def test_a_work_type_that_is_sent_is_tried_again_as_often_as_it_declares(client: holdfast.Client) -> None:
    @work_type("shaky", retries=1, retry_on=(OSError,))
    def shaky(job: Job[Any]) -> Iterator[Progress]:
        yield Progress(checkpoint=1)
        if job.attempt == 1:
            raise OSError("not yet")
        return job.attempt

    assert client.processes.submit(shaky).result(60) == 2


def test_without_its_extra_it_says_what_to_install(client: holdfast.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(TypeError, match=r"pip install .*\[notebook\]'"):
        client.processes.submit(count, 6)


def test_a_server_that_takes_no_code_says_how_it_would(spawn_server: Callable[..., ServerProcess]) -> None:
    with (
        holdfast.Client(spawn_server().url) as client,
        pytest.raises(errors.Forbidden, match="--allow-code"),
    ):
        client.processes.submit(count, 1)


def test_another_python_is_named(client: holdfast.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast._client.sent_code.PYTHON", "3.9")
    with pytest.raises(errors.BadRequest, match=r"3\.9") as refused:
        client.processes.submit(count, 1)
    assert refused.value.field == "python"


async def test_the_async_face_does_the_same(aclient: holdfast.AsyncClient) -> None:
    process = await aclient.processes.submit(count, 3)
    assert await process.result(60) == {"counted": 3, "by": 1}
    assert (await (await aclient.process(count)(2)).result(60))["counted"] == 2
