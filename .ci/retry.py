"""Runs tests, then what failed once more, each alone: says what is flaky, and fails for everything else.

retry.py --flaky FILE COMMAND... -- ARGUMENTS...

COMMAND starts pytest; ARGUMENTS are of the first run only. A test that fails and then passes alone is flaky: it is
printed with its first failure under a line `flaky:` and noted in FILE. The exit status is 0 when nothing else failed
and FILE, which several runs may share, names at most three tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MOST_FLAKY = 3
MOST_RETRIED = 10  # of more failures than these the machine is not the reason
TESTS_FAILED = 1  # pytest's exit status; others say that the run itself went wrong


def run(command: list[str], failed: str = "") -> int:
    """Run pytest with the plugin that notes failures in the file `failed`; its exit status."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "HOLDFAST_FAILED_TESTS": failed}
    return subprocess.run([*command, "-p", "failed_tests"], env=environment).returncode


def failures(path: Path) -> dict[str, str]:
    """The tests that failed, each with what it said first."""
    found: dict[str, str] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            report = json.loads(line)
            found.setdefault(report["test"], f"({report['when']}) {report['failure']}")
    return found


def main(arguments: list[str]) -> int:
    """0 when all tests passed, the flaky ones at their second try."""
    if arguments[:1] != ["--flaky"] or "--" not in arguments:
        print(__doc__)
        return 2
    noted, split = Path(arguments[1]), arguments.index("--")
    command, first_run = arguments[2:split], arguments[split + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "failed")
        status = run([*command, *first_run], str(path))
        if status != TESTS_FAILED:
            return status
        found = failures(path)
    if not found or len(found) > MOST_RETRIED:
        return status
    print(f"\n== {len(found)} failed: once more, each alone", flush=True)
    failed_again = [test for test in found if run([*command, test]) != 0]
    flaky = [test for test in found if test not in failed_again]
    if flaky:
        print("\nflaky:")
        for test in flaky:
            print(f"{test}: failed, and passed alone. Its first failure:\n{found[test]}\n")
        with noted.open("a", encoding="utf-8") as file:
            file.writelines(f"{test}\n" for test in flaky)
    for test in failed_again:
        print(f"{test}: failed twice")
    in_all = len(noted.read_text(encoding="utf-8").splitlines()) if noted.exists() else 0
    if in_all > MOST_FLAKY:
        print(f"{in_all} tests are flaky: at most {MOST_FLAKY} may be")
    sys.stdout.flush()
    return TESTS_FAILED if failed_again or in_all > MOST_FLAKY else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
