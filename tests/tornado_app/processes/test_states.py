"""The transition table: every pair of state and cause, and what no sequence of them can bring about."""

from __future__ import annotations

import time

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.wire import ENDED, LIVE, Process, State
from tornado_app.problems import ILLEGAL_STATE, ProblemError
from tornado_app.processes.journal.queries import ProcessRecord, wire
from tornado_app.processes.states import ASKED, TRANSITIONS, Cause, legal, step

# The promise, written down a second time and in another form: a line a state, a word a cause that it has.
PROMISED = {
    "queued": "claim:running pause:paused cancel:cancelling failed:failed",
    "running": "pause:pausing cancel:cancelling kill:running succeeded:succeeded failed:failed "
    "retry:queued stopped:queued interrupted:queued",
    "pausing": "resume:running cancel:cancelling kill:pausing stopped:paused interrupted:paused "
    "succeeded:succeeded failed:failed retry:paused",
    "paused": "resume:queued cancel:cancelling failed:failed",
    "cancelling": "kill:cancelling rolled-back:cancelled rollback-failed:failed",
    "cancelled": "",
    "failed": "resume:queued cancel:cancelling",
    "succeeded": "",
}
AFTER = {
    (State(state), Cause(cause.replace("-", " "))): State(after)
    for state, line in PROMISED.items()
    for cause, after in (word.split(":") for word in line.split())
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("cause", Cause)
def test_each_pair_of_state_and_cause_does_what_is_promised_or_is_refused(state: State, cause: Cause) -> None:
    after = AFTER.get((state, cause))
    if after is not None:
        assert step(state, cause) is after
        return
    before = dict(TRANSITIONS)
    with pytest.raises(ProblemError) as refusal:
        step(state, cause)
    assert refusal.value.kind is ILLEGAL_STATE
    assert refusal.value.members == {"state": state, "possible": legal(state)}
    assert before == TRANSITIONS


@pytest.mark.parametrize("state", State)
def test_a_refusal_says_what_is_possible(state: State) -> None:
    possible = [cause for cause in ASKED if (state, cause) in AFTER]
    assert legal(state) == possible
    with pytest.raises(ProblemError) as refusal:
        step(state, Cause.CLAIM if state is not State.QUEUED else Cause.RESUME)
    assert state in refusal.value.detail
    assert ", ".join(possible) in refusal.value.detail
    assert ("It has ended" in refusal.value.detail) == (not possible)


@pytest.mark.parametrize("state", State)
def test_the_wire_carries_what_is_possible(state: State) -> None:
    shown = wire(
        ProcessRecord(
            1, "a", "t", b"{}", b"", state, "thread", 0, b"{}", 0, 0, attempt=1, version=1, created=time.time()
        )
    )
    assert shown.possible == legal(state)
    assert msgspec.json.decode(msgspec.json.encode(shown), type=Process).possible == shown.possible


def test_each_state_is_reached_and_only_ended_ones_are_final() -> None:
    assert set(TRANSITIONS.values()) == set(State)
    final = set(State) - {state for state, _ in TRANSITIONS}
    assert final == {State.CANCELLED, State.SUCCEEDED}
    assert final < ENDED
    assert set(State) == LIVE | ENDED


class Lifecycle(RuleBasedStateMachine):
    """Causes in any order. What it counts is what an engine would do for each step that the table allows."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State.QUEUED
        self.attempts = 0
        self.ends = 0
        self.rollbacks = 0
        self.cancels = 0

    @rule(cause=st.sampled_from(Cause))
    def cause(self, cause: Cause) -> None:
        before = self.state
        try:
            self.state = step(before, cause)
        except ProblemError:
            assert (before, cause) not in AFTER
            assert self.state is before
            return
        self.attempts += cause is Cause.CLAIM
        self.cancels += cause is Cause.CANCEL
        self.rollbacks += cause in (Cause.ROLLED_BACK, Cause.ROLLBACK_FAILED)
        # A cancel of what runs ends its attempt without leaving `cancelling`.
        ending = (Cause.STOPPED, Cause.INTERRUPTED, Cause.RETRY, Cause.SUCCEEDED, Cause.FAILED, Cause.CANCEL)
        self.ends += before in (State.RUNNING, State.PAUSING) and cause in ending

    @precondition(lambda self: self.state in ENDED)
    @rule(verb=st.sampled_from(ASKED))
    def what_has_ended_can_only_be_brought_back_from_failure(self, verb: Cause) -> None:
        if self.state is not State.FAILED:
            with pytest.raises(ProblemError):
                step(self.state, verb)

    @invariant()
    def never_two_attempts_at_once(self) -> None:
        assert self.attempts - self.ends == (self.state in (State.RUNNING, State.PAUSING))

    @invariant()
    def each_cancel_is_rolled_back_once(self) -> None:
        assert self.cancels - self.rollbacks == (self.state is State.CANCELLING)
        if self.state is State.CANCELLED:
            assert self.rollbacks


TestLifecycle = pytest.mark.slow(Lifecycle.TestCase)
TestLifecycle.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
