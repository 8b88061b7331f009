"""Events of uploads."""

from __future__ import annotations

import httpx

from tornado_app.app import App

TUS = {"Tus-Resumable": "1.0.0"}


async def test_where_a_request_ended_is_told_however_short_it_was(server: App, http: httpx.AsyncClient) -> None:
    watcher = server.services.engine.broker.watch(None)
    created = await http.post("/v1/uploads", headers=TUS | {"Upload-Length": "10"})
    at = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    await http.patch(created.headers["Location"], headers=TUS | at, content=b"hello")
    seen = [event.data for event in await watcher.next(5) if event.type == "upload" and event.data is not None]
    assert [(data["what"], data["offset"]) for data in seen] == [("created", 0), ("progress", 5)]
