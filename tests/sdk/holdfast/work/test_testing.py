"""The test kit finds what is wrong with a work type, and every work type that comes with the server passes it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import msgspec
import nbformat
import pytest
import sqlalchemy
from nbformat.v4 import new_code_cell, new_notebook

from holdfast.work import Job, Progress, WorkError, WorkType, work_type
from holdfast.work.testing import Workshop, check
from tests.support.origin import Origin
from tornado_app.processes.registry import BUILT_IN, Registry
from tornado_app.settings import Settings
from tornado_app.work_types.command import command
from tornado_app.work_types.export_csv import export_csv
from tornado_app.work_types.fetch import fetch
from tornado_app.work_types.import_csv import import_csv
from tornado_app.work_types.manifest import manifest
from tornado_app.work_types.notebook import notebook

CSV = b"n,text\n" + b"".join(b'%d,"line\n%d"\n' % (n, n * n) for n in range(40))


class To(msgspec.Struct):
    to: int = 4


def declared(function: Callable[[Job[To]], Any], **options: Any) -> WorkType:
    return work_type("example", params=To, **options)(function)


def good(job: Job[To]) -> Generator[Progress, None, Any]:
    for n in range(job.checkpoint or 0, job.params.to):
        yield Progress(checkpoint=n + 1)
    return {"counted": job.params.to}


async def good_async(job: Job[To]) -> AsyncGenerator[Progress, None]:
    for n in range(job.checkpoint or 0, job.params.to):
        yield Progress(checkpoint=n + 1)
    job.result = {"counted": job.params.to}


@pytest.mark.parametrize("function", [good, good_async])
def test_work_that_keeps_its_promises_passes(function: Callable[[Job[To]], Any]) -> None:
    checked = check(declared(function), {"to": 6})
    assert (checked.result, checked.yields) == ({"counted": 6}, 6)


def starts_over(job: Job[To]) -> Generator[Progress, None, Any]:
    for n in range(job.params.to):
        yield Progress(checkpoint=n + 1)


def keeps_a_total_in_memory(job: Job[To]) -> Generator[Progress, None, Any]:
    total = 0
    for n in range(job.checkpoint or 0, job.params.to):
        total += n
        yield Progress(checkpoint=n + 1)
    return total


def wants_a_tuple_back(job: Job[To]) -> Generator[Progress, None, Any]:
    n, _ = job.checkpoint or (0, 0)
    while n < job.params.to:
        n += 1
        yield Progress(checkpoint={"n": n, "m": 0} if n == 3 else (n, 0))


def appends_what_is_there_already(job: Job[To]) -> Generator[Progress, None, Any]:
    staged = job.files.stage("out", "key")
    for n in range(job.checkpoint or 0, job.params.to):
        staged.write(b"%d\n" % n)
        yield Progress(checkpoint=n + 1)
    staged.publish()


def not_json(job: Job[To]) -> Generator[Progress, None, Any]:
    yield Progress(checkpoint=object())


def too_much(job: Job[To]) -> Generator[Progress, None, Any]:
    yield Progress(checkpoint="x" * 300_000)


def yields_a_number(job: Job[To]) -> Generator[Any, None, Any]:
    yield 1


def result_not_json(job: Job[To]) -> Generator[Progress, None, Any]:
    yield Progress()
    return object()


def yields_no_number(job: Job[To]) -> Generator[Progress, None, Any]:
    yield Progress(checkpoint=[float("inf")])


def never_yields(job: Job[To]) -> Generator[Progress, None, Any]:
    if job.params.to < 0:
        yield Progress()


def asks_a_setting(job: Job[To]) -> Generator[Progress, None, Any]:
    if job.checkpoint is None:
        yield Progress(checkpoint=job.setting("speed"))


def forgets_a_key(job: Job[To]) -> Generator[Progress, None, Any]:
    seen = {}
    for n in range(job.checkpoint or 0, job.params.to):
        seen[str(n)] = n
        yield Progress(checkpoint=n + 1)
    return {"seen": seen}


def brings_a_key(job: Job[To]) -> Generator[Progress, None, Any]:
    begun = job.checkpoint
    for n in range(job.checkpoint or 0, job.params.to):
        yield Progress(checkpoint=n + 1)
    return {} if begun is None else {"begun": b"x".decode()}


def shortens_a_list(job: Job[To]) -> Generator[Progress, None, Any]:
    begun = job.checkpoint or 0
    for n in range(begun, job.params.to):
        yield Progress(checkpoint=n + 1)
    return [{"n": n} for n in range(job.params.to - begun)]


def changes_an_entry(job: Job[To]) -> Generator[Progress, None, Any]:
    begun = job.checkpoint or 0
    for n in range(begun, job.params.to):
        yield Progress(checkpoint=n + 1)
    return ["same", {"begun": begun}]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (forgets_a_key, "the result seen 0 is missing"),
        (brings_a_key, "the result begun should not be there: 'x'"),
        (shortens_a_list, "the result has 0 entries, not 4"),
        (changes_an_entry, "the result[1] begun is 4, not 0"),
        (starts_over, "resumed 1000 times from the checkpoint 1 and yielded the same one again"),
        (keeps_a_total_in_memory, "paused after every yield: not as in an uninterrupted run: the result is 0, not 6"),
        (
            wants_a_tuple_back,
            'at attempt 4 from the checkpoint {"n":3,"m":0}: it raised TypeError',
        ),
        (appends_what_is_there_already, "cut off with the checkpoint of yield 0 as the newest one that was kept"),
        (not_json, "yielded a checkpoint that is not JSON"),
        (yields_no_number, "yielded a checkpoint that is not JSON: inf is not a JSON number"),
        (too_much, "at most 262144 are kept"),
        (yields_a_number, "yielded int. Yield holdfast.work.Progress"),
        (result_not_json, "returned a result that is not JSON"),
        (never_yields, "never yielded"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_breaks_a_promise_is_told_where(function: Callable[[Job[To]], Any], says: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check(declared(function))
    assert says in str(caught.value)


def test_a_checkpoint_that_does_not_fit_its_own_type_is_told() -> None:
    class At(msgspec.Struct):
        n: int

    def work(job: Job[To]) -> Generator[Progress, None, Any]:
        yield Progress(checkpoint={"m": 1})

    with pytest.raises(AssertionError, match="does not fit the type it declares"):
        check(declared(work, checkpoint=At))


def test_what_the_work_raises_uninterrupted_is_raised_as_it_is() -> None:
    def work(job: Job[To]) -> Generator[Progress, None, Any]:
        raise WorkError("no such thing")
        yield

    with pytest.raises(WorkError, match="no such thing"):
        check(declared(work))


def test_a_setting_that_was_not_given_is_named() -> None:
    with pytest.raises(AttributeError, match=r"Pass it: check\(\.\.\., settings=\{'speed': \.\.\.\}\)"):
        check(declared(asks_a_setting))
    check(declared(asks_a_setting), settings={"speed": 3})


def table_work(*, undoes: bool) -> WorkType:
    """Rows with their number as the key, so that writing one twice does no harm."""

    def work(job: Job[To]) -> Generator[Progress, None, Any]:
        engine = job.database()
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY)"))
        for n in range(job.checkpoint or 0, job.params.to):
            with engine.begin() as connection:
                connection.execute(sqlalchemy.text("INSERT OR IGNORE INTO t VALUES (:n)"), {"n": n})
            yield Progress(checkpoint=n + 1)

    made = declared(work)

    @made.rollback
    def remove(job: Job[To]) -> None:
        with job.database().begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY)"))
            upto = job.params.to if undoes else (job.checkpoint or 0)
            connection.execute(sqlalchemy.text("DELETE FROM t WHERE n < :upto"), {"upto": upto})

    return made


@pytest.mark.slow
def test_a_rollback_is_tried_at_every_yield_and_with_its_checkpoint_lost() -> None:
    checked = check(table_work(undoes=True))
    assert checked.snapshot == {"table default.t": [(0,), (1,), (2,), (3,)]}
    with pytest.raises(AssertionError, match="whose checkpoint was lost, and rolled back: the state is not as before"):
        check(table_work(undoes=False))


def test_an_async_rollback_is_awaited() -> None:
    undone: list[str] = []
    work = declared(good_async)

    @work.rollback
    async def undo(job: Job[To]) -> None:
        undone.append(job.id)

    check(work)
    assert undone


def test_many_yields_are_cut_off_at_evenly_spread_ones() -> None:
    calls = []

    def work(job: Job[To]) -> Generator[Progress, None, Any]:
        calls.append(job.checkpoint)
        for n in range(job.checkpoint or 0, job.params.to):
            yield Progress(checkpoint=n + 1)

    check(declared(work), {"to": 100}, most=5)
    assert [c for c in calls[102:] if c] == [25, 50, 75, 100]


def test_what_is_left_alive_is_taken_by_the_next_attempt_and_lost_when_cut_off() -> None:
    closed = []

    class Thing:
        def __init__(self, n: int) -> None:
            self.n = n

        def close(self) -> None:
            closed.append(self.n)

    seen = []

    def work(job: Job[To]) -> Generator[Progress, None, Any]:
        thing = job.take()
        seen.append(None if thing is None else thing.n)  # type: ignore[attr-defined]
        for n in range(job.checkpoint or 0, job.params.to):
            job.leave(Thing(n))
            yield Progress(checkpoint=n + 1)
            job.take()

    check(declared(work), {"to": 3}, cut_off=False)
    assert seen == [None, None, 0, 1, 2]
    assert closed == []
    check(declared(work), {"to": 1})
    assert closed == [0]


# -- the work types that come with the server


def upload_csv(workshop: Workshop) -> None:
    workshop.files.put("a.csv", CSV)
    workshop.files.put("b/c.csv", b"x" * 3_000_000)


NUMBERS = "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 20) SELECT * FROM n"


def fetched() -> Any:
    with Origin(bytes(3_000_000)) as origin:
        settings = {"fetch_allow": (origin.url,), "fetch_private": True}
        return check(fetch, {"url": origin.url + "/zeros"}, settings=settings)


def executed() -> Any:
    def upload(workshop: Workshop) -> None:
        content = new_notebook(cells=[new_code_cell("a = 1"), new_code_cell("a + 1")])
        workshop.files.put("n.ipynb", nbformat.writes(content).encode())

    def outputs(workshop: Workshop) -> Any:  # not the times, which every run has of its own
        executed = nbformat.reads(workshop.files.read("n-check.ipynb").decode(), 4)
        return [cell.outputs for cell in executed.cells]

    # Cancelling keeps the executed notebook, so there is nothing to compare with the world before.
    return check(
        notebook,
        {"file_name": "n.ipynb"},
        prepare=upload,
        snapshot=outputs,
        settings={"kill_grace": 5.0},
        rollback=False,
        most=2,
    )


CASES: dict[str, Callable[[], Any]] = {
    "manifest": lambda: check(manifest, prepare=upload_csv),
    "import-csv": lambda: check(import_csv, {"file_name": "a.csv", "table": "t", "batch_rows": 7}, prepare=upload_csv),
    "export-csv": lambda: check(
        export_csv,
        {"query": NUMBERS, "key": "value", "file_name": "o.csv", "batch_rows": 6},
    ),
    "fetch": fetched,
    "notebook": executed,
    "command": lambda: check(command, {"name": "c"}, settings={"command": {"c": "seq 3"}, "kill_grace": 5.0}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("kernel_home")
def test_every_work_type_that_comes_with_the_server_passes(name: str) -> None:
    assert CASES[name]().yields > 0


def test_no_work_type_that_comes_with_the_server_is_left_out() -> None:
    assert BUILT_IN
    assert set(CASES) == {*Registry.load(Settings(allow_code=True)).names} - {"code"}, "which a client brings"
