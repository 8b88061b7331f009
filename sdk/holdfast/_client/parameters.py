"""Parameters of a work type by its JSON Schema, for the command line and the magics, where they are text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from holdfast import wire
from holdfast.errors import BadRequest


def fields(work: wire.WorkTypeInfo) -> dict[str, dict[str, Any]]:
    """Return the schema of each parameter, by name."""
    found: dict[str, dict[str, Any]] = _schema(work).get("properties", {})
    return found


def summary(work: wire.WorkTypeInfo) -> tuple[str, str, str]:
    """Return the name, the parameters (optional ones in brackets), and the first line of the docstring."""
    required = _schema(work).get("required", [])
    names = [name if name in required else f"[{name}]" for name in fields(work)]
    return work.name, " ".join(names), work.doc.strip().partition("\n")[0]


def typed(types: Iterable[wire.WorkTypeInfo], work_type: str, texts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Convert parameters from text: a string if the schema allows one, else JSON.

    Raises:
        BadRequest: there is no such work type; the message lists those that there are.
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
