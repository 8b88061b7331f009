"""Work types for the tests: well behaved ones that leave a trail, and every kind of bad one.

Importable by child processes, and by a server with `--import tests.support.work`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import logging
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from holdfast.work import MAX_CHECKPOINT, Job, NoParams, Progress, WorkError, work_type

RELEASE = threading.Event()
"""Lets go of work that never yields, in this process."""


class Steps(msgspec.Struct, forbid_unknown_fields=True):
    """Count to `to`, `every` seconds a step; `trail` is a file that tells what was done, `undo_fails` how often."""

    to: int = 1_000_000
    every: float = 0.001
    trail: str = ""
    undo_fails: int = 0
    fails: int = 0
    error: str = "ValueError"


def note(trail: str, *words: object) -> None:
    """Append one line."""
    if trail:
        fd = os.open(trail, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, (" ".join(map(str, words)) + "\n").encode())
        os.close(fd)


@contextlib.contextmanager
def alone(trail: str) -> Iterator[None]:
    """Notes `twice` when another attempt of the same process runs; the kernel frees the lock of a killed one."""
    if not trail:
        yield
        return
    with Path(trail + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(trail, "twice")
        yield


def _begin(job: Job[Steps]) -> int:
    params = job.params
    at = int((job.checkpoint or {"at": 0})["at"])
    note(params.trail, "run", job.attempt, at)
    if job.attempt <= params.fails:
        raise {"ValueError": ValueError, "WorkError": WorkError, "KeyError": KeyError}[params.error]("not yet")
    return at


def _undo(job: Job[Steps]) -> None:
    with alone(job.params.trail):
        note(job.params.trail, "undo", job.attempt, (job.checkpoint or {"at": 0})["at"])
        tried = Path(job.params.trail).read_text().count("undo ") if job.params.trail else 1
        if tried <= job.params.undo_fails:
            raise RuntimeError("can't undo it yet")


def _steps(job: Job[Steps]) -> Generator[Progress, None, dict[str, int]]:
    params = job.params
    with alone(params.trail):
        at = _begin(job)
        try:
            while at < params.to:
                at += 1
                if params.every:
                    time.sleep(params.every)
                yield Progress(at, params.to, {"at": at}, f"step {at}")
        finally:
            note(params.trail, "stop", job.attempt, at, job.stopping)
    return {"at": at}


async def _steps_async(job: Job[Steps]) -> AsyncGenerator[Progress, None]:
    params = job.params
    with alone(params.trail):
        at = _begin(job)
        try:
            while at < params.to:
                if params.every:
                    await asyncio.sleep(params.every)
                at += 1  # last, so that a kill between two yields finds no step that was begun
                yield Progress(at, params.to, {"at": at}, f"step {at}")
        finally:
            note(params.trail, "stop", job.attempt, at, job.stopping)
    job.result = {"at": at}


def _named(function: Callable[..., Any], doc: str) -> Any:
    function.__doc__ = doc
    return function


steps = work_type("steps", params=Steps)(_named(_steps, "Count, and tell a trail."))
steps.rollback(_undo)

steps_async = work_type("steps-async", params=Steps)(_named(_steps_async, "Count on the loop."))


@steps_async.rollback
async def undo_async(job: Job[Steps]) -> None:
    await asyncio.sleep(0)
    _undo(job)


limited = work_type("limited", params=Steps, limit=2)(_steps)
stubborn = work_type("stubborn", params=Steps, retries=3, retry_on=(ValueError,))(_steps)
stubborn.rollback(_undo)
particular = work_type("particular", params=Steps, retries=3, retry_on=(WorkError,))(_steps)


@work_type("empty")
def empty(job: Job[Any]) -> Generator[Progress, None, None]:
    """Nothing at all."""
    yield from ()


class Place(msgspec.Struct):
    at: int


@work_type("typed", params=Steps, checkpoint=Place)
def typed(job: Job[Steps]) -> Generator[Progress, None, int]:
    """Its checkpoints are of a declared type."""
    at: Place = job.checkpoint or Place(0)
    while at.at < job.params.to:
        at = Place(at.at + 1)
        time.sleep(job.params.every)
        yield Progress(checkpoint=at)
    return at.at


@work_type("talker", params=Steps)
def talker(job: Job[Steps]) -> Generator[Progress, None, None]:
    """Logs a line a step."""
    for i in range((job.checkpoint or 0), job.params.to):
        job.log(f"line {i}")
        time.sleep(job.params.every)
        yield Progress(checkpoint=i + 1)


@work_type("flood", params=Steps)
def flood(job: Job[Steps]) -> Generator[Progress, None, None]:
    """Logs as quickly as it can."""
    yield Progress()
    for i in range(job.params.to):
        job.log(f"line {i}")


@work_type("flood-async", params=Steps)
async def flood_async(job: Job[Steps]) -> AsyncGenerator[Progress, None]:
    """Logs more quickly than anything else can happen."""
    yield Progress()
    for i in range(job.params.to):
        job.log(f"line {i}")


@work_type("large")
def large(job: Job[Any]) -> Generator[Progress, None, None]:
    """Yields the largest checkpoint that is kept."""
    yield Progress(checkpoint="x" * (MAX_CHECKPOINT - 2))


@work_type("large-async")
async def large_async(job: Job[Any]) -> AsyncGenerator[Progress, None]:
    """Yields the largest checkpoint that is kept."""
    yield Progress(checkpoint="x" * (MAX_CHECKPOINT - 2))


# -- bad work


class Bad(msgspec.Struct):
    """`how` names a function below; `path` is a file it may use."""

    how: str
    path: str = ""


Misdeed = Generator[Progress, None, Any]


def raises(job: Job[Bad]) -> Misdeed:
    yield Progress(checkpoint=1)
    raise ValueError("no such luck")


def raises_at_once(job: Job[Bad]) -> Misdeed:
    raise WorkError("it can't be done: give it something that can")
    yield


def raises_unspeakable(job: Job[Bad]) -> Misdeed:
    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    yield Progress()
    raise UnspeakableError


def raises_bytes_of_a_name(job: Job[Bad]) -> Misdeed:
    yield Progress()
    raise FileNotFoundError(os.fsdecode(b"caf\xe9.csv"))


def raises_at_length(job: Job[Bad]) -> Misdeed:
    yield Progress()
    raise ValueError("x" * 5_000_000)


def raises_in_finally(job: Job[Bad]) -> Misdeed:
    try:
        while True:
            time.sleep(0.001)
            yield Progress(checkpoint=1)
    finally:
        raise OSError("could not tidy up")


def exits(job: Job[Bad]) -> Misdeed:
    yield Progress()
    sys.exit(3)


def interrupts(job: Job[Bad]) -> Misdeed:
    yield Progress()
    raise KeyboardInterrupt


def yields_a_number(job: Job[Bad]) -> Misdeed:
    yield 17  # type: ignore[misc]


def yields_no_json(job: Job[Bad]) -> Misdeed:
    yield Progress(checkpoint={"lock": threading.Lock()})


def yields_no_number(job: Job[Bad]) -> Misdeed:
    yield Progress(checkpoint={"best": [None, (1.0, float("nan"))]})


def returns_no_number(job: Job[Bad]) -> Misdeed:
    yield Progress(checkpoint={"best": None})
    return {"loss": float("-inf")}


def yields_a_loop(job: Job[Bad]) -> Misdeed:
    endless: list[Any] = []
    endless.append(endless)
    yield Progress(checkpoint=endless)


def yields_too_much(job: Job[Bad]) -> Misdeed:
    yield Progress(checkpoint="x" * 300_000)


def yields_a_word_as_done(job: Job[Bad]) -> Misdeed:
    yield Progress(done="half")  # type: ignore[arg-type]


def yields_a_number_beyond_all(job: Job[Bad]) -> Misdeed:
    yield Progress(done=10**400)


def yields_a_note_that_is_none(job: Job[Bad]) -> Misdeed:
    yield Progress(note=object())  # type: ignore[arg-type]


def yields_numbers_of_other_kinds(job: Job[Bad]) -> Misdeed:
    yield Progress(done=Fraction(1, 2), total=True)  # type: ignore[arg-type]


def returns_no_json(job: Job[Bad]) -> Misdeed:
    yield Progress()
    return threading.Lock()


def returns_too_much(job: Job[Bad]) -> Misdeed:
    yield Progress()
    return "x" * 5_000_000


def eats_generator_exit(job: Job[Bad]) -> Misdeed:
    while True:
        with contextlib.suppress(GeneratorExit):
            time.sleep(0.001)
            yield Progress(checkpoint=1)


def eats_everything(job: Job[Bad]) -> Misdeed:
    """Yields on whatever happens, ten thousand times: it can be told to stop, and does not."""
    for i in range(1, 10_000):
        try:
            time.sleep(0.001)
            yield Progress(checkpoint=i)
        except BaseException:
            job.log("eaten")


def spins(job: Job[Bad]) -> Misdeed:
    """Does not yield, until released."""
    job.log("before")
    yield Progress(checkpoint=1)
    until = time.monotonic() + 60
    while not RELEASE.is_set() and time.monotonic() < until:
        time.sleep(0.001)
    job.log("after")
    yield Progress(checkpoint=2)


def spins_deaf(job: Job[Bad]) -> Misdeed:
    """Does not yield, and does not end by SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(job.params.path, os.getpid())
    yield from spins(job)


def forks(job: Job[Bad]) -> Misdeed:
    """Comes back twice; only one of the two may report."""
    yield Progress(checkpoint=1)
    pid = os.fork()
    note(job.params.path, "parent" if pid else "child")
    if pid:
        os.waitpid(pid, 0)
    yield Progress(checkpoint=2)
    note(job.params.path, "went on")
    return "parent" if pid else "child"


def forks_and_raises(job: Job[Bad]) -> Misdeed:
    """The child raises where the parent does: only the parent may report."""
    yield Progress(checkpoint=1)
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    raise ValueError("the parent's own" if pid else "the child's")


def leaves_a_child(job: Job[Bad]) -> Misdeed:
    """Starts a program that outlives it, in its own process group."""
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    note(job.params.path, os.getpid(), pid)
    while True:
        time.sleep(0.001)
        yield Progress(checkpoint=1)


def leaves_a_fork(job: Job[Bad]) -> Misdeed:
    """Forks a child that has all that it has, and dies without it."""
    yield Progress(checkpoint=1)
    pid = os.fork()
    if not pid:
        time.sleep(60)
        os._exit(0)
    note(job.params.path, os.getpid(), pid)
    os.kill(os.getpid(), signal.SIGKILL)


def kills_itself(job: Job[Bad]) -> Misdeed:
    yield Progress(checkpoint=1)
    os.kill(os.getpid(), signal.SIGKILL)


def crashes(job: Job[Bad]) -> Misdeed:
    yield Progress(checkpoint=1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)


def leaves_without_a_word(job: Job[Bad]) -> Misdeed:
    yield Progress(checkpoint=1)
    os._exit(3)


def runs_out_of_memory(job: Job[Bad]) -> Misdeed:
    yield Progress(checkpoint=1)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    hoard = []
    while True:
        hoard.append(bytearray(64 << 20))


def recurses(job: Job[Bad]) -> Misdeed:
    def deeper(n: int) -> int:
        return deeper(n + 1) + 1

    yield Progress(checkpoint=1)
    deeper(0)


def logs_anything(job: Job[Bad]) -> Misdeed:
    """Logs what is no text, what UTF-8 can't say, and what is too long."""
    job.log(42)  # type: ignore[arg-type]
    job.log("caf\udce9")
    job.log("x" * 100_000)
    yield Progress(note="caf\udce9 " + "y" * 100_000, done=float("nan"), total=2**70)
    return "fine"


def logs_at_length(job: Job[Bad]) -> Misdeed:
    """A megabyte of log."""
    for _ in range(128):
        job.log("x" * 8000)
    yield Progress()


def _meddle(data: bytes) -> None:
    """Write to every socket that this process has."""
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(fd))) as channel:
            channel.send(data, socket.MSG_DONTWAIT)


def sends_a_report_beyond_the_limit(job: Job[Bad]) -> Misdeed:
    _meddle(struct.pack("!I", 2**31 - 1))
    yield from spins(job)


def sends_a_report_that_is_none(job: Job[Bad]) -> Misdeed:
    _meddle(struct.pack("!I", 3) + b"\xc1\xc1\xc1")
    yield from spins(job)


class Note(msgspec.Struct):
    text: str


@work_type("holds-text", params=Note, limit=0)
def holds_text(job: Job[Note]) -> Generator[Progress, None, None]:
    """Wait in the queue for ever."""
    yield Progress()


@work_type("never", limit=0)
def never(job: Job[Any]) -> Generator[Progress, None, None]:
    """Waits in the queue."""
    yield Progress()


@work_type("keyed", retries=1)
def keyed(job: Job[Any]) -> Generator[Progress, None, str]:
    """Says its key in each attempt, and returns it once released."""
    job.log(job.key)
    while not RELEASE.is_set():
        yield Progress(note=job.key, checkpoint=1)
        time.sleep(0.005)
    return job.key


class Climbs(msgspec.Struct):
    """Steps to the end, one an attempt; where it is stuck; how long a step takes; whether there are checkpoints."""

    to: int
    stuck: int = -1
    every: float = 0.0
    checkpoints: bool = True


@work_type("climbs", params=Climbs, retries=2)
def climbs(job: Job[Climbs]) -> Generator[Progress, None, None]:
    """Makes one step in each attempt, and fails; where it is stuck, it only fails."""
    params = job.params
    at = (job.checkpoint or 0) if params.checkpoints else job.attempt - 1
    yield Progress(at, checkpoint=at if params.checkpoints else None, note="no progress yet")
    if at == params.to:
        return
    if at != params.stuck and (params.checkpoints or params.stuck < 0):
        yield Progress(at + 1, checkpoint=at + 1 if params.checkpoints else None)
        time.sleep(params.every)
    raise ValueError(f"fell at {at}")


class Poison(msgspec.Struct):
    """Place to kill the server: after so many steps, or in the rollback; `cured` is a file that stops it from that."""

    steps: int = 0
    undo: bool = False
    cured: str = ""


def _kill_server(job: Job[Poison]) -> None:
    if not (job.params.cured and Path(job.params.cured).exists()):
        os.kill(os.getpid(), signal.SIGKILL)


@work_type("poison", params=Poison, retries=100)
def poison(job: Job[Poison]) -> Generator[Progress, None, None]:
    """Makes some steps, then takes its server with it, in each attempt."""
    for step in range(job.checkpoint or 0, job.params.steps):
        yield Progress(step + 1, checkpoint=step + 1)
        time.sleep(0.1)  # long enough to be written down
    while job.params.undo:
        yield Progress(job.params.steps, checkpoint=job.params.steps)
        time.sleep(0.01)
    _kill_server(job)


@poison.rollback
def undo_poison(job: Job[Poison]) -> None:
    """Takes its server with it, too."""
    if job.params.undo:
        _kill_server(job)


class Silent(msgspec.Struct):
    """Seconds without a yield."""

    seconds: float


@work_type("silent", params=Silent)
def silent(job: Job[Silent]) -> Generator[Progress, None, None]:
    """Makes no progress that anyone could see, and then is done."""
    time.sleep(job.params.seconds)
    yield Progress()


class Says(msgspec.Struct):
    """`lines` to log."""

    lines: list[str]


@work_type("says", params=Says)
def says(job: Job[Says]) -> Generator[Progress, None, None]:
    """Logs the first line, and the others once released."""
    job.log(job.params.lines[0])
    RELEASE.wait(60)
    for line in job.params.lines[1:]:
        job.log(line)
    yield Progress()


@work_type("bad", params=Bad)
def bad(job: Job[Bad]) -> Misdeed:
    """Whatever goes wrong."""
    return (yield from globals()[job.params.how](job))


def _shut(job: Job[Any]) -> NoReturn:
    raise SystemExit("not even the rollback")


@work_type("bad-undo", params=Steps)
def bad_undo(job: Job[Steps]) -> Generator[Progress, None, dict[str, int]]:
    """Its rollback calls sys.exit."""
    return (yield from _steps(job))


bad_undo.rollback(_shut)


class BadAsync(msgspec.Struct):
    how: str


async def _greedy(job: Job[BadAsync]) -> AsyncGenerator[Progress, None]:
    """Yields and never awaits, until it is stopped."""
    for i in itertools.count():
        yield Progress(checkpoint=i)


async def _deaf(job: Job[BadAsync]) -> AsyncGenerator[Progress, None]:
    """Does not end when its task is cancelled."""
    yield Progress(checkpoint=1)
    while not RELEASE.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.002)


async def _waits(job: Job[BadAsync]) -> AsyncGenerator[Progress, None]:
    """Awaits what never comes."""
    yield Progress(checkpoint=1)
    await asyncio.get_running_loop().create_future()


async def _raises(job: Job[BadAsync]) -> AsyncGenerator[Progress, None]:
    yield Progress(checkpoint=1)
    raise ValueError("no such luck")


async def _exits(job: Job[BadAsync]) -> AsyncGenerator[Progress, None]:
    yield Progress(checkpoint=1)
    sys.exit(3)


async def _clings(job: Job[BadAsync]) -> AsyncGenerator[Progress, None]:
    own = asyncio.get_running_loop()
    while True:
        try:
            await asyncio.sleep(0.001)
            yield Progress(checkpoint=1)
        except GeneratorExit:
            with contextlib.suppress(RuntimeError):
                if asyncio.get_running_loop() is own:
                    continue
            raise  # its loop does not run any more: the test is over, and another one may run


_ASYNC = {f.__name__[1:]: f for f in (_greedy, _deaf, _waits, _raises, _exits, _clings)}


@work_type("bad-async", params=BadAsync)
async def bad_async(job: Job[BadAsync]) -> AsyncGenerator[Progress, None]:
    """Whatever goes wrong on the loop."""
    generator = _ASYNC[job.params.how](job)
    try:
        async for progress in generator:
            yield progress
    finally:
        await generator.aclose()


@work_type("lends")
def lends(job: Job[Any]) -> Generator[Progress, None, dict[str, Any]]:
    """Uses everything that a place lends."""
    from sqlalchemy import text

    staged = job.files.stage("out.txt", "key")
    staged.write(b"hello")
    yield Progress(note="staged")
    staged.publish()
    with job.database().connect() as connection:
        one = connection.execute(text("SELECT 1")).scalar()
    refused = []
    for name, ask in (("moon", job.database), ("token", job.setting)):
        try:
            ask(name)
        except WorkError:
            refused.append(name)
    assert job.http is job.http
    return {"files": job.files.list(), "one": one, "port": job.setting("port"), "refused": refused}


class Stages(msgspec.Struct):
    """End of the work: it "runs" on, "returns" or "fails"."""

    end: str = "runs"


@work_type("stages", params=Stages)
def stages(job: Job[Stages]) -> Generator[Progress, None, None]:
    """Stages a file, publishes nothing, and ends as it is told."""
    job.files.stage("out.bin", "key").write(b"x" * 1000)
    yield Progress(1, checkpoint=1)
    while job.params.end == "runs":
        time.sleep(0.01)
        yield Progress(1, checkpoint=1)
    if job.params.end == "fails":
        raise WorkError("as it was told")


@work_type("slow-undo", params=Steps)
def slow_undo(job: Job[Steps]) -> Generator[Progress, None, dict[str, int]]:
    """Its rollback takes its time."""
    return (yield from _steps(job))


@slow_undo.rollback
def undo_slowly(job: Job[Steps]) -> None:
    note(job.params.trail, "undoing")
    time.sleep(60)


class Shells(msgspec.Struct):
    command: str


@work_type("shells", params=Shells)
def shells(job: Job[Shells]) -> Generator[Progress, None, None]:
    """Starts a program and does not look after it."""
    subprocess.Popen(["/bin/sh", "-c", job.params.command])
    while True:
        time.sleep(0.01)
        yield Progress(checkpoint=1)


# -- work that speaks


@work_type("speaks", params=NoParams)
def speaks(job: Job[NoParams]) -> Generator[Progress, None, None]:
    """Says a line in every way."""
    print("one\ntwo é \udce9")
    print("three", file=sys.stderr)
    subprocess.run("echo by a program; echo to its error output >&2", shell=True, check=True)
    pid = os.fork() if job.params is not None and threading.current_thread() is threading.main_thread() else 0
    if pid == 0 and threading.current_thread() is threading.main_thread():
        print("from a fork", flush=True)
        os._exit(0)
    if pid:
        os.waitpid(pid, 0)
    logging.getLogger("shop").warning("%d left", 4)
    logging.getLogger("holdfast.work").warning("ours")
    job.log("by job.log")
    yield Progress(checkpoint=1)
    print("without an end", end="")


@work_type("speaks-async")
async def speaks_async(job: Job[Any]) -> AsyncGenerator[Progress, None]:
    """Says lines on the loop."""
    print("one")
    await asyncio.to_thread(print, "from a thread of asyncio")
    yield Progress(checkpoint=1)
    logging.getLogger("shop").warning("%d left", 4)


class Aloud(msgspec.Struct):
    name: str
    to: int = 200


@work_type("counts-aloud", params=Aloud)
def counts_aloud(job: Job[Aloud]) -> Generator[Progress, None, None]:
    """Prints numbers."""
    for n in range(job.params.to):
        print(f"{job.params.name}: {n}")
    yield Progress(checkpoint=1)


@work_type("configures-logging")
def configures_logging(job: Job[Any]) -> Generator[Progress, None, None]:
    """Sees to logging by itself."""
    shop, own = logging.getLogger("shop"), logging.getLogger("own")
    shop.info("before")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("mine: %(message)s"))
    own.addHandler(handler)
    own.info("own")
    own.propagate = False
    logging.basicConfig(format="all: %(message)s", level=logging.INFO)
    shop.info("configured")
    own.info("after")
    yield Progress(checkpoint=1)


@work_type("speaks-and-dies")
def speaks_and_dies(job: Job[Any]) -> Generator[Progress, None, None]:
    """Is killed before it could read what it wrote itself."""
    yield Progress(checkpoint=1)
    os.write(2, b"last words\n")
    os.kill(os.getpid(), signal.SIGKILL)


# -- work with mistakes in it; the line of each ends with its name


class Byte(msgspec.Struct):
    byte: int


class Mistake(msgspec.Struct):
    how: str


def _yields_a_lock() -> Misdeed:
    yield Progress(checkpoint={"a": 1})
    yield Progress(checkpoint={"rows": [1, {"lock": threading.Lock()}]})  # a lock


def _yields_nan() -> Misdeed:
    yield Progress(checkpoint={"rows": [Byte(1), {"rate": float("nan")}]})  # nan


def _yields_a_key() -> Misdeed:
    yield Progress(checkpoint={"by": {(1, 2): 3}})  # a key


def _yields_itself() -> Misdeed:
    loop: dict[str, Any] = {}
    loop["again"] = [loop]
    yield Progress(checkpoint=loop)  # itself


def _yields_text() -> Misdeed:
    yield Progress("half")  # type: ignore[arg-type]  # text


@work_type("mistaken", params=Mistake)
def mistaken(job: Job[Mistake]) -> Misdeed:
    """Yields or returns what it must not."""
    how = job.params.how
    if how == "returned":
        yield Progress(checkpoint=1)
        return {"ok": 1, "lock": threading.Lock()}  # returned
    works = {
        "a lock": _yields_a_lock,
        "nan": _yields_nan,
        "a key": _yields_a_key,
        "itself": _yields_itself,
        "text": _yields_text,
    }
    return (yield from works[how]())


@work_type("mistyped", checkpoint=Byte)
def mistyped(job: Job[Any]) -> Misdeed:
    """Yields what it could not be resumed from."""
    yield Progress(checkpoint=Byte(1))
    yield Progress(checkpoint={"byte": "two"})  # mistyped
    yield Progress(checkpoint=Byte(3))


@work_type("mistaken-async")
async def mistaken_async(job: Job[Any]) -> AsyncGenerator[Progress, None]:
    """Yields what is no JSON."""
    yield Progress(checkpoint={"x": {1, object()}})  # async


@work_type("opens-what-is-not-there")
def opens_what_is_not_there(job: Job[Any]) -> Misdeed:
    """Raises in what the server lends."""
    yield Progress(checkpoint=1)
    try:
        job.files.open("not-there.txt")  # opened
    except FileNotFoundError as error:
        raise RuntimeError("no input") from error  # raised
