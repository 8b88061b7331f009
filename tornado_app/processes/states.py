"""The lifecycle of a process: one transition table, pure. An illegal event raises and changes nothing."""

from __future__ import annotations

from enum import StrEnum

from holdfast.wire import State, Verb
from tornado_app import problems


class Cause(StrEnum):
    """Cause of a transition. The first four are asked for by people; the others are reports of the engine."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    KILL = "kill"

    CLAIM = "claim"  # a slot is free: the next attempt starts
    STOPPED = "stopped"  # the work stopped at a yield because it was asked to
    INTERRUPTED = (
        "interrupted"  # the server stopped or died, or the place was lost: the attempt is over, the work is not
    )
    RETRY = "retry"  # the attempt failed in a way that is worth another
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"
    ROLLBACK_FAILED = "rollback failed"


_S, _C = State, Cause

TRANSITIONS: dict[tuple[State, Cause], State] = {
    (_S.QUEUED, _C.CLAIM): _S.RUNNING,
    (_S.QUEUED, _C.PAUSE): _S.PAUSED,
    (_S.QUEUED, _C.CANCEL): _S.CANCELLING,
    (_S.QUEUED, _C.FAILED): _S.FAILED,  # its code or deadline is gone before it could start
    (_S.RUNNING, _C.PAUSE): _S.PAUSING,
    (_S.RUNNING, _C.CANCEL): _S.CANCELLING,
    (_S.RUNNING, _C.KILL): _S.RUNNING,
    (_S.RUNNING, _C.SUCCEEDED): _S.SUCCEEDED,
    (_S.RUNNING, _C.FAILED): _S.FAILED,
    (_S.RUNNING, _C.RETRY): _S.QUEUED,
    (_S.RUNNING, _C.STOPPED): _S.QUEUED,  # a pause revoked after the generator had stopped: go on from its checkpoint
    (_S.RUNNING, _C.INTERRUPTED): _S.QUEUED,
    (_S.PAUSING, _C.RESUME): _S.RUNNING,
    (_S.PAUSING, _C.CANCEL): _S.CANCELLING,
    (_S.PAUSING, _C.KILL): _S.PAUSING,
    (_S.PAUSING, _C.STOPPED): _S.PAUSED,
    (_S.PAUSING, _C.INTERRUPTED): _S.PAUSED,
    (_S.PAUSING, _C.SUCCEEDED): _S.SUCCEEDED,
    (_S.PAUSING, _C.FAILED): _S.FAILED,
    (_S.PAUSING, _C.RETRY): _S.PAUSED,
    (_S.PAUSED, _C.RESUME): _S.QUEUED,
    (_S.PAUSED, _C.CANCEL): _S.CANCELLING,
    (_S.PAUSED, _C.FAILED): _S.FAILED,  # its deadline passed
    (_S.CANCELLING, _C.KILL): _S.CANCELLING,
    (_S.CANCELLING, _C.ROLLED_BACK): _S.CANCELLED,
    (_S.CANCELLING, _C.ROLLBACK_FAILED): _S.FAILED,
    (_S.FAILED, _C.RESUME): _S.QUEUED,
    (_S.FAILED, _C.CANCEL): _S.CANCELLING,
}

ASKED = (Cause.PAUSE, Cause.RESUME, Cause.CANCEL, Cause.KILL)
_VERBS: dict[Cause, Verb] = {
    Cause.PAUSE: "pause",
    Cause.RESUME: "resume",
    Cause.CANCEL: "cancel",
    Cause.KILL: "kill",
}
_LEGAL = {state: [verb for cause, verb in _VERBS.items() if (state, cause) in TRANSITIONS] for state in State}


def step(state: State, cause: Cause) -> State:
    """Return the state after `cause`.

    Raises:
        ProblemError: ILLEGAL_STATE, naming what would be possible, when the table has no such line.
    """
    after = TRANSITIONS.get((state, cause))
    if after is None:
        possible = legal(state)
        what = f". Possible now: {', '.join(possible)}" if possible else ". It has ended"
        raise problems.ILLEGAL_STATE(f"cannot {cause} a process that is {state}{what}", state=state, possible=possible)
    return after


def legal(state: State) -> list[Verb]:
    """Return the verbs that a person may ask for in this state, for buttons and messages."""
    return list(_LEGAL[state])
