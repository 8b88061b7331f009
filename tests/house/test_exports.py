"""The public names, pinned: adding or taking one away is a decision, made here and in the changelog."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

import pytest

PINNED = {
    "holdfast": {
        "AsyncClient",
        "AsyncProcess",
        "AsyncTransfer",
        "Client",
        "HoldfastError",
        "LocalServer",
        "Process",
        "Retries",
        "State",
        "Transfer",
        "TransferState",
        "connect",
        "errors",
        "local_server",
    },
    "holdfast.work": {
        "FilesForWork",
        "Interrupted",
        "Job",
        "LeftAlive",
        "MAX_CHECKPOINT",
        "NoParams",
        "Progress",
        "Services",
        "StagedFile",
        "Stopping",
        "WorkError",
        "WorkType",
        "work_type",
    },
}


OLDER = {
    "holdfast.aio": "AsyncFiles AsyncProcesses AsyncSeed AsyncSentFunction AsyncTransfers",
    "holdfast.calls": "UploadLimits",
    "holdfast.client": "Files Processes Seed SentFunction Transfers",
    "holdfast.plans": "NEVER REFUSED_FOR_NOW STUBBORN",
    "holdfast.transfers": "TransferView",
}


@pytest.mark.parametrize(("module", "names"), OLDER.items(), ids=OLDER)
def test_names_that_programs_import_stay(module: str, names: str) -> None:
    home = importlib.import_module(module)
    assert [name for name in names.split() if not hasattr(home, name)] == []


def test_a_work_type_keeps_the_older_names_of_its_functions() -> None:
    work = importlib.import_module("holdfast.work")

    @work.work_type("a")
    def example(job: object) -> Iterator[None]:
        """Do nothing."""
        yield

    assert (example.undo, example.look_over) == (None, None)
    example.rollback(print)
    example.check(repr)
    assert (example.undo, example.look_over) == (print, repr)


@pytest.mark.parametrize("module", PINNED)
def test_public_names_are_the_pinned_ones(module: str) -> None:
    assert set(importlib.import_module(module).__all__) == PINNED[module]


@pytest.mark.parametrize("module", [*PINNED, "holdfast.wire", "holdfast.errors"])
def test_every_public_name_is_there_and_says_what_it_is(module: str) -> None:
    home = importlib.import_module(module)
    for name in home.__all__:
        thing = getattr(home, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{module}.{name} has no docstring"


@pytest.mark.parametrize("name", sorted(PINNED["holdfast"] - {"errors"}))
def test_the_methods_of_public_classes_say_what_they_do(name: str) -> None:
    thing = getattr(importlib.import_module("holdfast"), name)
    for method, function in inspect.getmembers(thing, inspect.isfunction):
        if not method.startswith("_"):
            assert inspect.getdoc(function), f"{name}.{method} has no docstring"


def test_names_come_lazily_and_a_wrong_one_is_an_attribute_error() -> None:
    holdfast = importlib.import_module("holdfast")
    assert set(holdfast.__all__) <= set(dir(holdfast))
    with pytest.raises(AttributeError, match="Klient"):
        _ = holdfast.Klient
