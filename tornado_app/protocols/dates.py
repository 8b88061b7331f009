"""HTTP dates (RFC 9110, section 5.6.7): one form written, three forms read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_FORMS = (
    # IMF-fixdate, then the two obsolete forms that a recipient must still accept: RFC 850 and asctime.
    re.compile(rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(
        r"(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday), "
        rf"(?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"
    ),
    re.compile(rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)


def write(timestamp: float) -> str:
    """Return an IMF-fixdate; fractions of a second are cut off."""
    return _written(int(timestamp))


@lru_cache(maxsize=1024)
def _written(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def read(text: str, this_year: int | None = None) -> int | None:
    """Seconds since 1970, or None for what is not an HTTP date.

    A year of two digits that lies more than 50 years ahead is in the past; `this_year` is for tests.
    """
    match = next((found for form in _FORMS if (found := form.fullmatch(text.strip(" \t")))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        now = this_year or datetime.now(UTC).year
        year += now - now % 100
        if year > now + 50:
            year -= 100
    second = min(int(match["second"]), 59)  # a leap second has no name in POSIX time
    month = _MONTHS.index(match["month"]) + 1
    try:
        when = datetime(year, month, int(match["day"]), int(match["hour"]), int(match["minute"]), second, tzinfo=UTC)
    except ValueError:
        return None
    return int(when.timestamp())
