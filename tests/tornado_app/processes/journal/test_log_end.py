"""`GET /v1/processes/{id}/log?last=N`: the end of a log, without the lines before it."""

from __future__ import annotations

import httpx

from holdfast.wire import StartRequest
from tornado_app.app import App


async def test_the_last_lines_come_in_order(server: App, http: httpx.AsyncClient) -> None:
    engine = server.services.processes
    process, _ = await engine.start(StartRequest(work_type="talker", id="p", params={"to": 9}))
    while not process.has_ended:
        process = await engine.wait("p", process.version, 1)
    whole = (await http.get("/v1/processes/p/log")).json()["items"]
    assert len(whole) > 3
    end = (await http.get("/v1/processes/p/log?last=3")).json()
    assert end == {"items": whole[-3:], "next": None}
    assert (await http.get("/v1/processes/p/log?last=-1")).status_code == 400
