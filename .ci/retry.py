"""Runs tests, then what failed once more, each alone: says what is flaky, and fails for everything else.

retry.py --flaky FILE COMMAND... -- ARGUMENTS...

COMMAND starts pytest; ARGUMENTS are of the first run only. A test that fails and then passes alone is flaky: it is
printed with its first failure under a line `flaky:` and noted in FILE. An unmarked test that takes over a quarter of a
second (tests/support/quarter_second.py) is measured again without the others, and fails the run when it takes as long
each time. The exit status is 0 when nothing else failed and FILE, which several runs may share, names at most three
tests.
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
MEASURED_AGAIN = 2
TESTS_FAILED = 1  # pytest's exit status; others say that the run itself went wrong


def run(command: list[str], failed: str = "", long: str = "") -> int:
    """Run pytest, which notes in the files `failed` and `long` what failed and what took too long; its exit status."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "HOLDFAST_FAILED_TESTS": failed, "HOLDFAST_LONG_TESTS": long}
    return subprocess.run([*command, "-p", "failed_tests"], env=environment).returncode


def long_tests(path: Path) -> dict[str, str]:
    """Return the unmarked tests that took too long, each with the time that it took."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return dict(line.rsplit("\t", 1) for line in lines)


def long_each_time(command: list[str], found: dict[str, str]) -> dict[str, str]:
    """Run the tests again, one after the other and without any others, and return those that again take too long."""
    for _ in range(MEASURED_AGAIN):
        if not found:
            break
        print(f"\n== {len(found)} took over a quarter of a second: measured again", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "long")
            run([*command, "-q", *found], long=str(path))
            again = long_tests(path)
        found = {test: again[test] for test in found if test in again}
    return found


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
        path, long_path = Path(folder, "failed"), Path(folder, "long")
        status = run([*command, *first_run], str(path), str(long_path))
        if status not in (0, TESTS_FAILED):
            return status
        found, long = failures(path), long_tests(long_path)
    if status != 0 and (not found or len(found) > MOST_RETRIED):
        return status
    too_long = long_each_time(command, {test: took for test, took in long.items() if test not in found})
    if found:
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
    for test, took in too_long.items():
        print(f"{test}: took {took} each time; mark it slow, or make it quicker")
    in_all = len(noted.read_text(encoding="utf-8").splitlines()) if noted.exists() else 0
    if in_all > MOST_FLAKY:
        print(f"{in_all} tests are flaky: at most {MOST_FLAKY} may be")
    sys.stdout.flush()
    return TESTS_FAILED if failed_again or too_long or in_all > MOST_FLAKY else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
