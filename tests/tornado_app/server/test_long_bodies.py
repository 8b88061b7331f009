"""Long bodies share the turns of the loop: nobody waits for all of them."""

from __future__ import annotations

import asyncio
import time

from tornado_app.server.long_bodies import ReadBudget


async def test_a_turn_that_was_long_is_over_with_the_next_one() -> None:
    turn = ReadBudget()
    assert not turn.is_spent
    time.sleep(0.01)  # noqa: ASYNC251 - it is the loop that is to be held up
    assert turn.is_spent
    assert turn.is_spent, "for everybody who comes in this turn"
    await asyncio.sleep(0)
    assert not turn.is_spent
