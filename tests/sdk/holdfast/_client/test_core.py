"""Values of a client beside answers: iterators that a notebook can show, and the address for the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

import holdfast
from holdfast._client.core import AsyncValues, Values, core_of


def test_values_are_an_iterator_that_says_what_to_do_with_it() -> None:
    ended: list[bool] = []

    def numbers() -> Iterator[int]:
        try:
            yield from (1, 2, 3)
        finally:
            ended.append(True)

    values = Values(numbers())
    assert repr(values) == "<Values: loop over them, or call list() on them>"
    assert next(values) == 1
    assert next(iter(values)) == 2
    values.close()
    assert ended == [True]
    assert list(values) == []


async def test_async_values_are_one_too() -> None:
    ended: list[bool] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in (1, 2, 3):
                yield number
        finally:
            ended.append(True)

    values = AsyncValues(numbers())
    assert repr(values) == "<AsyncValues: loop over them with `async for`>"
    assert await anext(values) == 1
    await values.aclose()
    assert ended == [True]
    assert [value async for value in AsyncValues(numbers())] == [1, 2, 3]


@pytest.mark.parametrize("face", [holdfast.Client, holdfast.AsyncClient])
def test_a_client_remembers_how_the_page_reaches_its_server(face: type[holdfast.Client | holdfast.AsyncClient]) -> None:
    client = face("http://127.0.0.1:1")
    assert client.page_url is None
    client.page_url = "/user/ann/holdfast/"
    assert core_of(client).page_url == "/user/ann/holdfast/"
