"""The modules of the page, joined into one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import holdfast
from holdfast.notebook._page import _bundle

WEB = Path(holdfast.__file__).parent / "web"
OWN = [path for path in sorted(WEB.rglob("*.js")) if path.name != "tus.min.js"]


def test_the_vendored_tus_client_is_the_one_that_is_noted() -> None:
    said = (WEB / "README.md").read_text()
    assert hashlib.sha256((WEB / "upload_box/tus.min.js").read_bytes()).hexdigest() in said
    assert "tus-js-client) 4.3.1" in said
    assert "MIT" in (WEB / "upload_box/tus.LICENSE").read_text()


@pytest.mark.parametrize("path", OWN, ids=lambda path: str(path.relative_to(WEB)))
def test_modules_load_nothing_from_elsewhere_and_nothing_that_only_secure_pages_have(path: Path) -> None:
    own = path.read_text()
    assert not re.findall(r"https?://(?!www\.w3\.org/)\w|url\(", own)  # names of XML are no addresses
    assert not re.findall(r"crypto\.(?:subtle|randomUUID)\(", own)
    assert len(own.splitlines()) <= 400


@pytest.mark.parametrize("path", ["upload_box/view.js", "download_link/view.js"])
def test_a_bundle_has_each_module_once_and_before_those_that_import_it(path: str) -> None:
    bundle = _bundle.bundle(path)
    assert not re.findall(r"^import ", bundle, re.MULTILINE)
    assert re.findall(r"^export ", bundle, re.MULTILINE) == ["export "]
    assert bundle.count("class Kernel {") == 1
    made = re.findall(r"^const m(\d+) = ", bundle, re.MULTILINE)
    assert made == [str(number) for number in range(len(made))]
    for number, part in enumerate(bundle.split("\nconst m")):
        assert all(int(used) < number for used in re.findall(r"^const \{.*\} = m(\d+);", part, re.MULTILINE))
