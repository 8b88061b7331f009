"""The real engine under random verbs and restarts: what its events, its journal and the work itself tell must agree."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from holdfast.wire import ENDED, BulkRequest, Event, Process, State
from tests.support import work
from tests.support.histories import check_chain, check_end, check_trail
from tests.support.processes import engine_on, eventually, quick, reaches, shut, start, told
from tornado_app.problems import ILLEGAL_STATE, ProblemError
from tornado_app.processes.events import Watcher
from tornado_app.processes.journal import transitions
from tornado_app.processes.registry import Registry
from tornado_app.processes.states import ASKED, TRANSITIONS, Cause
from tornado_app.settings import Settings

T = TypeVar("T")

KINDS = {
    "thread": {"work_type": "steps"},
    "loop": {"work_type": "steps-async"},
    "process": {"work_type": "steps", "place": "process"},
    "limited": {"work_type": "limited"},
    "retried": {"work_type": "stubborn", "fails": 2},
    "failing": {"work_type": "steps", "fails": 2},
    "hard to undo": {"work_type": "steps", "undo_fails": 1},
}


class RealEngine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.backoff, transitions.BACKOFF_FIRST = transitions.BACKOFF_FIRST, 0.01
        self.ids: list[str] = []
        self.heard: list[Event] = []
        self.run(self.open())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    async def open(self) -> None:
        folder = Path(self.folder.name)
        for name in ("files", "data"):
            (folder / name).mkdir(exist_ok=True)
        config = quick(Settings(files_dir=folder / "files", data_dir=folder / "data", max_running=3))
        registry = Registry()
        registry.add_module(work)
        self.engine = engine_on(config, registry)
        await self.engine.open()
        # An event of the start itself can be missed by who comes after it: that is what Last-Event-ID is for.
        last = self.heard[-1].seq or 0 if self.heard else 0
        self.watcher = self.engine.broker.watch(None)
        self.heard += await self.engine.events_after(last, BulkRequest())

    def listen(self, watcher: Watcher) -> None:
        """Return the events that the watcher has got since, without waiting."""
        known = self.heard[-1].seq or 0 if self.heard else 0
        found = self.run(watcher.next(0))
        self.heard += [event for event in found if event.seq is not None and event.seq > known]

    def trail(self, id: str) -> Path:
        return Path(self.folder.name) / f"trail-{id}"

    @rule(kind=st.sampled_from(list(KINDS)), steps=st.sampled_from([1, 30, 100_000]), priority=st.integers(-1, 1))
    def start(self, kind: str, steps: int, priority: int) -> None:
        if len(self.ids) >= 6:
            return
        id = f"p{len(self.ids)}"
        self.run(start(self.engine, id, to=steps, priority=priority, trail=self.trail(id), **KINDS[kind]))
        self.ids.append(id)

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), verb=st.sampled_from(ASKED))
    def ask(self, data: st.DataObject, verb: Cause) -> None:
        id = data.draw(st.sampled_from(self.ids))
        self.run(self.asked(id, verb))

    async def asked(self, id: str, verb: Cause) -> None:
        try:
            process: Process = await getattr(self.engine, verb)(id)
        except ProblemError as error:
            refusal = error.kind
        else:
            refusal = None
        if refusal is not None:
            assert refusal is ILLEGAL_STATE
        elif verb is not Cause.KILL:
            assert process.state in {after for (_, cause), after in TRANSITIONS.items() if cause is verb} | {
                State.CANCELLED,  # nothing was to be undone
                State.RUNNING,  # a slot was free for what was resumed
            }

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), verbs=st.lists(st.sampled_from(ASKED[:3]), min_size=2, max_size=4))
    def ask_at_once(self, data: st.DataObject, verbs: list[Cause]) -> None:
        id = data.draw(st.sampled_from(self.ids))

        async def all_of_them() -> None:
            await asyncio.gather(*(self.asked(id, verb) for verb in verbs))

        self.run(all_of_them())

    @rule(seconds=st.sampled_from([0, 0.003, 0.02]))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))
        self.listen(self.watcher)

    @rule()
    def restart(self) -> None:
        self.run(shut(self.engine))
        self.listen(self.watcher)
        self.run(self.open())

    def teardown(self) -> None:
        try:
            self.run(self.settle())
            self.listen(self.watcher)
            self.check_events()
            for id in self.ids:
                self.check_process(id)
        finally:
            self.run(shut(self.engine))
            self.run(self.loop.shutdown_default_executor())
            self.loop.close()
            self.folder.cleanup()
            transitions.BACKOFF_FIRST = self.backoff

    async def settle(self) -> None:
        """Bring everything to an end: what waits is resumed or cancelled, what runs is cancelled."""
        for id in self.ids:
            process = await eventually(lambda id=id: self.if_not_between(id))
            if process.state not in ENDED:
                await self.asked(id, Cause.CANCEL)
            await reaches(self.engine, id, *ENDED)

    async def if_not_between(self, id: str) -> Process | None:
        process = await self.engine.get(id)
        return None if process.state in (State.PAUSING, State.CANCELLING) else process

    def check_events(self) -> None:
        kept: list[Event] = self.run(self.engine.events_after(0, BulkRequest(), 100_000))
        numbers = [event.seq for event in kept]
        assert numbers == list(range(1, len(kept) + 1)), "numbered without a gap"
        assert [event.seq for event in self.heard] == numbers, "told in order and once"
        assert self.heard == kept

    def check_process(self, id: str) -> None:
        events = self.run(self.engine.events_after(0, BulkRequest(ids=[id]), 100_000))
        process = self.run(self.engine.get(id))
        lines = told(self.trail(id))
        check_chain(events)
        check_trail(lines)
        if process.work_type != "limited":  # it has no rollback
            check_end(process, events, lines)


TestRealEngine = pytest.mark.slow(RealEngine.TestCase)
TestRealEngine.settings = settings(
    max_examples=20,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # what depends on the moment can't be made shorter: the first failure tells as it is
)
