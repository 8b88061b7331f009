"""Drift fails here: the two clients, the calls and the server's routes name the same things."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast import calls, wire
from holdfast._async import client as aio
from holdfast._async import files as aio_files
from holdfast._async import seed as aio_seed
from holdfast._async import transfers as aio_transfers
from holdfast._endpoints.call import ENDPOINTS
from holdfast._sync import client, files, seed, transfers
from holdfast._transfers import handles
from tornado_app.handlers.openapi.document import Contract
from tornado_app.routes import routes

SDK = Path(holdfast.__file__).parent

# Pages, and the one that leads to the others; `health` is `ready` by another name.
FOR_PEOPLE = {"docs", "docs_file", "problem_type", "index", "health", "seed_start_post"}

PAIRS: list[tuple[type, type]] = [
    (client.Client, aio.AsyncClient),
    (client.Process, aio.AsyncProcess),
    (client.Processes, aio.AsyncProcesses),
    (client.SentFunction, aio.AsyncSentFunction),
    (files.Files, aio_files.AsyncFiles),
    (transfers.Transfers, aio_transfers.AsyncTransfers),
    (seed.Seed, aio_seed.AsyncSeed),
    (handles.Transfer, handles.AsyncTransfer),
]
SAME = {
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    "Iterator": "AsyncIterator",
    "SyncCore": "AsyncCore",
    "SyncTransport": "AsyncTransport",
    "RemoteReader": "AsyncRemoteFile",
    **{one.__name__: other.__name__ for one, other in PAIRS},
}


def public(cls: type) -> dict[str, Any]:
    own = {"__init__", "__call__", "__enter__", "__exit__", "__aenter__", "__aexit__"}
    members = [(name, value) for base in cls.__mro__[:-1] for name, value in vars(base).items()]
    return {name: value for name, value in members if not name.startswith("_") or (name in own and name in vars(cls))}


def as_async(text: object) -> str:
    names = "|".join(map(re.escape, sorted(SAME, key=len, reverse=True)))
    return re.sub(rf"(?<![\w.])({names})(?!\w)", lambda match: SAME[match[1]], str(text))


def signature(member: Any) -> list[tuple[str, str, str, str]]:
    function = member.fget if isinstance(member, property) else member
    found = inspect.signature(function)
    parameters = [(p.name, str(p.kind), str(p.default), str(p.annotation)) for p in found.parameters.values()]
    return [*parameters, ("return", "", "", str(found.return_annotation))]


@pytest.mark.parametrize(("sync", "other"), PAIRS, ids=lambda cls: cls.__name__)
def test_the_async_face_has_the_same_methods_with_the_same_signatures(sync: type, other: type) -> None:
    ours, theirs = public(sync), public(other)
    assert {SAME.get(name, name) for name in ours} == set(theirs)
    for name, member in ours.items():
        if isinstance(member, property) or callable(member):
            here = [tuple(map(as_async, part)) for part in signature(member)]
            assert here == [tuple(part) for part in signature(theirs[SAME.get(name, name)])], f"{sync.__name__}.{name}"


@pytest.mark.parametrize(("sync", "other"), PAIRS, ids=lambda cls: cls.__name__)
def test_every_public_method_says_what_it_does(sync: type, other: type) -> None:
    for cls in (sync, other):
        for name, member in public(cls).items():
            if not name.startswith("_") and (isinstance(member, property) or callable(member)):
                assert inspect.getdoc(member), f"{cls.__name__}.{name}"


def called(path: Path) -> set[str]:
    """Names of the calls that a module makes."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "calls"
    }


def test_both_faces_reach_every_endpoint() -> None:
    sync = set().union(*map(called, SDK.glob("_sync/*.py")))
    other = set().union(*map(called, SDK.glob("_async/*.py")))
    shared = [SDK / "plans.py", *SDK.glob("_transfers/**/*.py"), *SDK.glob("_client/*.py")]
    both = set().union(*map(called, shared)) | (sync & other)
    assert set(ENDPOINTS) - both == set()


def test_the_server_has_these_endpoints_and_no_others() -> None:
    """The contract is made from the route table; its operations are named after the calls."""
    served = {
        endpoint.name: (endpoint.method.upper(), endpoint.path)
        for endpoint in Contract(routes(None)).endpoints  # type: ignore[arg-type]  # only handlers that serve need services
        if endpoint.name not in FOR_PEOPLE
    }
    # OPTIONS is answered everywhere and is no operation of the contract.
    ours = {name: (line.method, line.route) for name, line in ENDPOINTS.items() if line.method != "OPTIONS"}
    assert ours == served


def test_every_call_has_a_docstring_and_is_of_this_module() -> None:
    for name in ENDPOINTS:
        assert inspect.getdoc(getattr(calls, name)), name


SAMPLES: dict[str, Any] = {
    "request": wire.StartRequest("manifest"),
    "which": wire.BulkRequest(ids=["a"]),
    "data": b"",
    "params": {},
    "work_types": ["manifest"],
}


@pytest.mark.parametrize("name", sorted(name for name, line in ENDPOINTS.items() if line.method != "OPTIONS"))
def test_calls_send_what_the_contract_takes(name: str) -> None:
    """Query parameters and the types of JSON bodies and answers have the same names on both sides."""
    line = ENDPOINTS[name]
    operation = Contract(routes(None)).document()["paths"][line.route][line.method.lower()]  # type: ignore[arg-type]
    function = inspect.unwrap(getattr(calls, name))
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    given = {p.name: SAMPLES.get(p.name, 0 if "int" in str(p.annotation) else "x") for p in needed}
    sent = set(function(**given).query)
    assert sent <= {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if line.takes is not None:
        assert body["$ref"].rpartition("/")[2] == line.takes.__name__
