"""Modules of the page that need no browser, run by node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import holdfast

WEB = Path(holdfast.__file__).parent / "web"


def run(path: str, script: str) -> Any:
    """Return what a script logs as JSON. It sees the functions of a module, whose imports it defines itself."""
    node = shutil.which("node") or shutil.which("nodejs")
    assert node is not None, "node is missing: tests/tools.sh installs it"
    lines = (WEB / path).read_text("utf-8").splitlines()
    own = "\n".join(line.removeprefix("export ") for line in lines if not line.startswith("import "))
    command = [node, "--input-type=module", "-e", f"{own}\n{script}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_drop_keeps_all_but_what_cannot_be_read() -> None:
    script = """
    const file = (name, fails) => ({ name, isFile: true, file: (yes, no) => (fails ? no(new Error("x")) : yes(name)) });
    const reader = (lists) => ({ readEntries: (yes) => yes(lists.shift() ?? []) });
    const folder = (name, ...lists) => ({ name, createReader: () => reader(lists) });
    const tree = folder("d", [file("a"), file("link", true)], [folder("e", [file("b")])]);
    const items = [tree, file("c")].map((entry) => ({ webkitGetAsEntry: () => entry }));
    console.log(JSON.stringify(await dropped({ items, files: [] })));
    """
    found = [["a", "d/a"], ["b", "d/e/b"], ["c", "c"]]
    assert run("upload_box/dropped.js", script) == {"found": found, "unreadable": ["d/link"]}


@pytest.mark.slow
@pytest.mark.parametrize("key", ["__proto__", "constructor", "toString", "plain"])
def test_a_row_may_have_any_name_of_a_file(key: str) -> None:
    script = """
    const announce = () => {};
    const model = {
      values: { snapshot: { version: 1, now: 0, content: { rows: {} } } },
      get: (name) => model.values[name],
      set: (name, value) => (model.values[name] = value),
      on: (event, call) => (model[event] = call),
      send: () => {},
    };
    initialize({ model });
    const rows = JSON.parse(`{"KEY": {"size": 1}}`);
    model["msg:custom"]({ base: 1, version: 2, now: 0, patch: { rows } });
    const one = model.values.snapshot.content.rows;
    model["msg:custom"]({ base: 2, version: 3, now: 0, patch: { rows: JSON.parse(`{"KEY": {"size": 2}}`) } });
    const two = model.values.snapshot.content.rows;
    model["msg:custom"]({ base: 3, version: 4, now: 0, patch: { rows: JSON.parse(`{"KEY": null}`) } });
    const none = model.values.snapshot.content.rows;
    const seen = [one["KEY"].size, two["KEY"].size, Object.hasOwn(none, "KEY"), Object.keys(none).length];
    console.log(JSON.stringify(seen));
    """
    assert run("views/content.js", script.replace("KEY", key)) == [1, 2, False, 0]
