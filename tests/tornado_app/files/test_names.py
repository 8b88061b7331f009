"""Names: what a file may be called, and that nothing else gets anywhere."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_app.files import names
from tornado_app.files.store.local.published import LocalStore
from tornado_app.problems import BAD_NAME, NO_SUCH_FILE, ProblemError

GOOD = [
    "a",
    "data/flights.csv",
    "ein Ärger.txt",
    "a b/c d",
    "x" * 255,
    "~",
    "-rf",
    "a.b.",
    "日本/語.csv",
    "%2e%2e",
    "a:b",
    "*",
    ".hidden",
    "a/.git/config",
    "...",
    "..a",
    ".holdfast.txt",
    "a/.holdfast/b",
    ".uploads/x",
    "Screenshot at 3.04.05\u202fPM.png",
    "مي\u200cخواهم.txt",  # Persian and Hindi are written with joiners, and emoji are made with them
    "क्\u200dष.txt",
    "👩🏽\u200d🚀.png",
    "🏳\ufe0f\u200d🌈.png",
    "1\ufe0f\u20e3",
    "葛\U000e0100.txt",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
]

INVISIBLE = {
    "a\u202etxt.exe": "RIGHT-TO-LEFT OVERRIDE",
    "a\u2066b\u2069": "LEFT-TO-RIGHT ISOLATE",
    "a/\u200eb": "LEFT-TO-RIGHT MARK",
    "a\u200b": "ZERO WIDTH SPACE",
    "\ufeffa.csv": "ZERO WIDTH NO-BREAK SPACE",
    "pass\u00adword": "SOFT HYPHEN",
    "a\u200db": "ZERO WIDTH JOINER",
    "a\u200cb": "ZERO WIDTH NON-JOINER",
    "e\u0301\u200c\u0301": "ZERO WIDTH NON-JOINER",
    "a\ufe0f": "VARIATION SELECTOR-16",
    "❤\ufe0f\ufe0f": "VARIATION SELECTOR-16",
    "1\ufe0f": "VARIATION SELECTOR-16",
    "a\u2800": "BRAILLE PATTERN BLANK",
    "\u3164": "HANGUL FILLER",
    "a\U000e0061": "TAG LATIN SMALL LETTER A",
    "🏴\U000e0061\U000e007f": "TAG LATIN SMALL LETTER A",
    "a\u2063b": "INVISIBLE SEPARATOR",
}

BAD = {
    "": r"empty\. Give",
    "/etc/passwd": "absolute",
    "../secret": "names no file",
    "a/../b": "names no file",
    "a/./b": "names no file",
    "..": "names no file",
    ".holdfast": "reserved for the server",
    ".holdfast/uploads/b": "reserved for the server",
    ".HoldFast/x": "reserved for the server",
    "a//b": "empty segment",
    "a/": "empty segment",
    "a\\b": "backslash",
    "a\0b": "control",
    "a\nb": "control",
    "a\x7fb": "control",
    "a\x85b": "control",
    "a\u2028b": "control",
    "a\ud800b": "not UTF-8",
    "x" * 256: "255 bytes",
    "ä" * 128: "255 bytes",
    "/".join(["x" * 100] * 11): "1024 are allowed",
    **INVISIBLE,
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_is_taken_as_it_is(name: str) -> None:
    assert names.check(name) == name


@pytest.mark.parametrize(("name", "why"), BAD.items())
def test_a_bad_name_is_refused_with_the_rule_it_breaks(name: str, why: str) -> None:
    with pytest.raises(ProblemError, match=why) as caught:
        names.check(name)
    assert caught.value.kind is BAD_NAME


@pytest.mark.parametrize("name", INVISIBLE)
def test_what_has_an_invisible_name_already_can_be_read_and_removed_but_not_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("by hand")
    store = LocalStore(tmp_path)
    assert [found.name for found in store.listing()] == [name]
    reader = store.open(name)
    assert reader.read(0, 99) == b"by hand"
    reader.close()
    with pytest.raises(ProblemError, match="invisible"):
        store.check_target(name)
    store.delete(name)
    assert store.listing() == []
    store.close()


@given(st.text(st.characters(exclude_categories=[]), max_size=60) | st.text("./\\a\0", max_size=12))
def test_what_is_taken_stays_inside(name: str) -> None:
    if names.flaw(name) is None:
        assert os.path.normpath(os.path.join("/root", name)) == f"/root/{name}"
        assert not {".", "..", ""} & set(name.split("/"))
        assert name.split("/")[0] != ".holdfast"


HOSTILE = [
    "..",
    ".",
    "/",
    "\\",
    "\0",
    "\n",
    "a",
    ".uploads",
    ".holdfast",
    "uploads",
    "digests",
    "out",
    "in",
    "loop",
    "folder",
    "%2e",
    "ü",
    "\udcff",
]


def hostile_names() -> list[str]:
    """A thousand names of what attackers try, the same each time."""
    rng = random.Random(4)
    made = ["".join(rng.choice([*HOSTILE, "/", "/"]) for _ in range(rng.randint(1, 8))) for _ in range(990)]
    return [
        *made,
        *(link for link in ("out", "out/secret", "folder/up", "folder/up/secret", "loop", "loop/x", "abs/secret")),
        "in/../../x",
        "a" * 5000,
        "/" * 5000,
    ]


def outcome(call: Callable[[], object]) -> object:
    """Return the result of a call, or the kind of its refusal."""
    try:
        return call()
    except ProblemError as error:
        return error.kind


@pytest.mark.slow
def test_a_thousand_hostile_names_touch_nothing_outside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "folder").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "out").symlink_to(outside)
    (root / "abs").symlink_to(outside.resolve())
    (root / "folder/up").symlink_to("../../outside")
    (root / "loop").symlink_to("loop")
    store = LocalStore(root)
    tried = hostile_names()
    assert len(tried) >= 999
    for number, name in enumerate(tried):
        assert outcome(lambda: store.open(name).read(0, 100)) in (b"", b"mine", NO_SUCH_FILE), name  # noqa: B023
        staged = store.create(f"u{number}", b"")
        staged.write([b"mine"])
        assert outcome(lambda: staged.publish(name).size) in (4, BAD_NAME), name  # noqa: B023
        staged.discard()
    store.close()
    assert [(p.name, p.read_text()) for p in outside.iterdir()] == [("secret", "secret")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["outside", "root"]
    assert os.listdir(root / ".holdfast/uploads") == []
