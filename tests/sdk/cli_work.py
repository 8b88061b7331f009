"""Work for the tests of the command: `--import tests.sdk.cli_work`."""

from __future__ import annotations

import time
from collections.abc import Generator

import msgspec

from holdfast.work import Job, Progress, WorkError, work_type


class Count(msgspec.Struct):
    to: int
    seconds: float = 0.0


@work_type("cli-count", params=Count)
def count(job: Job[Count]) -> Generator[Progress, None, int]:
    """Count, with a pause at each step."""
    if job.params.to < 0:
        raise WorkError("it can't count to below zero")
    for n in range((job.checkpoint or {"n": 0})["n"], job.params.to):
        time.sleep(job.params.seconds)
        job.log(f"counted {n + 1}")
        yield Progress(n + 1, job.params.to, {"n": n + 1})
    return job.params.to
