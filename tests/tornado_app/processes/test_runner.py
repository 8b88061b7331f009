"""Processes that run at the same time."""

from __future__ import annotations

from tests.support.processes import eventually, makes_progress, start
from tornado_app.processes.journal import queries
from tornado_app.processes.service import Engine


async def test_all_that_run_at_once_keep_their_checkpoints_and_go_on_being_told(engine: Engine) -> None:
    ids = ("p", "q", "r")
    for id in ids:
        await start(engine, id)
    for id in ids:
        kept = await eventually(lambda id=id: engine.journal.read(lambda c: queries.get(c, id).done or 0))
        await makes_progress(engine, id, kept)
        await eventually(lambda id=id, kept=kept: engine.journal.read(lambda c: (queries.get(c, id).done or 0) > kept))
