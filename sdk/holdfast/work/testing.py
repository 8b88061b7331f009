"""Test kit for authors of work: checks a work type without a server.

    from holdfast.work.testing import check

    def test_counting_can_be_stopped_anywhere():
        check(count, {"to": 5})

`check` runs the work uninterrupted, then paused after every single yield and resumed from the checkpoint's JSON, then
cut off at every yield with the newest checkpoint lost, as by a crash, then cancelled at every yield. Each time the
result and the side effects of the work must be the same.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from holdfast.work import MAX_CHECKPOINT, Job, Progress, Stopping, WorkType
from holdfast.work._values import NotJson, as_json, fits, line_of
from holdfast.work._workshop import MemoryFiles, Workshop

__all__ = ["Checked", "MemoryFiles", "Workshop", "check"]

_MOST_IN_PLACE = 1000
_encode = msgspec.json.Encoder().encode


class Checked(NamedTuple):
    """Result of `check`: what the uninterrupted run did."""

    result: Any
    yields: int
    snapshot: Any


def check(
    work: WorkType,
    params: Any = None,
    *,
    prepare: Callable[[Workshop], object] = lambda workshop: None,
    snapshot: Callable[[Workshop], Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    cut_off: bool = True,
    rollback: bool | None = None,
    most: int = 25,
) -> Checked:
    """Run `work` in every way that a server may, and compare the results.

    Args:
        work: a work type, of a plain or an async generator function.
        params: an instance of its struct, or a mapping that fits it.
        prepare: called before each run to put into a new `Workshop` what the work needs.
        snapshot: returns what to compare after each run, beside the result; by default all files and database rows.
        settings: server settings that the work reads by `job.setting`.
        cut_off: resume from a checkpoint older than the side effects. Use False only if the side effects can't be
            made idempotent (it sends a mail).
        rollback: cancel at every yield and compare with the snapshot before; by default if it has a rollback.
        most: if there are more yields, only so many of them, evenly spread, are cut off and cancelled at.

    Raises:
        AssertionError: the results differ; the message says how, and at which yield.
        msgspec.ValidationError: the parameters are not valid.
    """
    values = {} if params is None else params
    bench = _Bench(work, _encode(values), prepare, snapshot or Workshop.contents, dict(settings or {}))
    reference = bench.uninterrupted()
    bench.paused_after_every_yield(reference)
    points = _spread(reference.yields, max(2, most))
    if cut_off:
        for point in points:
            bench.cut_off_after(point, reference)
    if rollback if rollback is not None else work.rollback_function is not None:
        for point in points:
            bench.cancelled_after(point, behind=False)
            bench.cancelled_after(point, behind=True)
    return reference


class _Attempt:
    """One attempt of one process, step by step."""

    def __init__(
        self, work: WorkType, params: bytes, workshop: Workshop, checkpoint: bytes | None, number: int
    ) -> None:
        self.result: Any = None
        self._work = work
        self._stopping: Stopping | None = None
        self.job = Job(
            "check",
            msgspec.json.decode(params, type=work.params),
            None if checkpoint is None else _fitting(work, checkpoint),
            attempt=number,
            log=workshop.log.append,
            stopping=lambda: self._stopping,
            services=workshop,
        )
        self._running: dict[str, Any] = {}  # the generator of the work, and its frame, which exists longer
        self._generator = _steps(work, self.job, self._running)

    def step(self) -> bytes | None:
        """Return the checkpoint of the next yield, as JSON; None if the work has returned."""
        try:
            item = next(self._generator)
        except StopIteration as end:
            self.result = msgspec.json.decode(self._json("returned a result", "result", end.value))
            return None
        if not isinstance(item, Progress):
            raise self._mistake(f"yielded {type(item).__name__}. Yield holdfast.work.Progress instead")
        checkpoint = self._json("yielded a checkpoint", "checkpoint", item.checkpoint)
        if len(checkpoint) > MAX_CHECKPOINT:
            raise self._mistake(f"yielded a checkpoint of {len(checkpoint)} bytes; at most {MAX_CHECKPOINT} are kept")
        misfit = fits(checkpoint, self._work.checkpoint or Any)
        if misfit is not None:
            raise self._mistake(
                f"yielded the checkpoint {_short(checkpoint)}, which does not fit the type it declares: {misfit}"
            )
        return checkpoint

    def _json(self, what: str, name: str, value: Any) -> bytes:
        try:
            return as_json(value, name)
        except NotJson as error:
            raise self._mistake(f"{what} that is not JSON: {error}", error.path) from None

    def _mistake(self, what: str, path: str = "") -> AssertionError:
        line = line_of(self._running.get("generator"), self._running.get("frame"))
        where = ", ".join(filter(None, (path, line and f"at {line}")))
        return AssertionError(f"{self._work.name} {what}" + (f" ({where})" if where else ""))

    def stop(self, why: Stopping) -> None:
        """Stop the work at a yield, as the server does."""
        self._stopping = why
        self._generator.close()

    def close(self) -> None:
        """Close the generator after an error."""
        self._generator.close()


class _Bench:
    """The runs of one `check`."""

    def __init__(
        self,
        work: WorkType,
        params: bytes,
        prepare: Callable[[Workshop], object],
        snapshot: Callable[[Workshop], Any],
        settings: dict[str, Any],
    ) -> None:
        self._work = work
        self._params = params
        self._prepare = prepare
        self._snapshot = snapshot
        self._settings = settings

    @contextmanager
    def _fresh(self) -> Iterator[Workshop]:
        with Workshop(self._settings) as workshop:
            self._prepare(workshop)
            yield workshop

    def _begin(self, workshop: Workshop, checkpoint: bytes | None = None, number: int = 1) -> _Attempt:
        return _Attempt(self._work, self._params, workshop, checkpoint, number)

    def uninterrupted(self) -> Checked:
        """Run once from start to end. Exceptions of the work are raised unchanged."""
        with self._fresh() as workshop:
            if self._work.check_function is not None:
                self._work.check_function(msgspec.json.decode(self._params, type=self._work.params), workshop.setting)
            attempt = self._begin(workshop)
            yields = 0
            try:
                while attempt.step() is not None:
                    yields += 1
            finally:
                attempt.close()
            if yields == 0:
                raise AssertionError(
                    f"{self._work.name} never yielded: with these parameters it can't be stopped at all"
                )
            return Checked(attempt.result, yields, self._snapshot(workshop))

    def paused_after_every_yield(self, reference: Checked) -> None:
        """Run with one attempt for each yield."""
        checkpoint: bytes | None = None
        number = in_place = 0
        with self._fresh() as workshop:
            while True:
                number += 1
                how = f"paused after every yield, at attempt {number} from the checkpoint {_short(checkpoint)}"
                with self._explained(how):
                    attempt = self._begin(workshop, checkpoint, number)
                    following = attempt.step()
                    if following is None:
                        break
                    attempt.stop("pause")
                in_place = in_place + 1 if following == checkpoint else 0
                if in_place == _MOST_IN_PLACE:
                    raise AssertionError(
                        f"{self._work.name} was resumed {in_place} times from the checkpoint {_short(checkpoint)} and "
                        "yielded the same one again: does it go on from job.checkpoint?"
                    )
                checkpoint = following
            self._compare("paused after every yield", attempt.result, workshop, reference)

    def cut_off_after(self, kept: int, reference: Checked) -> None:
        """Cut off one yield after the newest checkpoint that is kept, or at an end that was not recorded."""
        how = f"cut off with the checkpoint of yield {kept} as the newest one that was kept"
        with self._fresh() as workshop, self._explained(how):
            checkpoints = self._run_to(workshop, kept + 1, "shutdown")
            workshop.lose()
            attempt = self._begin(workshop, checkpoints[min(kept, len(checkpoints) - 1)], 2)
            while attempt.step() is not None:
                pass
            self._compare(how, attempt.result, workshop, reference)

    def cancelled_after(self, yields: int, *, behind: bool) -> None:
        """Cancel at a yield; or cut off there with its checkpoint lost, then cancel. Run each rollback twice."""
        how = f"cancelled after yield {yields}" + (", whose checkpoint was lost," if behind else "")
        with self._fresh() as workshop, self._explained(how):
            before = self._snapshot(workshop)
            checkpoints = self._run_to(workshop, yields, "shutdown" if behind else "cancel")
            if behind:
                workshop.lose()
            kept = checkpoints[max(0, len(checkpoints) - 1 - behind)]
            for again in ("", " twice"):
                self._roll_back(workshop, kept)
                difference = _difference("", before, self._snapshot(workshop))
                if difference:
                    raise AssertionError(
                        f"{self._work.name}, {how} and rolled back{again}: the state is not as before: {difference}"
                    )

    def _run_to(self, workshop: Workshop, yields: int, why: Stopping) -> list[bytes | None]:
        """Run for that many yields and stop, or to the end. Return every checkpoint, with None in front."""
        checkpoints: list[bytes | None] = [None]
        attempt = self._begin(workshop)
        while len(checkpoints) <= yields:
            checkpoint = attempt.step()
            if checkpoint is None:
                return checkpoints
            checkpoints.append(checkpoint)
        attempt.stop(why)
        return checkpoints

    def _roll_back(self, workshop: Workshop, checkpoint: bytes | None) -> None:
        result = (
            self._work.rollback_function(self._begin(workshop, checkpoint).job)
            if self._work.rollback_function is not None
            else None
        )
        if inspect.isawaitable(result):

            async def wait() -> None:
                await result

            asyncio.run(wait())

    @contextmanager
    def _explained(self, how: str) -> Iterator[None]:
        try:
            yield
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(
                f"{self._work.name}, {how}: it raised {type(error).__name__}: {error}; uninterrupted it did not"
            ) from error

    def _compare(self, how: str, result: Any, workshop: Workshop, reference: Checked) -> None:
        difference = _difference("the result", reference.result, result)
        difference = difference or _difference("", reference.snapshot, self._snapshot(workshop))
        if difference:
            raise AssertionError(f"{self._work.name}, {how}: not as in an uninterrupted run: {difference}")


def _steps(work: WorkType, job: Job[Any], kept: dict[str, Any]) -> Generator[Any, None, Any]:
    """Return the work as a plain generator that returns its result; an async one runs on a loop of its own."""
    running = kept["generator"] = work.function(job)
    kept["frame"] = getattr(running, "gi_frame", None) or getattr(running, "ag_frame", None)
    if not work.is_async:
        return running  # type: ignore[no-any-return] # a generator function, as @work_type has checked

    def drive() -> Generator[Any, None, Any]:
        end = object()

        async def step() -> Any:
            return await anext(running, end)

        with asyncio.Runner() as runner:
            try:
                while (item := runner.run(step())) is not end:
                    yield item
                return job.result
            finally:
                runner.run(running.aclose())

    return drive()


def _fitting(work: WorkType, checkpoint: bytes) -> Any:
    try:
        return msgspec.json.decode(checkpoint, type=work.checkpoint or Any)
    except msgspec.ValidationError as error:
        raise AssertionError(
            f"{work.name} yielded the checkpoint {_short(checkpoint)}, which does not fit the type it declares: {error}"
        ) from None


def _spread(last: int, most: int) -> list[int]:
    """Return the numbers from 0 to `last`; if more than `most`, so many of them, evenly spread, with both ends."""
    if last < most:
        return list(range(last + 1))
    return sorted({round(i * last / (most - 1)) for i in range(most)})


def _short(checkpoint: bytes | None) -> str:
    return "null" if checkpoint is None else checkpoint.decode()[:200]


def _difference(where: str, wanted: Any, found: Any) -> str:
    """Return a phrase for the first difference of two values; "" if they are equal."""
    if wanted == found:
        return ""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in [*wanted, *found]:
            if key not in found:
                return f"{where} {key} is missing".strip()
            if key not in wanted:
                return f"{where} {key} should not be there: {_brief(found[key])}".strip()
            if wanted[key] != found[key]:
                return _difference(f"{where} {key}".strip(), wanted[key], found[key])
    if isinstance(wanted, list) and isinstance(found, list):
        for index, (a, b) in enumerate(zip(wanted, found, strict=False)):
            if a != b:
                return _difference(f"{where}[{index}]", a, b)
        return f"{where} has {len(found)} entries, not {len(wanted)}"
    return f"{where} is {_brief(found)}, not {_brief(wanted)}".strip()


def _brief(value: Any) -> str:
    text = repr(value)
    size = f" ({len(value)} bytes)" if isinstance(value, bytes) else ""
    return (text if len(text) <= 120 else text[:117] + "...") + size
