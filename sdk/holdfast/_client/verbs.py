"""Legal verbs of a process: those that the server lists in its answer."""

from __future__ import annotations

from holdfast.wire import ProcessInfo, State, Verb

FINAL = frozenset({State.CANCELLING, State.CANCELLED, State.SUCCEEDED})
"""States from which nobody can pause, resume or cancel."""

VERBS: frozenset[Verb] = frozenset({"pause", "resume", "cancel", "kill"})


def possible_verbs(process: ProcessInfo) -> frozenset[Verb]:
    """Return the verbs that are legal in the state of the process.

    A server of an earlier version lists none. Then all verbs are offered while the process can still change, and the
    server refuses what is not legal.
    """
    if process.possible or process.state in FINAL:
        return frozenset(process.possible)
    return VERBS
