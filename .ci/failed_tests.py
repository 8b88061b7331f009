"""Pytest plugin that writes each failure as one line of JSON to the file that `HOLDFAST_FAILED_TESTS` names."""

from __future__ import annotations

import json
import os

import pytest


class _Failures:
    def __init__(self, path: str) -> None:
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            line = {"test": report.nodeid, "when": report.when, "failure": report.longreprtext}
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    """Listen in the process that hears of every test: not in a worker of xdist, nor in a pytest that a test starts."""
    path = os.environ.pop("HOLDFAST_FAILED_TESTS", "")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Failures(path))
