"""Legal verbs: what the server lists, and what is offered for a server that lists none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast import wire
from holdfast._client.verbs import possible_verbs
from holdfast.wire import State
from tornado_app.processes.states import legal


def process(state: State, **changes: Any) -> wire.Process:
    created = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
    values = {"id": "p", "work_type": "walk", "params": {}, "state": state, "progress": wire.ProgressInfo()}
    return wire.Process(**{**values, "possible": legal(state), "created": created, **changes})


@pytest.mark.parametrize("state", State)
def test_the_verbs_are_those_that_the_server_lists(state: State) -> None:
    assert possible_verbs(process(state)) == set(legal(state))


@pytest.mark.parametrize("state", State)
def test_a_server_that_lists_no_verbs_is_asked_for_any_while_the_process_can_change(state: State) -> None:
    """As earlier versions do. They refuse what is not legal."""
    offered = possible_verbs(process(state, possible=[]))
    assert offered >= set(legal(state)) - {"kill"}
    assert (state is State.SUCCEEDED) <= (not offered)
