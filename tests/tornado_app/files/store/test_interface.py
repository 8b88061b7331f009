"""The file store's interface: every store passes the same suite, and preconditions say what they refuse."""

from __future__ import annotations

import pytest

from tests.support.store_conformance import StoreConformance
from tornado_app import problems
from tornado_app.files.store.interface import ABSENT, ANYTHING, FileStat, Precondition


class TestEveryStore(StoreConformance):
    """The suite, for each store in its list."""


HERE = FileStat("a", 1, 0, "here", None)
OTHER = FileStat("a", 1, 0, "other", None)


@pytest.mark.parametrize(
    ("expect", "refused"),
    [
        (ANYTHING, []),
        (ABSENT, [HERE, OTHER]),
        (Precondition(present=True), [None]),
        (Precondition(etags=frozenset({"here"})), [OTHER, None]),
        (Precondition(etags=frozenset()), [HERE, OTHER, None]),
    ],
)
def test_a_precondition_refuses_every_other_state(expect: Precondition, refused: list[FileStat | None]) -> None:
    for current in (HERE, OTHER, None):
        if current not in refused:
            expect.check("a", current)
            continue
        with pytest.raises(problems.ProblemError) as caught:
            expect.check("a", current)
        assert caught.value.kind is (problems.FILE_EXISTS if expect.absent else problems.PRECONDITION_FAILED)
        assert caught.value.members.get("etag") == (None if current is None else current.etag)
