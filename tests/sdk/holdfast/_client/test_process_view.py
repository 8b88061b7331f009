"""`client.processes` against a real server."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any, cast

import pytest

import holdfast
from holdfast import errors, wire
from holdfast._client.process_view import Which, bulk
from holdfast.wire import State
from tests.support.proxy import Fault, FaultyProxy

ENDLESS = {"to": 1_000_000_000, "pause": 0.01}

pytestmark = pytest.mark.slow


def fresh() -> str:
    return f"t-{uuid.uuid4().hex}"


def test_a_process_is_started_waited_for_and_its_result_read(client: holdfast.Client) -> None:
    process = client.processes.start("steps", to=2)
    assert process.id.startswith("steps-")
    assert process.result(timeout=20) == {"steps": 2}
    assert process.state is State.SUCCEEDED
    assert process.has_ended
    assert (process.progress.done, process.progress.total) == (2, 2)
    assert repr(process) == f"<Process {process.id} (steps) succeeded 2/2>"


def test_it_is_paused_resumed_and_cancelled(client: holdfast.Client) -> None:
    process = client.processes.start("steps", **ENDLESS)
    process.wait(20, until="running")
    assert process.pause().state in (State.PAUSING, State.PAUSED)
    assert process.wait(20, until=["paused"]).state is State.PAUSED
    with pytest.raises(errors.IllegalState) as refused:
        process.pause()
    assert refused.value.state == "paused"
    assert set(refused.value.possible) == {"resume", "cancel"}
    assert process.resume().state in (State.QUEUED, State.RUNNING)
    assert process.cancel().wait(20).state is State.CANCELLED
    with pytest.raises(errors.ProcessCancelled):
        process.result()


def test_verbs_by_id(client: holdfast.Client) -> None:
    id = client.processes.start("steps", **ENDLESS).id
    client.processes.wait(id, 20, until=State.RUNNING)
    client.processes.pause(id)
    assert client.processes.wait(id, 20, until="paused").state is State.PAUSED
    client.processes.resume(id)
    client.processes.cancel(id)
    assert client.processes.wait(id, 20).state is State.CANCELLED
    client.processes.forget(id)
    with pytest.raises(errors.NotFound):
        client.processes.get(id)


def test_the_same_start_again_gives_the_same_process(client: holdfast.Client) -> None:
    id = fresh()
    first = client.processes.start("steps", id=id, to=2)
    again = client.processes.start("steps", id=id, to=2)
    assert again.info.created == first.info.created
    with pytest.raises(errors.IdTaken):
        client.processes.start("steps", id=id, to=3)
    first.wait(20)
    first.forget()


def test_wrong_parameters_are_named(client: holdfast.Client) -> None:
    with pytest.raises(errors.BadRequest, match="to"):
        client.processes.start("steps", to="many")
    with pytest.raises(errors.BadRequest, match="steps"):
        client.processes.start("stepps")


def test_a_failure_is_an_exception_that_carries_the_process(client: holdfast.Client) -> None:
    process = client.processes.start("steps", to=1, fail="no more paper")
    with pytest.raises(errors.ProcessFailed, match="no more paper") as failed:
        process.result(20)
    assert failed.value.process.id == process.id
    assert process.error is not None


def test_waiting_has_a_limit_and_stops_nothing(client: holdfast.Client) -> None:
    process = client.processes.start("steps", **ENDLESS)
    with pytest.raises(errors.WaitTimeout):
        process.wait(0.05)
    assert process.refresh().state in (State.QUEUED, State.RUNNING)
    process.cancel().wait(20)


def test_a_list_goes_over_pages_by_itself(client: holdfast.Client) -> None:
    label = {"test": fresh()}
    started = [client.processes.start("steps", to=1, labels=label).id for _ in range(5)]
    listed = [process.id for process in client.processes.list(labels=label, page_size=2)]
    assert listed == started[::-1]
    for id in started:
        client.processes.wait(id, 20)
    assert [p.id for p in client.processes.list(labels=label, state="failed")] == []
    assert len(list(client.processes.list(labels=label, state=["succeeded", State.FAILED], work_type="steps"))) == 5
    with pytest.raises(ValueError, match="nonsense"):
        next(client.processes.list(state="nonsense"))


def test_bulk_verbs_say_what_they_did(client: holdfast.Client) -> None:
    label = {"test": fresh()}
    started = {client.processes.start("steps", labels=label, **ENDLESS).id for _ in range(3)}
    assert set(client.processes.pause_all(labels=label).changed) == started
    for id in started:
        client.processes.get(id).wait(20, until="paused")
    assert set(client.processes.resume_all(ids=started, state="paused").changed) == started
    assert set(client.processes.cancel_all(labels=label, work_type="steps").changed) == started
    for id in started:
        client.processes.wait(id, 20)
    with pytest.raises(errors.BadRequest):
        client.processes.cancel_all()


def test_the_log_is_what_the_work_said(client: holdfast.Client) -> None:
    process = client.processes.start("steps", to=3)
    process.wait(20)
    lines = list(process.log())
    assert [line.message for line in lines if line.message.startswith("step")] == ["step 0", "step 1", "step 2"]
    assert list(process.log(after=lines[-1].seq)) == []


def test_events_end_with_the_process_and_miss_no_state_change(client: holdfast.Client) -> None:
    process = client.processes.start("steps", to=3)
    events = list(process.events())
    states = [event.state for event in events if event.type == "state"]
    assert states[-1] is State.SUCCEEDED
    assert states[:2] == [State.QUEUED, State.RUNNING]
    numbers = [event.seq for event in events if event.seq is not None]
    assert numbers == sorted(set(numbers))


def test_events_of_a_process_that_has_ended_end_wherever_they_begin(client: holdfast.Client) -> None:
    process = client.processes.start("steps", to=2).wait()
    told = [event for event in process.events() if event.type == "state"]
    assert [event.state for event in told][-1] == "succeeded"
    assert list(process.events(after=None)) == []
    for count, event in enumerate(told, 1):
        assert [after.seq for after in process.events(after=event.seq)] == [after.seq for after in told[count:]]


def test_events_of_a_process_that_ended_twice_go_on_to_its_last_end(client: holdfast.Client) -> None:
    process = client.processes.start("steps", to=1, fail="once")
    process.wait(20)
    process.resume().wait(20)
    states = [event.state for event in process.events() if event.type == "state"]
    assert states.count(State.FAILED) == 2


def test_a_cut_event_stream_goes_on_and_misses_nothing(
    client: holdfast.Client, faulty: Callable[..., FaultyProxy]
) -> None:
    proxy = faulty(*[Fault(when=b"/events", cut_down=size) for size in (700, 800, 900)])
    with holdfast.Client(proxy.url) as through:
        process = through.processes.start("steps", to=40, pause=0.01)
        seen = []
        for event in process.events():
            seen.append(event)
            if event.state is State.RUNNING and event.type == "state" and event.attempt == 1:
                process.pause().wait(20, until="paused")
                process.resume()
    assert proxy.happened >= 2
    direct = [event.seq for event in client.processes.get(process.id).events() if event.type == "state"]
    assert [event.seq for event in seen if event.type == "state"] == direct


def test_events_can_be_narrowed_and_tell_of_deletions(client: holdfast.Client) -> None:
    labels = {"narrow": fresh()}
    process, other = (client.processes.start("steps", labels=some, to=2) for some in (labels, {}))
    before = max(event.seq or 0 for each in (process, other) for event in each.events())
    other.forget()
    process.forget()
    told = next(client.events(work_type="steps", labels=labels, ids=[process.id, other.id], after=before))
    assert (told.type, told.id) == ("deleted", process.id)
    assert told.data == {"work_type": "steps", "labels": labels}


def test_everything_that_happens_is_one_stream(client: holdfast.Client) -> None:
    label = fresh()
    found = threading.Event()
    events = client.events(after=0)
    first = next(events)
    assert first.seq is not None
    id = client.processes.start("steps", id=label, to=1).id
    for event in events:
        if event.id == id and event.state is State.SUCCEEDED:
            found.set()
            break
    assert found.is_set()


def test_an_answer_that_was_lost_starts_nothing_twice_and_refuses_nothing_that_is_done(
    client: holdfast.Client, faulty: Callable[..., FaultyProxy]
) -> None:
    proxy = faulty(
        Fault(when=b"POST /v1/processes ", swallow_answer=True),
        Fault(when=b"/pause", swallow_answer=True),
        Fault(when=b"/cancel", swallow_answer=True),
    )
    with holdfast.Client(proxy.url) as through:
        process = through.processes.start("steps", **ENDLESS)
        process.wait(20, until="running")
        process.pause().wait(20, until="paused")
        process.cancel().wait(20)
        assert process.state is State.CANCELLED
        assert proxy.happened == 3
        assert [p.id for p in client.processes.list() if p.id == process.id] == [process.id]


def test_one_client_serves_many_threads(client: holdfast.Client) -> None:
    results: list[object] = []

    def work() -> None:
        results.append(client.processes.start("steps", to=2).result(30))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [{"steps": 2}] * 8


def test_the_seeds_endpoints_one_by_one(client: holdfast.Client) -> None:
    id = fresh()
    started = client.seed.start(id, "steps", to=500, pause=0.01)
    assert started.work_type == "steps"
    client.processes.get(id).wait(20, until="running")
    client.seed.pause(id)
    client.processes.get(id).wait(20, until="paused")
    with pytest.raises(errors.BadRequest):
        client.seed.resume(id, ["nonsense"])
    assert client.seed.resume(id, ["steps", "manifest"]).state in (State.QUEUED, State.RUNNING)
    assert client.seed.cancel(id).id == id
    assert client.processes.wait(id, 20).state is State.CANCELLED
    name = f"{id}.txt"
    status = client.seed.upload(name, 0, b"hello, ", file_size=12)
    assert client.seed.upload_status(name).bytes_read == status.bytes_read == 7
    with pytest.raises(errors.OffsetMismatch) as refused:
        client.seed.upload(name, 3, b"x", file_size=12)
    assert refused.value.offset == 7
    assert client.seed.upload(name, 7, b"world", encoding="base64", file_size=12).is_complete
    piece = client.seed.download(name)
    assert (piece.file_content, piece.is_complete) == ("hello, world", True)
    client.seed.upload("never", 0, b"x", file_size=2)
    assert client.seed.upload_cancel("never").cancelled


async def test_the_async_face_does_the_same(aclient: holdfast.AsyncClient) -> None:
    process = await aclient.processes.start("steps", **ENDLESS)
    await process.wait(20, until="running")
    await process.pause()
    assert (await aclient.processes.wait(process.id, 20, until="paused")).state is State.PAUSED
    assert (await (await process.resume()).refresh()).id == process.id
    assert (await (await process.cancel()).wait(20)).state is State.CANCELLED
    other = await aclient.processes.start("steps", to=2, labels={"async": process.id})
    assert await other.result(20) == {"steps": 2}
    assert [event.state async for event in other.events() if event.type == "state"][-1] is State.SUCCEEDED
    assert "step 1" in [line.message async for line in other.log()]
    assert [p.id async for p in aclient.processes.list(labels={"async": process.id})] == [other.id]
    assert [work.name for work in await aclient.work_types() if work.name == "steps"] == ["steps"]
    await other.forget()
    with pytest.raises(errors.NotFound):
        await aclient.processes.get(other.id)


def test_filters_become_a_bulk_request() -> None:
    found = bulk({"work_type": "manifest", "state": "paused", "labels": {"a": "b"}})
    assert found == wire.BulkRequest(work_type="manifest", state=[wire.State.PAUSED], label={"a": "b"})


def test_an_unknown_filter_is_refused_since_more_processes_would_match() -> None:
    which = cast(Which, dict[str, Any](work_type="manifest", label={"a": "b"}))
    with pytest.raises(TypeError, match="there is no filter label; there are ids, work_type, state, labels"):
        bulk(which)
