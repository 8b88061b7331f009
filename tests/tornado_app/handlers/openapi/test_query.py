"""Query strings become typed structs, and what does not fit is told by name."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from holdfast.wire import Number, State
from tornado_app.handlers.openapi import query
from tornado_app.problems import BAD_PARAMETERS, ProblemError


class Query(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    limit: Annotated[int, Meta(ge=1, le=10)] = 5
    after: Number | None = None
    wait: Annotated[float, Meta(ge=0, le=60)] = 0.0
    force: bool = False
    kind: Literal["b", "a"] = "a"
    state: list[State] = []
    label: list[Annotated[str, Meta(pattern="^[^=]+=")]] = []


def test_every_kind_of_value() -> None:
    given = {
        "name": ["ä b"],
        "limit": ["10"],
        "after": ["9223372036854775807"],
        "wait": ["2.5"],
        "force": ["true"],
        "kind": ["b"],
        "state": ["running,paused", "failed"],
        "label": ["a=1", "b="],
    }
    assert query.read(Query, given) == Query(
        name="ä b",
        limit=10,
        after=(1 << 63) - 1,
        wait=2.5,
        force=True,
        kind="b",
        state=[State.RUNNING, State.PAUSED, State.FAILED],
        label=["a=1", "b="],
    )


def test_what_is_left_out_has_its_default() -> None:
    assert query.read(Query, {"name": ["x"]}) == Query(name="x")


@pytest.mark.parametrize(
    ("name", "texts", "says"),
    [
        ("name", [], "name is missing: add name=... to the query"),
        ("name", ["a", "b"], "name is given 2 times. Give it once"),
        ("limit", ["0"], "limit must be a whole number from 1 to 10, not '0'"),
        ("limit", ["11"], "from 1 to 10"),
        ("limit", ["+5"], "from 1 to 10"),
        ("limit", ["1e0"], "from 1 to 10"),
        ("limit", ["5.0"], "from 1 to 10"),
        ("limit", ["٥"], "from 1 to 10"),
        ("limit", [""], "from 1 to 10"),
        ("after", ["9223372036854775808"], "after must be a whole number from 0, not"),
        ("after", ["9" * 5000], "after must be a whole number from 0, not"),
        ("after", ["null"], "after must be a whole number from 0, not 'null'"),
        ("wait", ["nan"], "wait must be a number from 0 to 60, not 'nan'"),
        ("wait", ["inf"], "a number from 0 to 60"),
        ("wait", ["1_0"], "a number from 0 to 60"),
        ("wait", ["1e999"], "a number from 0 to 60"),
        ("wait", ["-1"], "a number from 0 to 60"),
        ("force", ["perhaps"], "force must be true or false, not 'perhaps'"),
        ("kind", ["c"], "kind must be a or b, not 'c'"),
        ("state", ["running", "gone"], "state must be one or more, each queued, running, pausing, paused"),
        ("state", ["running,"], "state must be one or more"),
        ("label", ["=x"], "label must be one or more, each a text like ^[^=]+=, not '=x'"),
        ("colour", ["red"], "unknown parameter 'colour'; this endpoint takes name, limit"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_does_not_fit_is_told_by_name(name: str, texts: list[str], says: str) -> None:
    with pytest.raises(ProblemError) as refused:
        query.read(Query, {"name": ["x"]} | {name: texts})
    assert refused.value.kind is BAD_PARAMETERS
    assert says in refused.value.detail
    assert len(refused.value.detail) < 400
    assert refused.value.members["field"] == name
