"""`command`: run a program that the server's settings name."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import msgspec

from holdfast.work import Job, Progress, WorkError, work_type
from tornado_app.commands.command_line import CommandLine
from tornado_app.processes.supervision import claims
from tornado_app.work_types.programs.program import Program, own_environment, wait_until_clear

_POLL = 0.05  # seconds between checks for a stop request
_SIGN_OF_LIFE = 1.0  # seconds after which it yields even without output
_LONGEST_NOTE = 200


class Command(msgspec.Struct):
    """`name` is one of the setting `command`; `values` fill the placeholders in its arguments, `{like_this}`."""

    name: str
    values: dict[str, str | int | float] = {}


class _CommandCheckpoint(msgspec.Struct):
    """Process id and start time of the program, and the number of lines it has written."""

    pid: int
    started: int | None
    lines: int


@work_type("command", params=Command, checkpoint=_CommandCheckpoint)
def command(job: Job[Command]) -> Generator[Progress, None, dict[str, Any]]:
    """Run a program that the server's settings name; its output becomes the log.

    Pause stops the program and all that it started (SIGSTOP), resume continues them (SIGCONT), and cancel ends them
    (SIGTERM, then SIGKILL). They also end with the server; then the program is started again, and the log says so.
    """
    name = job.params.name
    found = _found(job)
    program, at = found or _start(job)
    job.when_killed(_killer(program))
    last, left = "", False
    try:
        if found is None:  # the process id is in the journal before anything is waited for
            yield Progress(done=at.lines, checkpoint=at)
        while not program.has_ended:
            for line in _output(job, program):
                job.log(line)
                last = line or last
                at = msgspec.structs.replace(at, lines=at.lines + 1)
            yield Progress(done=at.lines, checkpoint=at, note=last[:_LONGEST_NOTE])
    except GeneratorExit:
        if job.stopping in ("pause", None):  # None: a pause that was just revoked, so a new attempt begins
            program.stop()
            job.leave(program)
            left = True
        raise
    finally:
        if not left:
            program.end(job.log)
    if program.exit_code:
        raise WorkError(f"{name} {_ended(program.exit_code)}" + (f". The last it said: {last}" if last else ""))
    return {"exit_status": 0, "lines": at.lines}


@command.rollback
def end(job: Job[Command]) -> None:
    """End a program that is stopped. What it has done it must undo itself, on SIGTERM."""
    program = job.take()
    if isinstance(program, Program):
        program.end(job.log)
    wait_until_clear(_claim(job))


@command.check
def is_named(params: Command, setting: Callable[[str], Any]) -> None:
    """Refuse a name that the settings do not have, and values that do not fit its arguments."""
    commands = setting("command")
    if params.name not in commands:
        there = f"the server has {', '.join(sorted(commands))}" if commands else "start the server with --command"
        raise WorkError(f"there is no command {params.name!r}; {there}")
    _arguments(params, setting)


def _arguments(params: Command, setting: Callable[[str], Any]) -> list[str]:
    try:
        return CommandLine(setting("command")[params.name]).filled(params.values)
    except (KeyError, ValueError) as error:
        raise WorkError(f"command {params.name}: {error}") from None


def _start(job: Job[Command]) -> tuple[Program, _CommandCheckpoint]:
    if job.attempt > 1:  # even without a checkpoint, which may not have reached the journal
        job.log("the program that ran before is gone. Starting it over")
    environment = own_environment() | {"HOLDFAST_PROCESS": job.id}
    arguments = _arguments(job.params, job.setting)
    grace = job.setting("kill_grace")
    program = Program(arguments, grace=grace, environment=environment, claim=_claim(job))
    return program, _CommandCheckpoint(program.pid, program.started, 0)


def _claim(job: Job[Command]) -> Path:
    return claims.path_of(job.setting("data_dir"), "command", job.key)


def _found(job: Job[Command]) -> tuple[Program, _CommandCheckpoint] | None:
    """Return the program that an earlier attempt left, if it is the one of the checkpoint."""
    left, at = job.take(), job.checkpoint
    if not isinstance(left, Program):
        return None
    if at is None or not left.is_same(at.pid, at.started):
        left.end()
        return None
    left.resume()
    return left, at


def _output(job: Job[Command], program: Program) -> list[str]:
    """Return the next lines of output; none when a stop is requested, or after a second without output."""
    until = time.monotonic() + _SIGN_OF_LIFE
    while job.stopping is None and time.monotonic() < until:
        lines = program.lines(_POLL)
        if lines or program.has_ended:
            return lines
    return []


def _killer(program: Program) -> Callable[[], None]:
    asked: list[None] = []

    def end() -> None:
        (program.kill if asked else program.terminate)()
        asked.append(None)

    return end


def _ended(code: int) -> str:
    if code > 0:
        return f"ended with exit status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"was ended by signal {-code}"
