"""Promises to authors of work: declarations that are checked, and a job that works without a server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
import pytest

from holdfast.work import Interrupted, Job, NoParams, Progress, WorkError, WorkType, work_type


def plain(job: Job[Any]) -> Iterator[Progress]:
    """Count to one.

    And no further.
    """
    yield Progress(1, 1)


async def asynchronous(job: Job[Any]) -> AsyncIterator[Progress]:
    yield Progress(1, 1)


def test_a_declaration_has_defaults_for_its_kind() -> None:
    thread, loop = work_type("plain")(plain), work_type("async")(asynchronous)
    assert (thread.name, thread.place, thread.is_async, thread.params) == ("plain", "thread", False, NoParams)
    assert (loop.place, loop.is_async) == ("loop", True)
    assert thread.doc == "Count to one.\n\nAnd no further."
    assert loop.doc == ""
    assert (thread.rollback_function, thread.check_function) == (None, None)


@pytest.mark.parametrize(
    ("function", "place", "says"),
    [
        (lambda job: None, None, "must be a generator function. Yield a Progress"),
        (plain, "loop", "async generators run on the loop"),
        (asynchronous, "thread", "plain generators in a thread or process"),
        (asynchronous, "process", "plain generators in a thread or process"),
    ],
)
def test_a_declaration_that_can_not_work_is_refused(function: Callable[..., Any], place: Any, says: str) -> None:
    with pytest.raises(TypeError, match=f"odd: .*{says}"):
        work_type("odd", place=place)(function)


def test_a_rollback_is_a_plain_function_or_async_for_async_work() -> None:
    thread, loop = work_type("plain")(plain), work_type("async")(asynchronous)

    async def later(job: Job[Any]) -> None: ...

    def now(job: Job[Any]) -> None: ...

    for wrong in (plain, asynchronous):
        with pytest.raises(TypeError, match="must be a plain function"):
            thread.rollback(wrong)
    with pytest.raises(TypeError, match="can only be async if the work is an async generator"):
        thread.rollback(later)
    assert thread.rollback_function is None
    assert thread.rollback(now) is thread.rollback_function is now
    assert loop.rollback(later) is loop.rollback_function is later


def test_a_check_of_parameters_is_kept_with_the_work() -> None:
    work = work_type("plain")(plain)

    @work.check
    def check(params: Any, setting: Callable[[str], Any]) -> None:
        raise WorkError("no")

    assert work.check_function is check


def test_the_function_itself_can_be_called() -> None:
    work = work_type("plain")(plain)
    assert isinstance(work, WorkType)
    assert [*work(Job("p", NoParams()))] == [Progress(1, 1)]


def test_two_work_types_are_equal_only_if_they_are_the_same() -> None:
    assert work_type("plain")(plain) != work_type("plain")(plain)


def test_work_without_parameters_takes_none() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"a": 1}, NoParams)


def test_a_job_without_a_server_logs_nowhere_and_is_never_stopped() -> None:
    job = Job("p", NoParams(), {"i": 1}, attempt=2, serial="7")
    job.log("a line")
    job.when_killed(lambda: None)
    with job.interruptible(lambda: None):
        pass
    assert (job.checkpoint, job.attempt, job.key, job.stopping, job.result) == ({"i": 1}, 2, "p#7", None, None)


@pytest.mark.parametrize(
    "use",
    [
        lambda job: job.files,
        lambda job: job.http,
        lambda job: job.database(),
        lambda job: job.setting("files_dir"),
        lambda job: job.take(),
        lambda job: job.leave(None),
    ],
)
def test_without_a_server_a_job_has_no_services_and_says_so(use: Callable[[Job[Any]], Any]) -> None:
    with pytest.raises(WorkError, match="runs without a server"):
        use(Job("p", NoParams()))


def test_a_job_passes_on_what_the_server_gives_it() -> None:
    lines, kills = list[str](), list[Callable[[], None]]()
    job = Job("p", NoParams(), log=lines.append, stopping=lambda: "pause", when_killed=kills.append)
    job.log("a line")
    job.when_killed(lines.clear)
    assert (lines, job.stopping, kills) == (["a line"], "pause", [lines.clear])


def test_an_interrupt_is_not_caught_by_the_work() -> None:
    assert not issubclass(Interrupted, Exception)


@pytest.mark.slow
def test_importing_it_imports_neither_httpx_nor_the_server() -> None:
    code = "import sys, holdfast.work; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"httpx", "tornado", "tornado_app", "sqlalchemy"} & set(loaded)
