"""The OpenAPI 3.1 document: made from the route table, what `@operation` declares, and the wire structs."""

from __future__ import annotations

import functools
import http.client
import inspect
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec
from tornado.web import RequestHandler

from holdfast.wire import Problem
from tornado_app import problems
from tornado_app.handlers.base import BaseHandler, HeadHandler
from tornado_app.handlers.openapi import query
from tornado_app.handlers.openapi.operation import Content, Operation, operation_of
from tornado_app.handlers.seed.base import SeedHandler
from tornado_app.problems import Kind

JSON = dict[str, Any]
Route = tuple[str, type[BaseHandler], dict[str, Any]]

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")

_TEXT = {"type": "string"}
_NUMBER = {"type": "integer", "minimum": 0}

HEADERS: dict[str, tuple[JSON, str]] = {
    "Accept-Ranges": (_TEXT, "`bytes`: parts can be asked for."),
    "Block-Digest": (_TEXT, "Block digest of the whole, `blake3-1m=:BASE64:`; of an upload it is verified at its end."),
    "Content-Digest": (_TEXT, "Digest of the body (RFC 9530), sha-256 or sha-512; checked before anything is kept."),
    "Content-Disposition": (_TEXT, "The name under which to save it (RFC 6266)."),
    "Content-Length": (_NUMBER, "Bytes in the body."),
    "Content-Range": (_TEXT, "Which bytes these are, of how many (RFC 9110, section 14.4)."),
    "ETag": (_TEXT, "Changes whenever the content does."),
    "If-Match": (_TEXT, "Only if it is one of these versions (RFC 9110, section 13.1.1)."),
    "If-Modified-Since": (_TEXT, "Only if it has changed since (RFC 9110, section 13.1.3)."),
    "If-None-Match": (_TEXT, "Only if it is none of these versions; `*`: if there is none (RFC 9110, section 13.1.2)."),
    "If-Range": (_TEXT, "`Range` counts only if it is this version (RFC 9110, section 13.1.5)."),
    "If-Unmodified-Since": (_TEXT, "Only if it has not changed since (RFC 9110, section 13.1.4)."),
    "Last-Event-ID": ({"type": "string", "pattern": "^[0-9]{1,18}$"}, "The id of the last event that was seen."),
    "Last-Modified": (_TEXT, "When it was last changed."),
    "Location": (_TEXT, "Where it is to be found."),
    "Range": (_TEXT, "Which bytes (RFC 9110, section 14.2)."),
    "Repr-Digest": (_TEXT, "Digest of the whole (RFC 9530), sha-256 or sha-512."),
    "Tus-Resumable": ({"const": "1.0.0"}, "That tus is spoken, and in which version."),
    "Upload-Checksum": (_TEXT, "Algorithm and base64 of the digest of the body (tus, checksum)."),
    "Upload-Complete": ({"enum": ["?0", "?1"]}, "Whether the upload ends with the body (IETF draft)."),
    "Upload-Concat": (_TEXT, "`partial`, or `final;` and the URLs of the parts (tus, concatenation)."),
    "Upload-Defer-Length": ({"const": "1"}, "The length is not known yet (tus, creation-defer-length)."),
    "Upload-Expires": (_TEXT, "When the upload is removed if nothing more comes (tus, expiration)."),
    "Upload-Length": (_NUMBER, "How long the whole is, in bytes."),
    "Upload-Limit": (_TEXT, "What the server takes, as a structured field (IETF draft)."),
    "Upload-Metadata": (_TEXT, "`filename` and other keys, each with base64 of its value (tus, creation)."),
    "Upload-Offset": (_NUMBER, "Where the upload stands, or where the body belongs, in bytes."),
    "Want-Block-Digest": (_TEXT, "`blake3-1m=10`: uploads are verified by `Block-Digest`."),
    "Want-Repr-Digest": (
        _TEXT,
        "Which `Repr-Digest` to send (RFC 9530, section 4). For each point of preference for `sha-256` (1 to 10) the "
        "answer waits 3 seconds at most until that digest is made.",
    ),
}
"""Every header that an operation names: its schema, and what it says."""

_REF = "#/components/schemas/{name}"
_PUBLISHED_NAMES = {"ProcessInfo": "Process"}
"""Names of schemas in the contract that are not those of their structs: clients generate classes by them."""

_MOST_DOCUMENTS = 8
"""Documents that are kept, one for each path under which proxies serve the server."""

_GROUP = re.compile(r"\(\?P<(?P<name>\w+)>(?P<pattern>[^()]+)\)")


class ProblemType(msgspec.Struct, frozen=True):
    """A type of problem: the statuses that it comes with, and the operations that may answer with it, by name."""

    type: str
    title: str
    status: list[int]
    operations: list[str]


class Contract:
    """Contract of the route table. It is built at its first use."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = list(routes)
        self._documents: dict[str, JSON] = {}

    @functools.cached_property
    def endpoints(self) -> list[ContractEndpoint]:
        """Every operation, in the order of the table."""
        return list(endpoints(self._routes))

    def document(self, root: str = "") -> JSON:
        """Return the OpenAPI document, as JSON-like values. `root` is the path before every address of the server."""
        if root not in self._documents:
            while len(self._documents) >= _MOST_DOCUMENTS:
                self._documents.pop(next(iter(self._documents)))
            self._documents[root] = document(self.endpoints, root)
        return self._documents[root]

    def problem_types(self, root: str = "") -> dict[str, ProblemType]:
        """Return every line of the catalogue of problems, by the last part of its `type`."""
        found = {}
        for kind in (value for value in vars(problems).values() if isinstance(value, Kind)):
            where = [endpoint for endpoint in self.endpoints if kind in endpoint.operation.problems]
            status = {endpoint.handler.status_of(kind) for endpoint in where} or {kind.status}
            names = [endpoint.name for endpoint in where]
            found[kind.slug] = ProblemType(kind.uri_below(root), kind.title, sorted(status), names)
        return found


class ContractEndpoint(NamedTuple):
    """One operation of the route table. `values` are the parts of the path that the route lists one by one."""

    path: str
    method: str
    handler: type[BaseHandler]
    operation: Operation
    values: Mapping[str, str]

    @property
    def name(self) -> str:
        """The operation's name: its call in the SDK."""
        return self.operation.name.format_map(self.values)


def endpoints(routes: Iterable[Route]) -> Iterator[ContractEndpoint]:
    """Every operation of a route table, in its order.

    Raises:
        TypeError: a handler's method has no `@operation`.
    """
    for pattern, handler, _ in routes:
        slash = "/" if issubclass(handler, SeedHandler) else ""  # which of the two forms is the one that is written
        for path, values in paths(pattern, slash):
            for method in METHODS:
                function = getattr(handler, method)
                if function in (getattr(RequestHandler, method), HeadHandler.head):  # the GET is declared
                    continue
                declared = operation_of(function)
                if declared is None:
                    if method == "options":
                        continue  # the same everywhere: what can be done there
                    raise TypeError(f"{handler.__qualname__}.{method} is in the route table but has no @operation")
                if any(f"{{{word}}}" not in declared.name for word in values):
                    continue  # it is another line's operation, for these words
                yield ContractEndpoint(path, method, handler, declared, values)


def paths(pattern: str, slash: str = "") -> list[tuple[str, dict[str, str]]]:
    """The path templates of a route; a group of words, `(?P<verb>pause|resume)`, makes a path of each of them.

    `slash` is written where the pattern leaves one open at the end.

    Raises:
        ValueError: the pattern has more to it than groups and an optional slash at the end.
    """
    words = {m["name"]: m["pattern"].split("|") for m in _GROUP.finditer(pattern) if re.fullmatch(r"[\w|-]+", m[2])}
    plain = _GROUP.sub(lambda m: f"{{{m['name']}}}", pattern).replace(r"\.", ".")
    if plain.endswith("/?"):
        plain = plain.removesuffix("/?") + slash
    if set(plain) & set("()[]*+?|\\^$"):
        raise ValueError(f"{pattern} is more than a path with parameters")
    found = []
    for choice in itertools.product(*words.values()):
        values = dict(zip(words, choice, strict=True))
        path = plain
        for name, value in values.items():
            path = path.replace(f"{{{name}}}", value)
        found.append((path, values))
    return found


def document(table: Sequence[ContractEndpoint], root: str = "") -> JSON:
    """Return the whole document, as JSON-like values. `root` is the path before every address of the server."""
    schemas = _Schemas(table)
    refusals = _Refusals(schemas, root)
    described: dict[str, JSON] = {}
    for endpoint in table:
        described.setdefault(endpoint.path, {})[endpoint.method] = _operation(endpoint, schemas, refusals)
    modules = dict.fromkeys(endpoint.handler.__module__ for endpoint in table)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast",
            "version": version("holdfast"),
            "summary": "Long processes and big transfers that can be paused, resumed and cancelled.",
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "servers": [{"url": root or "."}],
        "security": [{}, {"token": []}],
        "tags": [{"name": _tag(name), "description": inspect.getdoc(sys.modules[name])} for name in modules],
        "paths": described,
        "components": {
            "schemas": schemas.components,
            "responses": refusals.components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Where the server was given a token."}
            },
        },
    }


class _Schemas:
    """The JSON Schema of every type that an operation names."""

    def __init__(self, table: Iterable[ContractEndpoint]) -> None:
        types: dict[Any, None] = {Problem: None}
        for endpoint in table:
            declared = endpoint.operation
            contents = [*declared.answers.values(), *declared.body]
            types |= dict.fromkeys(content.type for content in contents if content is not None and content.type)
            types |= dict.fromkeys(declared.path.values())
            if declared.query:
                types |= dict.fromkeys(p.type for p in query.parameters(declared.query).values())
        schemas, components = msgspec.json.schema_components(list(types), ref_template=_REF)
        schemas, self.components = _published((schemas, components))
        for component in self.components.values():
            if "description" in component:
                component["description"] = inspect.cleandoc(component["description"])
        self._of = dict(zip(types, schemas, strict=True))

    def of(self, type: Any) -> JSON:
        """The schema of one of the types, by reference where it is a struct."""
        schema: JSON = self._of[type]
        return schema


def _published(schema: Any) -> Any:
    """Return a schema, or a container of schemas, with the names under which the contract publishes its structs."""
    if isinstance(schema, dict):
        return {_PUBLISHED_NAMES.get(key, key): _published_value(key, value) for key, value in schema.items()}
    return type(schema)(map(_published, schema)) if isinstance(schema, (list, tuple)) else schema


def _published_value(key: str, value: Any) -> Any:
    if key == "title" and isinstance(value, str):
        return _PUBLISHED_NAMES.get(value, value)
    if key == "$ref":
        prefix, _, name = value.rpartition("/")
        return f"{prefix}/{_PUBLISHED_NAMES.get(name, name)}"
    return _published(value)


class _Refusals:
    """Answers with problem details; those of one kind only stand once, among the components."""

    def __init__(self, schemas: _Schemas, root: str) -> None:
        self._schemas = schemas
        self._root = root
        self.components: dict[str, JSON] = {}

    def of(self, kinds: Sequence[Kind]) -> JSON:
        """The response for a status that any of the kinds may come with."""
        types = [kind.uri_below(self._root) for kind in kinds]
        schema = {"properties": {"type": {"enum": types}}, "required": ["type", "detail"], **self._schemas.of(Problem)}
        response = {
            "description": "\n".join(f"- `{kind.slug}`: {kind.title}" for kind in kinds),
            "content": {"application/problem+json": {"schema": schema}},
        }
        if len(kinds) > 1:
            return response
        self.components[kinds[0].slug] = response
        return {"$ref": f"#/components/responses/{kinds[0].slug}"}


def _operation(endpoint: ContractEndpoint, schemas: _Schemas, refusals: _Refusals) -> JSON:
    declared = endpoint.operation
    words = {name.capitalize(): value.capitalize() for name, value in endpoint.values.items()}
    summary, _, description = declared.doc.format_map(words | dict(endpoint.values)).partition("\n")
    described: JSON = {
        "operationId": endpoint.name,
        "tags": [_tag(endpoint.handler.__module__)],
        "summary": summary,
        "description": description.strip(),
        "parameters": [*_path_parameters(endpoint, schemas), *_query_parameters(declared, schemas)],
        "responses": _responses(endpoint, schemas, refusals),
    }
    described["parameters"] += [_header_parameter(name) for name in declared.headers]
    if declared.body:
        described["requestBody"] = {
            "required": len(declared.body) == 1 and _has_required(declared.body[0].type),
            "content": {content.media_type: _media(content, schemas) for content in declared.body},
        }
    return {name: value for name, value in described.items() if value not in ("", [])}


def _path_parameters(endpoint: ContractEndpoint, schemas: _Schemas) -> list[JSON]:
    return [
        _described({"name": name, "in": "path", "required": True}, schemas.of(endpoint.operation.path[name]))
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]


def _query_parameters(declared: Operation, schemas: _Schemas) -> list[JSON]:
    if declared.query is None:
        return []
    found = []
    for parameter in query.parameters(declared.query).values():
        schema = schemas.of(parameter.type)
        without_null = [one for one in schema.get("anyOf", [schema]) if one != {"type": "null"}]
        named = {"name": parameter.name, "in": "query", "required": parameter.required}
        default = {} if parameter.default in (None, msgspec.NODEFAULT) else {"default": parameter.default}
        found.append(_described(named, without_null[0] | default))
    if text := getattr(declared.query, "FURTHER", None):
        free = {"type": "object", "additionalProperties": {"type": "string"}}
        found.append({"name": "params", "in": "query", "description": text, "style": "form", "schema": free})
    return found


def _header_parameter(name: str) -> JSON:
    schema, description = HEADERS[name]
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _described(parameter: JSON, schema: JSON) -> JSON:
    """A parameter with its schema, whose description stands at the parameter."""
    schema = dict(schema)
    description = schema.pop("description", None)
    return parameter | ({"description": description} if description else {}) | {"schema": schema}


def _responses(endpoint: ContractEndpoint, schemas: _Schemas, refusals: _Refusals) -> JSON:
    declared, status_of = endpoint.operation, endpoint.handler.status_of
    found: JSON = {}
    for status, content in sorted(declared.answers.items()):
        found[str(status)] = _response(status, content, schemas)
    by_status: dict[int, list[Kind]] = {}
    for kind in declared.problems:
        by_status.setdefault(status_of(kind), []).append(kind)
    return found | {str(status): refusals.of(kinds) for status, kinds in sorted(by_status.items())}


def _response(status: int, content: Content | None, schemas: _Schemas) -> JSON:
    answer: JSON = {"description": http.client.responses[status]}
    if content is None:
        return answer
    if content.headers:
        answer["headers"] = {
            name: {"description": HEADERS[name][1], "schema": HEADERS[name][0]} for name in content.headers
        }
    if content.media_type:
        answer["content"] = {content.media_type: _media(content, schemas)}
    return answer


def _media(content: Content, schemas: _Schemas) -> JSON:
    if content.type is None:
        return {}
    schema = schemas.of(content.type)
    if content.media_type == "text/event-stream":  # OpenAPI 3.1 has no schema for the items of a stream
        schema = {"type": "string", "contentMediaType": content.media_type, "contentSchema": schema}
    return {"schema": schema}


def _has_required(type: Any) -> bool:
    return type is not None and any(f.required for f in msgspec.structs.fields(type))


def _tag(module: str) -> str:
    """Return the room of a handler in words: `files`, `seed files`, `uploads`."""
    return " ".join(module.removeprefix("tornado_app.handlers.").removesuffix(".handler").split("."))
