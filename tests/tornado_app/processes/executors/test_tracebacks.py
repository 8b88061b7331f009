"""Mistakes in work are told where they are: the file and line, the way to the value, the author's own lines."""

from __future__ import annotations

import linecache
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast._client.sent_code import code_request
from holdfast.errors import ProcessFailed
from holdfast.notebook._magics._cell import function_of
from holdfast.wire import Process, State
from holdfast.work import Job, Progress, work_type
from holdfast.work._values import NotJson, as_json
from holdfast.work.testing import check
from tests.support import work
from tests.support.processes import reaches, start
from tests.tornado_app.processes.test_sent_code import Spawn
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine
from tornado_app.settings import Settings, SettingsError

in_both = pytest.mark.parametrize("place", ["thread", "process"])


def line(name: str) -> str:
    """The line in `tests.support.work` that ends with a comment of that name, as "FILE:LINE"."""
    text = Path(work.__file__).read_text().splitlines()
    (at,) = [n for n, line in enumerate(text, 1) if line.endswith(f"# {name}")]
    return f"{work.__file__}:{at}"


async def message(engine: Engine, work_type: str, **options: Any) -> str:
    await start(engine, "p", work_type, **options)
    last = await reaches(engine, "p", State.FAILED)
    assert last.error is not None
    assert last.error.type == "BadWork"
    return last.error.message


@in_both
@pytest.mark.parametrize(
    ("how", "path"),
    [
        ("a lock", "checkpoint['rows'][1]['lock']"),
        ("nan", "checkpoint['rows'][1]['rate']"),
        ("a key", "checkpoint['by']"),
        ("itself", "checkpoint['again'][0]"),
        ("text", ""),
        ("returned", "result['lock']"),
    ],
)
async def test_what_is_no_json_is_told_with_its_path_and_line(engine: Engine, how: str, path: str, place: str) -> None:
    said = await message(engine, "mistaken", how=how, place=place)
    assert path in said
    assert line(how) in said


async def test_on_the_loop_likewise(engine: Engine) -> None:
    said = await message(engine, "mistaken-async")
    assert "checkpoint['x']" in said
    assert line("async") in said


@in_both
async def test_a_declared_checkpoint_type_is_checked_at_every_yield(engine: Engine, place: str) -> None:
    said = await message(engine, "mistyped", place=place)
    assert "does not fit the type that it declares, Byte: Expected `int`, got `str` - at `checkpoint.byte`" in said
    assert line("mistyped") in said
    assert (await engine.get("p")).attempt == 1


async def test_a_traceback_has_no_line_of_ours(engine: Engine) -> None:
    await start(engine, "p", "opens-what-is-not-there")
    await reaches(engine, "p", State.FAILED)
    (trace,) = [one.message for one in (await engine.log("p", 0, 10)).items]
    assert "/tornado_app/" not in trace
    assert 'job.files.open("not-there.txt")' in trace
    assert 'raise RuntimeError("no input")' in trace
    assert "direct cause" in trace


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_generator_that_will_not_end_is_told_with_its_line(engine: Engine) -> None:
    await start(engine, "p", "bad", how="eats_generator_exit")
    await engine.pause("p")
    last: Process = await reaches(engine, "p", State.FAILED, State.PAUSED)
    if last.error is not None:
        assert f"{work.__file__}:" in last.error.message
        log = [one.message for one in (await engine.log("p", 0, 100)).items]
        assert not any("driver.py" in text for text in log)


def test_the_test_kit_says_the_same() -> None:
    @work_type("kit", checkpoint=work.Byte)
    def kit(job: Job[Any]) -> Any:
        yield Progress(checkpoint={"byte": "no"})  # in the kit

    text = Path(__file__).read_text().splitlines()
    at = next(n for n, one in enumerate(text, 1) if one.endswith("# in the kit"))
    with pytest.raises(AssertionError, match=rf"does not fit the type it declares: .*{Path(__file__).name}:{at}"):
        check(kit)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "v"),
        ([1, (2, object())], "v[1][1]"),
        ({"a": work.Byte(object())}, "v['a'].byte"),  # type: ignore[arg-type]
        ({"a": float("inf")}, "v['a']"),
        ({"a": 2**70, "b": object()}, "v['b']"),
    ],
)
def test_the_way_to_what_is_no_json(value: Any, path: str) -> None:
    with pytest.raises(NotJson) as caught:
        as_json(value, "v")
    assert caught.value.path == path


def test_an_import_that_fails_is_told_with_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    (tmp_path / "broken_shop.py").write_text("import json\n\n\njson.loads('{')\n")
    monkeypatch.syspath_prepend(tmp_path)
    object.__setattr__(settings, "import_", ("broken_shop",))
    with pytest.raises(SettingsError, match=r"broken_shop\.py:4"):
        Registry.load(settings)


CELL = """
from holdfast.work import Progress

def helper(n):
    return 1 / n  # in the helper

def shop(job):
    yield Progress(checkpoint=1)
    helper(0)  # in the cell

def wrong(job):
    yield Progress(checkpoint={"a": object()})
"""


def test_the_same_code_makes_the_same_request_wherever_its_file_is() -> None:
    sent = []
    for name in ("/tmp/ipykernel_1/12.py", "/tmp/ipykernel_2/12.py"):
        linecache.cache[name] = (len(CELL), None, CELL.splitlines(keepends=True), name)
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(CELL, name, "exec"), names)
        sent.append(code_request(names["shop"], (), {}, id="p").code)
    assert sent[0] == sent[1]


@pytest.mark.slow
def test_code_that_was_sent_is_shown_with_its_lines(spawn_server: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "<ipython-input-7-abc>"
    linecache.cache[name] = (len(CELL), None, CELL.splitlines(keepends=True), name)
    module = types.ModuleType("shop_cell")
    monkeypatch.setitem(sys.modules, "shop_cell", module)
    exec(compile(CELL, name, "exec"), vars(module))
    server = spawn_server("--allow-code")
    with holdfast.Client(server.url) as client:
        process = client.processes.submit(module.shop)
        with pytest.raises(ProcessFailed):
            process.result(timeout=60)
        trace = "\n".join(one.message for one in process.log())
        assert "return 1 / n  # in the helper" in trace
        assert "helper(0)  # in the cell" in trace
        assert "code.py" not in trace
        assert "tornado_app" not in trace
        wrong = client.processes.submit(module.wrong)
        cell = function_of("seven", "import math\n\nyield Progress(checkpoint=1)\nmath.sqrt(\n    -1)\n", (), {})
        seven = client.processes.submit(cell)
        with pytest.raises(ProcessFailed):
            seven.result(timeout=60)
        trace = "\n".join(one.message for one in seven.log())
        assert '"<%%process seven>", line 5, in seven' in trace
        assert "math.sqrt(" in trace
        with pytest.raises(ProcessFailed, match=r"checkpoint\['a'\], at <cell>:12 \(yield Progress"):
            wrong.result(timeout=60)
