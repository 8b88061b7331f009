"""Both ways of answering: directly, and by the handlers."""

from __future__ import annotations

import pytest

from tornado_app.handlers.direct.delegate import DirectAnswers


@pytest.fixture(params=["direct", "handlers"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test as the server is, and again with every request answered by the handlers."""
    if request.param == "handlers":
        monkeypatch.setattr(DirectAnswers, "accept", lambda *arguments: None)
    return str(request.param)
