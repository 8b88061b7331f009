"""The tour runs, says what it does, and notices a difference."""

from __future__ import annotations

import resource
import socket
import tempfile
import threading
from pathlib import Path

import pytest

from holdfast_examples import tour
from holdfast_examples.wire_cutter import WireCutter
from tests.support.servers import PATIENCE


def cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@pytest.mark.slow
def test_the_tour_ends_well_within_a_minute_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = cpu_seconds()
    assert tour.main([]) == 0
    # A minute on the clock is meant; a machine that is busy with other tests only has this to go by.
    assert cpu_seconds() - before < 60
    said = capsys.readouterr().out
    assert said.count("✂") == 4
    assert "✝" in said
    assert "336,776" in said
    assert "columns with the checksum of the file's: 19" in said
    assert "✗" not in said
    assert "Nothing lost" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_difference_ends_it_with_exit_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tour, "sha256", lambda path: "something else")
    assert tour.main([]) == 1
    assert "✗ DifferenceError: SHA-256 on the server" in capsys.readouterr().out


def test_without_the_data_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.files", lambda name: [])
    assert tour.main([]) == 1
    assert "[demo]'" in capsys.readouterr().out


def test_column_digests_see_a_value_its_column_and_its_order() -> None:
    names = ["a", "b"]
    rows = [("1", "x"), ("2", "y"), ("3", "z")]
    count, digests = tour.digest_columns(names, rows)
    assert count == 3
    for other in ([("2", "x"), ("1", "y"), ("3", "z")], [*rows[:2], ("4", "z")], [*rows, ("", "")]):
        assert tour.digest_columns(names, other)[1]["a"] != digests["a"]
    assert tour.digest_columns(names, [(1, "x"), (2, "y"), (3, "w")])[1]["a"] == digests["a"]


class TestWireCutter:
    def test_it_carries_both_ways_and_breaks_at_the_marked_byte(self) -> None:
        def echo() -> None:
            for _ in range(2):
                connection, _address = listener.accept()
                with connection:
                    try:
                        while data := connection.recv(1000):
                            connection.sendall(data)
                    except OSError:
                        pass

        cuts: list[int] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=echo)
            thread.start()
            with WireCutter(listener.getsockname(), cuts.append) as wire:
                address = ("127.0.0.1", int(wire.url.rpartition(":")[2]))
                with socket.create_connection(address, timeout=PATIENCE) as client:
                    client.sendall(b"x" * 100)
                    assert client.recv(100, socket.MSG_WAITALL) == b"x" * 100
                    wire.cut_after(50)
                    client.sendall(b"y" * 100)
                    assert len(drained(client)) <= 50  # what was echoed before both sides broke
                with socket.create_connection(address, timeout=PATIENCE) as client:
                    client.sendall(b"again")
                    client.shutdown(socket.SHUT_WR)
                    assert drained(client) == b"again"
            thread.join()
        assert wire.cuts == 1
        assert cuts == [50], "since the mark was set"

    def test_a_server_that_is_away_is_a_connection_that_ends(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            away = listener.getsockname()
        with WireCutter(away) as wire:
            address = ("127.0.0.1", int(wire.url.rpartition(":")[2]))
            with socket.create_connection(address, timeout=PATIENCE) as client:
                assert drained(client) == b""


def drained(connection: socket.socket) -> bytes:
    """Everything until the connection ends, in whatever way."""
    received = b""
    try:
        while data := connection.recv(1000):
            received += data
    except ConnectionError:
        pass
    return received
