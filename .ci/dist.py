"""Looks through wheel and sdist in a folder, then installs the wheel into an empty environment and tries it there.

dist.py FOLDER [--look]

What the README does with curl and in Python is done with what was installed, from a folder that is no clone. With
`--look` nothing is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"holdfast": "sdk/holdfast", "holdfast_examples": "examples/holdfast_examples", "tornado_app": "tornado_app"}
FOR_JUPYTER = {
    "etc/jupyter/jupyter_server_config.d/holdfast.json",
    "share/jupyter/labextensions/holdfast/package.json",
    "share/jupyter/labextensions/holdfast/static/remoteEntry.js",
}
HERE = "http://127.0.0.1:8000"


def wanted() -> dict[str, str]:
    """Return each file of the packages that git keeps: its name in a wheel, and in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES.values()], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        for package, folder in PACKAGES.items():
            if line.startswith(folder + "/"):
                files[package + line.removeprefix(folder)] = line
    return files


def look_through(folder: Path) -> Path:
    """Return the wheel of a folder, after it and the sdist were found to hold what they should and no more."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    files = wanted()
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
        licenses = [name for name in archive.namelist() if "/licenses/" in name]
    for_jupyter = {name for name in inside if ".data/data/" in name}
    if difference := {name.partition(".data/data/")[2] for name in for_jupyter} ^ FOR_JUPYTER:
        sys.exit(f"{wheel.name} does not have what Jupyter looks for, or has more: {sorted(difference)}")
    if difference := inside - for_jupyter ^ set(files):
        sys.exit(f"{wheel.name} is not what the repository has: {sorted(difference)}")
    for line in ("Name: holdfast", "Requires-Python: >=3.11", "BSD-3-Clause", "# Holdfast"):
        if line not in text:
            sys.exit(f"the metadata of {wheel.name} lacks {line!r}")
    if not any(name.endswith("/LICENSE") for name in licenses):
        sys.exit(f"{wheel.name} holds no license")
    with tarfile.open(sdist) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    if missing := {*files.values(), "setup.py", "pyproject.toml", "README.md", "LICENSE"} - source:
        sys.exit(f"{sdist.name} lacks {sorted(missing)}")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """Return the folder of programs of a new environment with the wheel in it."""
    versions = str(ROOT / ".ci/versions.txt")
    what = f"{wheel}[server,cli]"
    if shutil.which("uv"):
        subprocess.run(["uv", "venv", "-q", "--python", sys.executable, str(folder)], check=True)
        python = str(folder / "bin/python")
        subprocess.run(["uv", "pip", "install", "-q", "--python", python, "-c", versions, what], check=True)
    else:
        venv.create(folder, with_pip=True)
        subprocess.run([str(folder / "bin/python"), "-m", "pip", "install", "-q", "-c", versions, what], check=True)
    return folder / "bin"


def readme() -> tuple[list[str], list[str]]:
    """Return the lines of the README that call curl, and its programs in Python."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shell = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S))
    return re.findall(r"^curl .*$", shell, re.M), re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def try_it(programs: Path, folder: Path) -> None:
    """Do what the README does, from an empty folder."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HOLDFAST_"))}
    environment = kept | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HOLDFAST_STATE_DIR": str(folder)}
    said = subprocess.run(
        ["holdfast", "--version"], env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    print(said.stdout.strip())
    (folder / "Files").mkdir()
    shutil.copy(ROOT / "Files/airports.csv", folder / "Files")
    server = subprocess.Popen(
        [programs / "python", "-m", "tornado_app", "--port", str(port)], env=environment, cwd=folder
    )
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310 - loopback
                    break
            except OSError:
                time.sleep(0.1)
        curls, pieces = readme()
        lines = ["set -euo pipefail", 'curl() { command curl -sS --fail-with-body "$@" >/dev/null; }', *curls]
        subprocess.run(["bash", "-c", "\n".join(lines).replace(HERE, url)], env=environment, cwd=folder, check=True)
        for piece in pieces:
            subprocess.run(
                [programs / "python", "-c", piece.replace(HERE, url)], env=environment, cwd=folder, check=True
            )
    finally:
        server.terminate()
        server.wait(timeout=60)


def main(arguments: list[str]) -> int:
    """0 when all is well."""
    wheel = look_through(Path(arguments[0]).resolve())
    if "--look" not in arguments:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).resolve()
            (folder / "here").mkdir()
            try_it(install(wheel, folder / "environment"), folder / "here")
    print(f"{wheel.name} and its sdist are good")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
