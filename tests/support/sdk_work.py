"""Work types for the tests of the SDK; the server takes them by `--import tests.support.sdk_work`."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from holdfast.work import Job, Progress, WorkError, work_type


class Steps(msgspec.Struct):
    to: int = 3
    pause: float = 0.0
    fail: str = ""


@work_type("steps", params=Steps)
def steps(job: Job[Steps]) -> Iterator[Progress]:
    """Count, slowly if asked to, and fail in the end if asked to."""
    for step in range((job.checkpoint or {"step": 0})["step"], job.params.to):
        time.sleep(job.params.pause)
        job.log(f"step {step}")
        yield Progress(done=step + 1, total=job.params.to, checkpoint={"step": step + 1})
    if job.params.fail:
        raise WorkError(job.params.fail)
    return {"steps": job.params.to}


class Tail(msgspec.Struct):
    seconds: float = 0.0


@work_type("tail", params=Tail)
def tail(job: Job[Tail]) -> Iterator[Progress]:
    """Work for a while past the last yield."""
    yield Progress(done=1, total=1, checkpoint={"step": 1})
    time.sleep(job.params.seconds)
