"""Conformance suite of executors. An executor's tests subclass `ExecutorConformance` beside a fixture `executor`."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.work import MAX_CHECKPOINT
from tests.support.processes import eventually, told
from tornado_app.processes.executors.attempt import (
    Attempt,
    Checkpoint,
    Failed,
    Line,
    Outcome,
    StoppedAttempt,
    Succeeded,
)
from tornado_app.processes.executors.interface import AttemptHandle, Executor


class RecordingSink:
    """Sink that keeps all reports of one attempt."""

    def __init__(self) -> None:
        self.latest: Checkpoint | None = None
        self.yields = 0
        self.lines: list[str] = []
        self.outcomes: list[Outcome] = []
        self.runs: list[str] = []
        self.committed: list[int] = []
        self.may_commit = threading.Event()
        self.may_commit.set()
        self.room = True
        self.asked = 0  # how often for room

    def begin(self, run: str) -> bool:
        self.runs.append(run)
        return run == self.runs[0]

    def checkpoint(self, yields: int, checkpoint: Checkpoint) -> None:
        assert yields >= self.yields, "a report never goes back"
        assert not self.outcomes, "nothing is reported after the end"
        self.latest, self.yields = checkpoint, yields

    def commit(self, yields: int, checkpoint: Checkpoint) -> None:
        with pytest.raises(RuntimeError):  # it may block, so it is never called on the event loop
            asyncio.get_running_loop()
        self.checkpoint(yields, checkpoint)
        self.may_commit.wait(30)
        self.committed.append(yields)

    def log(self, line: Line, *, wait: bool) -> None:
        self.lines.append(line[1])

    def has_room(self) -> bool:
        self.asked += 1
        return self.room

    def ended(self, outcome: Outcome) -> None:
        asyncio.get_running_loop()
        self.outcomes.append(outcome)

    async def outcome(self) -> Outcome:
        """Return the outcome once the attempt has ended."""
        await eventually(lambda: self.outcomes)
        (outcome,) = self.outcomes
        return outcome

    async def progress(self, beyond: int = 0) -> Checkpoint:
        """Return the newest checkpoint once there are more than that many yields."""
        await eventually(lambda: self.yields > beyond)
        assert self.latest is not None
        return self.latest


def attempt_of(work: str, number: int = 1, checkpoint: bytes | None = None, id: str = "p", **params: Any) -> Attempt:
    """Return an attempt of a process; what is a field of `Attempt` is set there, all else is a parameter."""
    fields = {name: params.pop(name) for name in list(params) if name in Attempt.__struct_fields__}
    plain = {name: str(value) if isinstance(value, os.PathLike) else value for name, value in params.items()}
    return Attempt(id, work, number, msgspec.json.encode(plain), checkpoint, serial="7", owner=f"{id}7", **fields)


class ExecutorConformance:
    """The suite. `executor` knows the work types of `tests.support.work`; `suffix` picks their async twins."""

    suffix = ""

    @pytest.fixture
    def trail(self, tmp_path: Path) -> Path:
        return tmp_path / "trail"

    def launch(self, executor: Executor, attempt: Attempt) -> tuple[AttemptHandle, RecordingSink]:
        """Launch an attempt that has travelled."""
        sink = RecordingSink()
        handle = executor.launch(pickle.loads(pickle.dumps(attempt)), sink)
        return handle, sink

    def steps(self, executor: Executor, **params: Any) -> tuple[AttemptHandle, RecordingSink]:
        """Launch work that counts."""
        return self.launch(executor, attempt_of(f"steps{self.suffix}", **params))

    async def test_it_takes_the_kind_of_work_that_it_says(self, executor: Executor) -> None:
        assert executor.runs_async == (self.suffix == "-async")

    async def test_an_attempt_ends_with_its_result_after_its_newest_checkpoint(self, executor: Executor) -> None:
        handle, sink = self.steps(executor, to=20, every=0)
        assert handle.is_alive
        assert await sink.outcome() == Succeeded(b'{"at":20}')
        assert sink.latest == Checkpoint(20, 20, "step 20", b'{"at":20}')
        assert sink.yields == 20
        await eventually(lambda: not handle.is_alive)

    async def test_progress_is_seen_while_the_work_runs(self, executor: Executor) -> None:
        handle, sink = self.steps(executor, every=0.002)
        first = await sink.progress()
        later = await sink.progress(sink.yields)
        assert (later.done or 0) > (first.done or 0)
        handle.request_stop("shutdown")
        await sink.outcome()

    async def test_it_stops_at_a_yield_and_the_next_attempt_goes_on_from_the_checkpoint(
        self, executor: Executor, trail: Path
    ) -> None:
        handle, sink = self.steps(executor, trail=trail)
        await sink.progress()
        handle.request_stop("pause")
        assert await sink.outcome() == StoppedAttempt()
        assert sink.latest is not None
        at = int(sink.latest.done or 0)
        assert msgspec.json.decode(sink.latest.data) == {"at": at}
        _, again = self.steps(executor, number=2, checkpoint=sink.latest.data, to=at + 3, trail=trail)
        assert await again.outcome() == Succeeded(msgspec.json.encode({"at": at + 3}))
        assert again.yields == 3
        assert told(trail) == ["run 1 0", f"stop 1 {at} pause", f"run 2 {at}", f"stop 2 {at + 3} None"]

    async def test_a_stop_request_at_once_stops_it_at_its_first_yield_at_the_latest(self, executor: Executor) -> None:
        handle, sink = self.steps(executor)
        handle.request_stop("shutdown")
        assert await sink.outcome() == StoppedAttempt()

    async def test_a_revoked_request_stops_nothing(self, executor: Executor) -> None:
        handle, sink = self.steps(executor, every=0.002)
        handle.request_stop("pause")
        handle.request_stop(None)
        await sink.progress(3)
        assert handle.is_alive
        handle.request_stop("cancel")
        await sink.outcome()

    async def test_a_cancelled_attempt_is_rolled_back_from_its_checkpoint(
        self, executor: Executor, trail: Path
    ) -> None:
        handle, sink = self.steps(executor, trail=trail)
        await sink.progress()
        handle.request_stop("cancel")
        assert await sink.outcome() == StoppedAttempt()
        assert sink.latest is not None
        at = int(sink.latest.done or 0)
        _, rollback = self.steps(executor, checkpoint=sink.latest.data, rollback=True, trail=trail)
        assert await rollback.outcome() == Succeeded(b"null")
        assert told(trail) == ["run 1 0", f"stop 1 {at} cancel", f"undo 1 {at}"]

    async def test_an_error_has_its_type_its_message_and_the_traceback_of_the_work(self, executor: Executor) -> None:
        _, sink = self.steps(executor, fails=1)
        outcome = await sink.outcome()
        assert isinstance(outcome, Failed)
        assert (outcome.type, outcome.message, outcome.retry) == ("ValueError", "not yet", True)
        assert "work.py" in outcome.trace
        assert "driver.py" not in outcome.trace

    async def test_parameters_that_do_not_fit_fail_the_attempt(self, executor: Executor) -> None:
        _, sink = self.steps(executor, to="many")
        outcome = await sink.outcome()
        assert isinstance(outcome, Failed)
        assert outcome.type == "BadWork"

    async def test_log_lines_come_in_order(self, executor: Executor) -> None:
        _, sink = self.launch(executor, attempt_of(f"flood{self.suffix}", to=500))
        await sink.outcome()
        assert sink.lines == [f"line {n}" for n in range(500)]

    async def test_a_large_checkpoint_arrives_whole(self, executor: Executor) -> None:
        _, sink = self.launch(executor, attempt_of(f"large{self.suffix}"))
        assert await sink.outcome() == Succeeded(b"null")
        assert sink.latest is not None
        assert len(sink.latest.data) == MAX_CHECKPOINT

    async def test_durable_work_goes_on_only_when_its_checkpoint_is_committed(
        self, executor: Executor, trail: Path
    ) -> None:
        sink = RecordingSink()
        sink.may_commit.clear()
        executor.launch(attempt_of(f"steps{self.suffix}", to=3, every=0, trail=trail, durable=True), sink)
        await eventually(lambda: sink.yields == 1)
        assert sink.committed == []
        assert told(trail) == ["run 1 0"], "it waits in its first yield"
        sink.may_commit.set()
        assert isinstance(await sink.outcome(), Succeeded)
        assert sink.committed == [1, 2, 3]

    async def test_many_attempts_run_beside_one_another(self, executor: Executor) -> None:
        launched = [self.steps(executor, id=id, every=0.002) for id in "abcd"]
        for _, sink in launched:
            await sink.progress()
        for handle, _ in launched:
            handle.request_stop("pause")
        assert [await sink.outcome() for _, sink in launched] == [StoppedAttempt()] * 4

    async def test_a_kill_ends_the_attempt_or_says_what_to_do(self, executor: Executor) -> None:
        handle, sink = self.steps(executor, every=0.002)
        await sink.progress()
        refusal = await handle.kill(0.2)
        if refusal is None:
            outcome = await sink.outcome()
            assert isinstance(outcome, Failed)
            assert outcome.type == "Killed"
            assert not handle.is_alive
        else:
            assert handle.is_alive
            await sink.progress(sink.yields)
            handle.request_stop("shutdown")
            await sink.outcome()

    async def test_a_kill_after_the_end_does_nothing(self, executor: Executor) -> None:
        handle, sink = self.steps(executor, to=1, every=0)
        outcome = await sink.outcome()
        await handle.kill(0.2)
        assert sink.outcomes == [outcome]
