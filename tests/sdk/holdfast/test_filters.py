"""The filters of the bulk verbs: a misspelt one must not mean more processes than it says."""

from __future__ import annotations

from typing import Any, cast

import pytest

from holdfast import wire
from holdfast._client.process_view import Which, bulk


def test_filters_become_the_wires() -> None:
    found = bulk({"work_type": "manifest", "state": "paused", "labels": {"a": "b"}})
    assert found == wire.BulkRequest(work_type="manifest", state=[wire.State.PAUSED], label={"a": "b"})


def test_a_filter_that_there_is_not_is_refused() -> None:
    which = cast(Which, dict[str, Any](work_type="manifest", label={"a": "b"}))
    with pytest.raises(TypeError, match="there is no filter label; there are ids, work_type, state, labels"):
        bulk(which)
