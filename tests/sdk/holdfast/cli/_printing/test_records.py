"""Records of the server as the command prints them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.cli._printing import _records
from holdfast.wire import ProgressInfo

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (ProgressInfo(), ""),
        (ProgressInfo(done=1500), "1500"),
        (ProgressInfo(done=3, total=0), "3"),
        (ProgressInfo(done=3, total=4), "75%"),
    ],
)
def test_how_far_is_a_share_where_the_whole_is_known(progress: ProgressInfo, shown: str) -> None:
    assert _records.share(progress) == shown


@pytest.mark.parametrize(
    ("since", "shown"),
    [
        (timedelta(seconds=-3), "0s"),
        (timedelta(seconds=59), "59s"),
        (timedelta(minutes=59, seconds=59), "59m"),
        (timedelta(hours=23), "23h"),
        (timedelta(days=400), "400d"),
    ],
)
def test_an_age_is_one_unit(since: timedelta, shown: str) -> None:
    assert _records.ago(NOW - since, NOW) == shown


def test_no_time_has_no_age() -> None:
    assert _records.ago(None) == ""
    assert _records.moment(None) == ""
