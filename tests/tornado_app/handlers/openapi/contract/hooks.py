"""Makes schemathesis meet processes, files and uploads that are there, and not only ids that are not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import schemathesis
from schemathesis.transport.requests import REQUESTS_TRANSPORT

KNOWN = {"id": ("alpha", "beta", "gamma"), "name": ("one.txt", "data/two.bin"), "file_name": ("one.txt", "three.txt")}


def _known(values: Any, names: Iterable[str] = KNOWN) -> Any:
    """About half of the names become names that mean something; which ones, the values themselves decide."""
    if isinstance(values, dict):
        for name in names:
            choices = KNOWN[name]
            value = values.get(name)
            if isinstance(value, str) and len(value) % 2:
                values[name] = choices[sum(value.encode(errors="replace")) % len(choices)]
    return values


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    return _known(path_parameters)


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    if isinstance(query, dict) and isinstance(query.get("wait"), int | float) and query["wait"] > 0.1:
        query["wait"] = 0.1
    return _known(query)


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    if isinstance(body, dict) and isinstance(body.get("work_type"), str) and len(body["work_type"]) < 3:
        body["work_type"] = "manifest"
    return _known(body, ("id", "file_name"))  # a name in a body is bad on purpose where it is bad


@REQUESTS_TRANSPORT.serializer("application/offset+octet-stream", "application/partial-upload", "application/x-tar")
def as_bytes(context: Any, value: Any) -> dict[str, Any]:
    return {"data": value if isinstance(value, bytes) else str(value).encode(errors="replace")}
