"""Services of users who are kept apart: files, work and its database, before and after a restart."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.hub_api import HubApi
from tests.support.processes import eventually
from tornado_app.app import App
from tornado_app.settings import Settings, SettingsError

Clients = Callable[[str], httpx.AsyncClient]
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


async def run(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """Run a process to its end."""
    answer = await client.post("/v1/processes?wait=60", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_each_user_has_files_of_ones_own(hub: HubApi, as_user: Clients) -> None:
    alice, bob = as_user(hub.add("alice")), as_user(hub.add("bob"))
    assert (await alice.put("/v1/files/a.txt", content=b"of alice")).status_code == 201
    assert (await bob.put("/v1/files/a.txt", content=b"of bob")).status_code == 201
    assert (await alice.get("/v1/files/a.txt")).content == b"of alice"
    assert (await bob.get("/v1/files/a.txt")).content == b"of bob"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["thread", "process"])
async def test_work_gets_the_files_and_the_database_of_its_user(place: str, hub: HubApi, as_user: Clients) -> None:
    alice, bob = as_user(hub.add("alice")), as_user(hub.add("bob"))
    await alice.put("/v1/files/t.csv", content=b"n\n1\n2\n3\n")
    params = {"file_name": "t.csv", "table": "numbers"}
    done = await run(alice, work_type="import-csv", params=params, place=place, id="load")
    assert (done["state"], done["result"]["rows"], done["id"]) == ("succeeded", 3, "load"), done
    missing = await run(bob, work_type="import-csv", params=params, place=place, id="load")
    assert missing["state"] == "failed"
    export = {"query": "select n from numbers", "file_name": "out.csv", "key": "n"}
    theirs = await run(bob, work_type="export-csv", params=export, place=place)
    assert theirs["state"] == "failed", "the table is alice's"
    mine = await run(alice, work_type="export-csv", params=export, place=place)
    assert mine["state"] == "succeeded", mine
    assert (await alice.get("/v1/files/out.csv")).status_code == 200
    assert (await bob.get("/v1/files/out.csv")).status_code == 404


@pytest.mark.slow
async def test_unfinished_uploads_and_processes_go_on_after_a_restart(
    settings: Settings, hub: HubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = hub.add("alice")
    settings = dataclasses.replace(settings, import_=("tests.support.work",), max_running=1)

    async def serve() -> tuple[App, httpx.AsyncClient]:
        for name, value in hub.environment().items():
            monkeypatch.setenv(name, value)
        app = await App.open(settings)
        headers = {"Authorization": f"Bearer {token}"}
        return app, httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.listen()}", headers=headers, timeout=60)

    app, alice = await serve()
    created = await alice.post("/v1/uploads", headers={**TUS, "Upload-Length": "8"}, content=b"half")
    where = created.headers["Location"]
    body = {"id": "count", "work_type": "steps", "params": {"to": 1_000_000}}
    (await alice.post("/v1/processes", json=body)).raise_for_status()
    await alice.put("/v1/files/mine.txt", content=b"mine")
    await alice.post("/v1/processes", json={"id": "sums", "work_type": "manifest"})  # it waits for a slot
    await alice.aclose()
    await app.close()

    app, alice = await serve()
    head = await alice.head(where, headers={"Tus-Resumable": "1.0.0"})
    assert head.headers["Upload-Offset"] == "4"
    assert (await alice.patch(where, headers={**TUS, "Upload-Offset": "4"}, content=b"half")).status_code == 204
    assert (await alice.get("/v1/processes/count")).json()["state"] == "running"
    assert (await alice.post("/v1/processes/count/cancel")).status_code == 200
    answer = (await alice.get("/v1/processes/sums")).json()
    while answer["state"] != "succeeded":
        answer = (await alice.get(f"/v1/processes/sums?wait=30&after={answer['version']}")).json()
    assert b"mine.txt" in (await alice.get("/v1/files/SHA256SUMS")).content
    await alice.aclose()
    await app.close()


@pytest.mark.slow
async def test_what_work_of_a_user_has_staged_is_removed(hub: HubApi, as_user: Clients, settings: Settings) -> None:
    alice = as_user(hub.add("alice"))
    await run(alice, work_type="manifest")
    staged = settings.files_dir / "alice/.holdfast/uploads"
    assert "alice" in os.listdir(settings.files_dir)
    await eventually(lambda: not any(name.startswith("work-") for name in os.listdir(staged)))


async def test_where_all_share_one_the_owner_is_a_label_that_nobody_forges(hub: HubApi, settings: Settings) -> None:
    app = await App.open(dataclasses.replace(settings, per_user=False))
    url = f"http://127.0.0.1:{app.listen()}"
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        alice = {"Authorization": f"Bearer {hub.add('alice')}"}
        bob = {"Authorization": f"Bearer {hub.add('bob')}"}
        body = {"id": "p", "work_type": "manifest", "labels": {"owner": "bob", "of": "x"}}
        await client.post("/v1/processes", json=body, headers=alice)
        seen = (await client.get("/v1/processes/p", headers=bob)).json()
        assert seen["labels"] == {"owner": "alice", "of": "x"}
        await client.put("/v1/files/x", content=b"x", headers=alice)
        assert (await client.get("/v1/files/x", headers=bob)).content == b"x"
    await app.close()


async def test_a_directory_with_everybodys_files_is_not_divided_among_users(settings: Settings, hub: HubApi) -> None:
    (settings.files_dir / "alice").mkdir()
    with pytest.raises(SettingsError, match="needs a --files-dir of its own"):
        await App.open(settings)


async def test_the_folders_of_users_are_not_shown_to_everybody(
    settings: Settings, hub: HubApi, server: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(settings, auth="", per_user=False, data_dir=settings.data_dir.with_name("other"))
    with pytest.raises(SettingsError, match="has the folders of users"):
        await App.open(other)
