"""The engine as one user sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import pytest

from holdfast.wire import BulkRequest, StartRequest
from tornado_app.app import new_engine
from tornado_app.files.store.memory.store import MemoryStore
from tornado_app.files.workspace import Workspace
from tornado_app.problems import ProblemError
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine
from tornado_app.processes.states import Cause
from tornado_app.processes.user_processes import UserProcesses
from tornado_app.settings import Settings


@pytest.fixture
async def shared(settings: Settings) -> AsyncIterator[Engine]:
    settings = dataclasses.replace(settings, auth="jupyterhub", per_user=True, import_=("tests.support.work",))
    settings.data_dir.mkdir(exist_ok=True)
    engine = new_engine(settings, Registry.load(settings), Workspace(MemoryStore()))
    await engine.open()
    yield engine
    await engine.stop(10)
    await engine.close()


NEVER = StartRequest(work_type="never", id="p")


async def test_two_users_have_processes_of_the_same_id(shared: Engine) -> None:
    alice, bob = UserProcesses(shared, "alice"), UserProcesses(shared, "bob")
    assert (await alice.start(NEVER))[1]
    assert not (await alice.start(NEVER))[1]
    assert (await bob.start(StartRequest(work_type="empty", id="p")))[1]
    assert (await alice.get("p")).work_type == "never"
    assert (await bob.get("p")).work_type == "empty"


async def test_a_refusal_names_the_process_as_the_user_does(shared: Engine) -> None:
    alice = UserProcesses(shared, "alice")
    await alice.start(NEVER)
    with pytest.raises(ProblemError) as raised:
        await alice.start(StartRequest(work_type="empty", id="p"))
    assert "alice/" not in raised.value.detail
    assert raised.value.members["id"] == "p"
    with pytest.raises(ProblemError) as raised:
        await alice.get("missing")
    assert raised.value.detail == "there is no process 'missing'. Start it first"
    assert raised.value.members["id"] == "missing"


@pytest.mark.parametrize("id", ["bob/p", "alice/p", "../bob/p", "/p", "p/", ""])
async def test_an_id_never_reaches_over(id: str, shared: Engine) -> None:
    await UserProcesses(shared, "bob").start(NEVER)
    alice = UserProcesses(shared, "alice")
    for ask in (alice.get(id), alice.pause(id), alice.delete(id), alice.log(id, 0, 9), alice.wait(id, None, 0)):
        with pytest.raises(ProblemError):
            await ask
    answer = await alice.ask_all(BulkRequest(ids=[id]), Cause.PAUSE)
    assert answer.changed == []
    with pytest.raises(ProblemError):
        await alice.start(StartRequest(work_type="never", id=id))


async def test_a_folder_that_another_begins_with_is_another(shared: Engine) -> None:
    for folder in ("a", "ab", "a-", "a0"):
        await UserProcesses(shared, folder).start(StartRequest(work_type="never", id="p", labels={"of": folder}))
    only = UserProcesses(shared, "a")
    assert [item.labels for item in (await only.page(BulkRequest(), None, 9)).items] == [{"of": "a"}]
    assert [event.id for event in await only.events_after(0, BulkRequest())] == ["p"]
    assert (await only.ask_all(BulkRequest(work_type="never"), Cause.CANCEL)).changed == ["p"]


async def test_a_bulk_verb_takes_ids_and_names_them_as_the_user_does(shared: Engine) -> None:
    alice = UserProcesses(shared, "alice")
    await alice.start(NEVER)
    answer = await alice.ask_all(BulkRequest(ids=["p", "q"]), Cause.CANCEL)
    assert answer.changed == ["p"]
    assert answer.refused == {"q": "there is no process 'q', or it does not match"}


async def test_deletions_of_others_are_no_events_of_mine(shared: Engine) -> None:
    alice, bob = UserProcesses(shared, "alice"), UserProcesses(shared, "bob")
    for each in (alice, bob):
        await each.start(NEVER)
        await each.cancel("p")
        await each.delete("p")
    events = await alice.events_after(0, BulkRequest(work_type="never"))
    assert {event.id for event in events} == {"p"}
    assert [event.type for event in events].count("deleted") == 1


async def test_code_is_forbidden_where_it_would_run_again(shared: Engine) -> None:
    def forbid() -> None:
        raise PermissionError

    free, bound = UserProcesses(shared, "a"), UserProcesses(shared, "a", forbid_code=forbid)
    await free.start(StartRequest(work_type="never", id="p"))
    await bound.pause("p")
    answer = await bound.ask_all(BulkRequest(work_type="never", state=None), Cause.RESUME)
    assert answer.changed == ["p"]
    for request in (StartRequest(work_type="command"), StartRequest(code="AA=="), StartRequest(work_type="notebook")):
        with pytest.raises(PermissionError):
            await bound.start(request)
