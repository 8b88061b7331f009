"""Advice of the server in the terms of Python, where it speaks of HTTP."""

from __future__ import annotations

import re

_TERMS = (
    (r"\b([a-z_]+)=true\b", r"\1=True"),
    (r"\b([a-z_]+)=false\b", r"\1=False"),
    (r"\bSay (?=[a-z_]+=(True|False)\b)", "Pass "),
    (r"\bsend ([^.;]{1,80}?) as Authorization: Bearer TOKEN", r"pass \1 as token="),
    (r"\bSend ([^.;]{1,80}?) as Authorization: Bearer TOKEN", r"Pass \1 as token="),
    (r"\bGET /v1/(files|processes)\b", r"client.\1.list()"),
    (r"\bGET /v1/work-types\b", "client.work_types()"),
    (r"^limit must be\b", "page_size must be"),
    (r"\bdeadline_s\b", "deadline"),
    (r"\bids, work_type, state or label\b", "ids, work_type, state or labels"),
    (r"\bIts ETag is\b", "Its etag is"),
)
_PATTERNS = [(re.compile(pattern), own) for pattern, own in _TERMS]


def in_python(detail: str) -> str:
    """Return the detail of an error in the terms of a program: keyword arguments, and methods of the client."""
    for pattern, own in _PATTERNS:
        detail = pattern.sub(own, detail)
    return detail
