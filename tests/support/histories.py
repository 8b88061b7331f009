"""Invariants of every history, whatever happened to the server: checked from its events and the work's trail."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from holdfast.wire import Event, Process, State
from tornado_app.processes.states import TRANSITIONS

FOLLOWS = {(before, after) for (before, _), after in TRANSITIONS.items()}


def check_chain(events: Sequence[Event]) -> None:
    """The state changes of one process, from its start: each begins where the one before it ended."""
    assert (events[0].before, events[0].state) == (None, State.QUEUED)
    for one, then in itertools.pairwise(events):
        assert then.before is one.state, "a change is missing, or told twice"
        assert (then.before, then.state) in FOLLOWS
        assert (then.seq or 0) > (one.seq or 0)
        assert (then.version or 0) > (one.version or 0)
        claimed = (then.before, then.state) == (State.QUEUED, State.RUNNING)
        assert (then.attempt or 0) - (one.attempt or 0) == claimed, "an attempt begins with a claim and only so"


def check_trail(lines: Sequence[str], *, killed: bool = False) -> None:
    """Check the trail of the work: one attempt at a time, each once, from where the last one stood.

    With `killed` an attempt may have gone further than its last durable checkpoint; without, nothing is done again.
    """
    words = [line.split() for line in lines]
    assert "twice" not in lines, "two attempts ran at once"
    attempts = [int(word[1]) for word in words if word[0] == "run"]
    assert attempts == sorted(set(attempts)), "an attempt ran twice"
    reached, told_where = 0, True
    for kind, _, at, *_ in words:
        if kind == "stop":
            assert int(at) >= reached
        elif not killed:
            assert int(at) == reached if told_where else int(at) >= reached, "work was lost or done again"
        reached, told_where = int(at), kind != "run"


def check_end(process: Process, events: Sequence[Event], lines: Sequence[str], *, killed: bool = False) -> None:
    """A process whose work leaves a trail and can be undone, after everything has come to rest."""
    assert events[-1].state is process.state
    undone = [line for line in lines if line.startswith("undo")]
    asked = sum(event.state is State.CANCELLING and (event.attempt or 0) > 0 for event in events)
    if process.state is State.CANCELLED and process.attempt and lines:
        assert lines[-1].startswith("undo"), "what is cancelled was undone, and nothing ran after that"
    cut = sum(event.error is not None and (event.error.rollback or "").startswith("Killed") for event in events)
    assert asked - cut <= len(undone), "each cancel is undone, but for those whose rollback was killed itself"
    assert killed or len(undone) <= asked, "each cancel is undone once"
    if process.state is State.SUCCEEDED:
        assert process.result == {"at": process.params["to"]}
