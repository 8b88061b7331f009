"""The services of the test kit behave as those of a server."""

from __future__ import annotations

import hashlib

import pytest

from holdfast.work import Job, NoParams, Services
from holdfast.work.testing import MemoryFiles, Workshop


class Alive:
    """Something that lives between two attempts."""

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_a_job_uses_it_as_its_services() -> None:
    with Workshop({"speed": 2}) as workshop:
        services: Services = workshop
        job = Job("p", NoParams(), services=services)
        assert job.setting("speed") == 2
        assert job.files is workshop.files
        assert job.http is job.http
        folder = workshop.folder
    assert not folder.exists()


def test_a_setting_that_was_not_passed_is_named() -> None:
    with (
        Workshop() as workshop,
        pytest.raises(AttributeError, match=r"Pass it: check\(..., settings=\{'speed': ...\}\)"),
    ):
        workshop.setting("speed")


def test_a_staged_file_is_invisible_until_it_is_published() -> None:
    files = MemoryFiles()
    staged = files.stage("a", "key")
    assert (staged.write(b"abc"), staged.tell(), files.list()) == (3, 3, [])
    assert [*files.unpublished()] == [("key", b"abc")]
    assert staged.publish() == staged.sha256() == hashlib.sha256(b"abc").hexdigest()
    assert (files.list(), files.size("a"), files.open("a").read()) == (["a"], 3, b"abc")
    assert [*files.unpublished()] == []
    staged.publish()
    assert files.read("a") == b"abc"


def test_a_staged_file_survives_under_its_key_and_is_cut_to_a_checkpoint() -> None:
    files = MemoryFiles()
    files.stage("a", "key").write(b"abcdef")
    again = files.stage("b", "key")
    again.truncate(4)
    again.reserve(1 << 40)
    assert (again.tell(), again.name) == (4, "b")
    with pytest.raises(ValueError, match="can't cut 4 bytes to 5"):
        again.truncate(5)
    again.discard()
    assert files.stage("a", "key").tell() == 0


def test_what_is_not_there_is_an_error() -> None:
    files = MemoryFiles()
    files.put("data/a", b"1")
    assert files.list("data/") == ["data/a"]
    for missing in (files.read, files.size, files.open):
        with pytest.raises(FileNotFoundError, match="there is no file 'b'"):
            missing("b")


@pytest.mark.slow
def test_contents_are_files_staged_bytes_and_rows() -> None:
    import sqlalchemy

    with Workshop() as workshop:
        workshop.files.put("a", b"1")
        workshop.files.stage("b", "key").write(b"2")
        with workshop.database("other").begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE t (x INTEGER)"))
            connection.execute(sqlalchemy.text("CREATE TABLE empty (x INTEGER)"))
            connection.execute(sqlalchemy.text("INSERT INTO t VALUES (2), (1)"))
        assert workshop.contents() == {"file a": b"1", "staged key": b"2", "table other.t": [(1,), (2,)]}


def test_what_is_left_alive_is_taken_once_and_closed_when_it_is_lost() -> None:
    left, lost = Alive(), Alive()
    with Workshop() as workshop:
        workshop.leave("p", left)
        assert workshop.take("p") is left
        assert workshop.take("p") is None
        workshop.leave("p", lost)
        workshop.lose()
        assert (lost.is_closed, left.is_closed, workshop.take("p")) == (True, False, None)
        workshop.leave("q", left)
    assert left.is_closed
