"""What a work type's JSON Schema says of its parameters, for those who write them as text: a shell, a magic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from holdfast import wire
from holdfast.errors import BadRequest


def fields(work: wire.WorkTypeInfo) -> dict[str, dict[str, Any]]:
    """The schema of each parameter, by name."""
    found: dict[str, dict[str, Any]] = _schema(work).get("properties", {})
    return found


def summary(work: wire.WorkTypeInfo) -> tuple[str, str, str]:
    """Name, parameters (those that may be left out in brackets), and the first line of what it does."""
    required = _schema(work).get("required", [])
    names = [name if name in required else f"[{name}]" for name in fields(work)]
    return work.name, " ".join(names), work.doc.strip().partition("\n")[0]


def typed(types: Iterable[wire.WorkTypeInfo], work_type: str, texts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Parameters from their texts: text where the schema takes text, else JSON.

    Raises:
        BadRequest: there is no such work type; what there is.
    """
    known = {work.name: work for work in types}
    if work_type not in known:
        raise BadRequest(400, "No such work type", f"{work_type!r} is no work type; there are {', '.join(known)}")
    schemas = fields(known[work_type])
    return {name: _typed(schemas.get(name, {}), text) for name, text in texts}


def _typed(field: dict[str, Any], text: str) -> Any:
    kinds = [field.get("type"), *(each.get("type") for each in field.get("anyOf", []))]
    if "string" in kinds:
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _schema(work: wire.WorkTypeInfo) -> dict[str, Any]:
    schema = work.params_schema
    found: dict[str, Any] = schema.get("$defs", {}).get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
    return found
