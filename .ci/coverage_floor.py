"""Fails when lines or branches of either package are covered less than they should be, and says where."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

FLOOR = 90.0
PACKAGES = {"tornado_app": "tornado_app/", "holdfast": "sdk/holdfast/"}


def percentages(files: dict[str, dict[str, dict[str, int]]], folder: str) -> tuple[float, float]:
    """Line and branch coverage in percent of all files under `folder`."""
    sums = [entry["summary"] for path, entry in files.items() if path.replace("\\", "/").startswith(folder)]

    def share(covered: str, total: str) -> float:
        return 100.0 * sum(s[covered] for s in sums) / (sum(s[total] for s in sums) or 1)

    return share("covered_lines", "num_statements"), share("covered_branches", "num_branches")


def main() -> int:
    """0 when every figure is at the floor or above it."""
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run([*coverage, "report"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "coverage.json")
        subprocess.run([*coverage, "json", "-q", "-o", str(report)], check=True)
        files = json.loads(report.read_text())["files"]
    good = True
    for name, folder in PACKAGES.items():
        lines, branches = percentages(files, folder)
        good = good and min(lines, branches) >= FLOOR
        print(f"{name}: {lines:.1f} % of lines, {branches:.1f} % of branches (at least {FLOOR:.0f})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
