"""curl, wget, aria2, pandas and fsspec: downloads that are cut go on where they stopped."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import fsspec
import pandas
import pytest

from tests.integration.conftest import CONTENT, MIB, program, run
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess, wait_until

Broken = Callable[..., FaultyProxy]

pytestmark = pytest.mark.slow

CUTS = [Fault(cut_down=5 * MIB), Fault(cut_down=3 * MIB, reset=False)]
SLACK = 100_000  # heads, and bytes that the proxy had and the client never saw


def test_curl_goes_on_where_it_was_cut(broken: Broken, tmp_path: Path) -> None:
    proxy = broken(*CUTS)
    command = (program("curl"), "-sS", "-C", "-", "-o", "got.bin", f"{proxy.url}/v1/files/big.bin")
    codes = [run(*command, cwd=tmp_path).returncode for _ in range(3)]
    assert codes[0] in (18, 56)
    assert codes[1] in (18, 56)
    assert codes[2] == 0
    assert (tmp_path / "got.bin").read_bytes() == CONTENT
    assert proxy.bytes_down < len(CONTENT) + 4 * MIB, "a reset loses what was on its way, no more"


def test_curl_gives_up_on_a_stall_and_goes_on(broken: Broken, tmp_path: Path) -> None:
    proxy = broken(Fault(stall_down=2 * MIB))
    command = (program("curl"), "-sS", "-C", "-", "--speed-limit", "1", "--speed-time", "1", "-o", "got.bin")
    stalled = run(*command, f"{proxy.url}/v1/files/big.bin", cwd=tmp_path)
    assert stalled.returncode == 28
    assert (tmp_path / "got.bin").stat().st_size > MIB
    assert run(*command, f"{proxy.url}/v1/files/big.bin", cwd=tmp_path).returncode == 0
    assert (tmp_path / "got.bin").read_bytes() == CONTENT


def test_curl_gets_ranges(server: ServerProcess, tmp_path: Path) -> None:
    curl, url = program("curl"), f"{server.url}/v1/files/big.bin"
    for asked, wanted in (("100-199", CONTENT[100:200]), ("-7", CONTENT[-7:]), ("12582912-", CONTENT[12582912:])):
        assert run(curl, "-sSf", "-r", asked, "-o", "part.bin", url, cwd=tmp_path).returncode == 0
        assert (tmp_path / "part.bin").read_bytes() == wanted
    assert run(curl, "-sSf", "-r", "0-1,5-6", "-o", "parts.bin", url, cwd=tmp_path).returncode == 0
    assert (tmp_path / "parts.bin").read_bytes().count(b"Content-Range: bytes ") == 2


def test_curl_is_told_when_the_file_is_another_one(server: ServerProcess, broken: Broken, tmp_path: Path) -> None:
    """curl itself asks for nothing when it resumes; with If-Match it never makes one file of two."""
    proxy = broken(Fault(cut_down=5 * MIB))
    curl, url = program("curl"), f"{proxy.url}/v1/files/big.bin"
    run(curl, "-sS", "-D", "head.txt", "-o", "got.bin", url, cwd=tmp_path)
    etag = next(
        line.split(": ", 1)[1] for line in (tmp_path / "head.txt").read_text().splitlines() if line.startswith("Etag")
    )
    (server.files_dir / "big.bin").write_bytes(CONTENT[::-1])
    resumed = run(curl, "-sSf", "-C", "-", "-H", f"If-Match: {etag}", "-o", "got.bin", url, cwd=tmp_path)
    assert resumed.returncode == 22
    assert "412" in resumed.stderr


def test_wget_goes_on_by_itself_and_from_another_process(broken: Broken, tmp_path: Path) -> None:
    proxy = broken(*CUTS, Fault(cut_down=MIB, reset=False))
    command = (program("wget"), "-nv", "-c", "--waitretry=0", f"{proxy.url}/v1/files/big.bin")
    run(*command, "--tries=1", cwd=tmp_path)
    begun = (tmp_path / "big.bin").stat().st_size
    assert 0 < begun < len(CONTENT)
    done = run(*command, "--tries=5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "big.bin").read_bytes() == CONTENT
    assert proxy.connections == 4
    assert proxy.bytes_down < len(CONTENT) + 5 * MIB


ARIA = ("-q", "-x8", "-s8", "-k1M", "--min-split-size=1M", "--file-allocation=none", "--max-tries=9", "--retry-wait=0")


def test_aria2_downloads_by_eight_connections_that_break(broken: Broken, tmp_path: Path) -> None:
    proxy = broken(*(Fault(cut_down=300_000 + 50_000 * n, reset=n % 2 == 0) for n in range(8)))
    done = run(program("aria2c"), *ARIA, f"{proxy.url}/v1/files/big.bin", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "big.bin").read_bytes() == CONTENT
    assert len(proxy.used) == 8
    assert proxy.bytes_down < len(CONTENT) + 8 * MIB


def test_aria2_goes_on_after_it_was_stopped(broken: Broken, tmp_path: Path) -> None:
    proxy = broken(*(Fault(rate_down=MIB) for _ in range(8)))
    command = [program("aria2c"), *ARIA, "-c", "--disk-cache=0", f"{proxy.url}/v1/files/big.bin"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        part = tmp_path / "big.bin"
        wait_until(lambda: part.exists() and part.stat().st_blocks * 512 > 4 * MIB, what="a third of it on the disk")
        first.send_signal(signal.SIGINT)
    assert (tmp_path / "big.bin.aria2").exists(), "what it goes on by"
    before = proxy.bytes_down
    # At a rate as well: it cuts off answers whose end another connection brings, and what then lies in the sockets'
    # buffers was never taken.
    proxy.add(*(Fault(rate_down=MIB) for _ in range(32)))
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "big.bin").read_bytes() == CONTENT
    assert proxy.bytes_down - before < len(CONTENT) - MIB, "what was there was not fetched again"


def test_pandas_reads_a_table_by_url_and_never_a_part_of_one(server: ServerProcess, broken: Broken) -> None:
    table = pandas.read_csv(f"{server.url}/v1/files/table.csv")
    assert len(table) == 200_000
    assert int(table["square"].iloc[-1]) == 199_999**2
    proxy = broken(Fault(cut_down=MIB, reset=False), Fault(cut_down=MIB))
    for _ in range(2):
        with pytest.raises(Exception, match=r"(?i)incomplete|reset"):
            pandas.read_csv(f"{proxy.url}/v1/files/table.csv")
    assert len(pandas.read_csv(f"{proxy.url}/v1/files/table.csv")) == 200_000


def test_fsspec_reads_any_place_of_a_file(server: ServerProcess, broken: Broken, tmp_path: Path) -> None:
    proxy = broken()
    url = f"{proxy.url}/v1/files/big.bin"
    with fsspec.open(url, "rb", block_size=64 * 1024) as file:
        assert file.size == len(CONTENT)
        for place in (0, 5 * MIB, 1000, len(CONTENT) - 10):
            file.seek(place)
            assert file.read(100) == CONTENT[place : place + 100]
    assert proxy.bytes_down < 2 * MIB, "only what was asked for has come"
    http = fsspec.filesystem("http")
    assert http.cat_file(url, start=10, end=20) == CONTENT[10:20]
    assert http.info(url)["size"] == len(CONTENT)
    http.get_file(url, str(tmp_path / "got.bin"))
    assert (tmp_path / "got.bin").read_bytes() == CONTENT


def test_fsspec_is_told_of_a_cut_and_reads_on(broken: Broken) -> None:
    proxy = broken(Fault(when=b"Range: bytes=0-", cut_down=500_000))
    http = fsspec.filesystem("http", skip_instance_cache=True)
    url = f"{proxy.url}/v1/files/big.bin"
    with pytest.raises(Exception, match=r"(?i)payload|reset|disconnected"):
        http.cat_file(url, start=0, end=4 * MIB)
    assert http.cat_file(url, start=0, end=4 * MIB) == CONTENT[: 4 * MIB]
