"""Work for tests of views: a walk of steps, with log lines, notes and, where asked for, a failure.

A server takes it with `--import tests.support.widget_work`.
"""

from __future__ import annotations

import time
from collections.abc import Generator

import msgspec

from holdfast.work import Job, Progress, WorkError, work_type


class Walk(msgspec.Struct):
    to: int = 100
    seconds: float = 0.05
    fail_at: int = 0
    stuck_at: int = 0
    log_every: int = 10
    note: str = "step {n}"


@work_type("walk", params=Walk)
def walk(job: Job[Walk]) -> Generator[Progress, None, dict[str, int]]:
    """Walk, a step at a time."""
    params = job.params
    for n in range((job.checkpoint or {"n": 0})["n"] + 1, params.to + 1):
        time.sleep(params.seconds)
        if n == params.fail_at:
            raise WorkError(f"there is <b>no</b> step {n}")
        if n == params.stuck_at:
            time.sleep(600)
        if n % params.log_every == 0:
            job.log(f"step {n} of {params.to} is done")
        yield Progress(n, params.to, {"n": n}, params.note.format(n=n))
    return {"walked": params.to}


@walk.rollback
def undo(job: Job[Walk]) -> None:
    """There is nothing to undo, which takes as long as a step."""
    time.sleep(job.params.seconds)
