"""Context that an executor gives to the work that runs in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from holdfast.work import WorkError
from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.workspace import Workspace
from tornado_app.processes.work_context import WorkContext, WorkSettings
from tornado_app.settings import Settings


class Left:
    """Something left alive, which tells when it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def lent(tmp_path: Path) -> Iterator[WorkContext]:
    (tmp_path / "files").mkdir()
    settings = Settings(
        files_dir=tmp_path / "files",
        data_dir=tmp_path,
        token="hunter2",
        database={"own": f"sqlite:///{tmp_path / 'own.sqlite'}"},
        kill_grace=3.0,
    )
    services = WorkContext(WorkSettings.of(settings), Workspace(LocalStore(settings.files_dir)))
    yield services
    services.close()


def test_a_database_is_one_engine_for_all_and_lets_readers_read_while_one_writes(lent: WorkContext) -> None:
    engine = lent.database("own")
    assert lent.database("own") is engine
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 30_000


def test_a_database_that_no_setting_names_is_refused_with_those_that_are(lent: WorkContext) -> None:
    with pytest.raises(WorkError, match="there is no database 'moon'; the server has default, own"):
        lent.database("moon")


def test_one_http_client_is_shared_by_all_threads(lent: WorkContext) -> None:
    found = [lent.http]
    asking = threading.Thread(target=lambda: found.append(lent.http))
    asking.start()
    asking.join(10)
    assert found[0] is found[1]
    lent.close()
    assert found[0].is_closed
    assert lent.http is not found[0], "made anew when it is asked for again"


def test_a_client_that_work_has_closed_is_made_anew(lent: WorkContext) -> None:
    with lent.http:
        pass
    assert not lent.http.is_closed


def test_settings_are_lent_and_secrets_are_not(lent: WorkContext) -> None:
    assert lent.setting("kill_grace") == 3.0
    for name in ("token", "token_file"):
        with pytest.raises(WorkError, match="is not for work"):
            lent.setting(name)


def test_what_is_left_alive_is_taken_once_and_closed_by_whatever_comes_in_its_place(lent: WorkContext) -> None:
    first, second, third = Left(), Left(), Left()
    lent.leave("p", first)
    assert lent.keeps("p")
    assert lent.take("p") is first
    assert lent.take("p") is None
    lent.leave("p", first)
    lent.leave("p", second)
    assert (first.closed, second.closed) == (1, 0)
    lent.forget("p")
    lent.forget("p")
    assert second.closed == 1
    lent.leave("p", third)
    lent.close()
    assert third.closed == 1
    assert not lent.keeps("p")
