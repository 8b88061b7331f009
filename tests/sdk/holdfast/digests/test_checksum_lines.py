"""Lines of a checksum file are those of coreutils."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from holdfast.digests.checksum_lines import checksum_line


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("plain", "DIGEST  plain\n"),
        ("two\nlines", "\\DIGEST  two\\nlines\n"),
        ("back\\slash", "\\DIGEST  back\\\\slash\n"),
        ("carriage\rreturn", "\\DIGEST  carriage\\rreturn\n"),
    ],
)
def test_names_are_escaped_as_coreutils_does(name: str, line: str) -> None:
    assert checksum_line("DIGEST", name) == line


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="coreutils are not on this machine")
@pytest.mark.parametrize("name", ["plain", "two\nlines", "back\\slash", "\\n", "naïve ", " both  spaces "])
def test_sha256sum_reads_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    line = checksum_line(hashlib.sha256(b"content").hexdigest(), name)
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet"], input=line, cwd=tmp_path, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stderr) == (0, "")
