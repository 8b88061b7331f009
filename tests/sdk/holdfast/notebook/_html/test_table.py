"""Tables of a dashboard as HTML, for saved notebooks and front ends without our module."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from holdfast import wire
from holdfast.notebook._feed._speed import Speed
from holdfast.notebook._html import _table

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def test_an_upload_that_stands_still_has_an_age_and_neither_a_rate_nor_a_time_left() -> None:
    upload = wire.UploadInfo("u", "video.mp4", 500, 1000, NOW, None, False)
    speed = Speed()
    speed.rate = 50.0
    speed.moved(time.monotonic())
    row = _table.upload_row(upload, speed)
    assert "50 B/s" in row
    assert " left" in row
    speed.moved_at = time.monotonic() - 12
    row = _table.upload_row(upload, speed)
    assert "no progress for 12 s" in row
    assert "50 B/s" not in row
    assert " left" not in row


def test_names_of_files_never_become_markup_and_what_does_not_fit_is_counted() -> None:
    file = wire.FileInfo("<img src=x>", 950, NOW, "e", "", "0123456789abcdef", None)
    html = _table.files_html([_table.file_row(file)], 12_345)
    assert "<img" not in html
    assert "0123456789ab…" in html
    assert "and 12,345 more: narrow the filter" in html
    assert "no file matches" in _table.files_html([], 0)


def test_a_curve_ends_on_the_right_and_needs_two_values() -> None:
    assert _table.sparkline([1.0], "#000") == ""
    assert " 60,1 60,16" in _table.sparkline([0.0, 5.0], "#000")
