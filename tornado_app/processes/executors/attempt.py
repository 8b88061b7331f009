"""Values of an attempt that travel: what an executor is given, what it reports, and how the attempt ended.

Each can be pickled and encoded by msgspec, so that an attempt may run in another process or on another machine. The
journal and the executors meet in these values alone.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

MAX_RESULT = 4 << 20
"""Most bytes of a result as JSON."""

LONGEST_NOTE = 1000
LONGEST_LINE = 8192
"""Most characters of a note, and of a log line, an error message or a traceback; a longer one loses its middle."""

Line = tuple[float, str]
"""A log line: its time in seconds since the epoch, and its text."""


class Attempt(msgspec.Struct, frozen=True):
    """All that an executor needs to run one attempt of a process, or its rollback.

    `params` and `checkpoint` are JSON. `code` is the pickle of a function that a client sent. `serial` is unique to
    the process in every journal; `owner` stands for the process in the files directory. With `durable` the work goes
    on after a yield only when its checkpoint is durable. `user` is the folder of whom the process belongs to, where
    users are kept apart; `id` then begins with it and a slash.
    """

    id: str
    work_type: str
    attempt: int
    params: bytes
    checkpoint: bytes | None = None
    rollback: bool = False
    code: bytes | None = None
    serial: str = ""
    owner: str = ""
    durable: bool = False
    user: str = ""

    @property
    def own_id(self) -> str:
        """Return the id as the user knows it."""
        return self.id.removeprefix(f"{self.user}/") if self.user else self.id


class Checkpoint(NamedTuple):
    """Newest safe point of an attempt. `data` is the checkpoint as JSON at the moment of the yield."""

    done: float | None
    total: float | None
    note: str
    data: bytes


class StoppedAttempt(msgspec.Struct, frozen=True, tag_field="outcome", tag=True):
    """The generator was closed at a yield, as requested."""


class Succeeded(msgspec.Struct, frozen=True, tag_field="outcome", tag=True):
    """The generator returned; `result` is JSON."""

    result: bytes


class Failed(msgspec.Struct, frozen=True, tag_field="outcome", tag=True):
    """The attempt raised, or was lost. With `retry` the work type allows another attempt after this error."""

    type: str
    message: str
    retry: bool = False
    trace: str = ""


Outcome = StoppedAttempt | Succeeded | Failed

KILLED = Failed("Killed", "it was killed")


def text_of(value: object, most: int) -> str:
    """Return a value as text that UTF-8 can encode, lone surrogates escaped, cut in its middle to `most` characters."""
    try:
        text = str(value)
    except Exception as error:
        text = f"a {type(value).__name__} whose text can't be made: {type(error).__name__}"
    if len(text) > most:
        text = f"{text[: most // 2]} [...] {text[-(most // 2) :]}"
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
