"""`import-csv` of files as people have them, and of files that are none: each loads whole, or says what to do."""

from __future__ import annotations

import codecs
import functools
import gzip
import io
import resource
from collections.abc import Callable, Iterator
from typing import IO, Any

import msgspec
import pytest
from sqlalchemy import create_engine, inspect

from holdfast.work import Job, WorkError
from holdfast.work.testing import Workshop, check
from tests.support.databases import Databases
from tornado_app.work_types.import_csv import ImportCsv, import_csv, remove_rows

MIB = 1 << 20
packed = functools.partial(gzip.compress, mtime=0)


@pytest.fixture(params=["sqlite", "postgresql"])
def workshop(request: pytest.FixtureRequest, postgres_server: str) -> Iterator[Databases]:
    url = "sqlite://" if request.param == "sqlite" else request.getfixturevalue("postgres")
    with Databases(create_engine(url)) as made:
        yield made


@pytest.fixture
def sqlite() -> Iterator[Databases]:
    with Databases(create_engine("sqlite://")) as made:
        yield made


def job(workshop: Workshop, checkpoint: Any = None, *, serial: str = "0", **params: Any) -> Job[ImportCsv]:
    wanted = msgspec.convert({"file_name": "x.csv", "table": "t", **params}, ImportCsv)
    return Job(f"into {wanted.table}", wanted, checkpoint, serial=serial, services=workshop, log=workshop.log.append)


def load(workshop: Workshop, data: bytes | str, **params: Any) -> Any:
    """The result of a run that is paused at every yield."""
    workshop.files.put("x.csv", data if isinstance(data, bytes) else data.encode())
    checkpoint = None
    while True:
        running = import_csv.function(job(workshop, checkpoint, **params))
        try:
            checkpoint = next(running).checkpoint
        except StopIteration as end:
            return end.value
        running.close()


def refused(workshop: Workshop, data: bytes | str, **params: Any) -> str:
    with pytest.raises(WorkError) as caught:
        load(workshop, data, **params)
    assert "INSERT" not in str(caught.value)
    assert "CREATE" not in str(caught.value)
    return str(caught.value)


PLAIN = "a,b\n1,née\n2,\U0001f600\n"
ROWS = [("1", "née"), ("2", "\U0001f600")]


@pytest.mark.parametrize(
    ("data", "params"),
    [
        (PLAIN.encode("utf-16"), {}),
        (codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"), {}),
        (codecs.BOM_UTF16_LE + PLAIN.encode("utf-16-le"), {"encoding": "utf-16"}),
        (PLAIN.encode("utf-16-le"), {"encoding": "utf-16-le"}),
        (PLAIN.encode("utf-16-be"), {"encoding": "utf-16-be"}),
        (PLAIN.encode("utf-16-le"), {"encoding": "utf-16"}),
        (packed(PLAIN.encode()), {}),
        (packed(PLAIN.encode()), {"compression": "gzip"}),
        (packed(PLAIN.encode("utf-16")), {}),
        (packed(PLAIN[:7].encode()) + packed(PLAIN[7:].encode()), {}),
        (PLAIN.replace("\n", "\r"), {}),
        (PLAIN.replace("\n", "\r").encode("utf-16"), {}),
        (PLAIN.replace("\n", "\r\n").encode("utf-16"), {}),
        ("\n\r\n  \n" + PLAIN, {}),
        ("\ufeff\n\n" + PLAIN, {}),
        ("\r\r" + PLAIN.replace("\n", "\r"), {}),
        (PLAIN.rstrip("\n"), {}),
    ],
    ids=lambda value: repr(value)[:24],
)
@pytest.mark.parametrize("batch_rows", [1, 1000])
def test_files_as_programs_write_them_are_read(
    sqlite: Databases, data: bytes | str, params: dict[str, Any], batch_rows: int
) -> None:
    assert load(sqlite, data, batch_rows=batch_rows, **params) == {"rows": 2, "table": "t", "columns": ["a", "b"]}
    assert sqlite.ask("SELECT a, b FROM t ORDER BY a") == ROWS


@pytest.mark.slow
def test_a_letter_may_lie_across_two_pieces_of_the_file(sqlite: Databases) -> None:
    for encoding, letters in (("utf-8", "é€\U0001f600"), ("utf-16", "é\u0a0a\u000a"[:2] + "\u0a05\u0100\U0001f600")):
        text = "a,b\n" + "".join(f"{n},{letters * (n % 7)}\n" for n in range(40_000))
        load(sqlite, text.encode(encoding), table=f"t{len(encoding)}", encoding="utf-8", batch_rows=9999)
        found = sqlite.ask(f"SELECT a, b FROM t{len(encoding)} ORDER BY CAST(a AS INTEGER)")
        assert found == [(str(n), letters * (n % 7)) for n in range(40_000)]


def test_an_unnamed_first_column_gets_a_name(workshop: Databases) -> None:
    """As R's write.csv and pandas' to_csv write their index."""
    for data in ('"","a"\n"1","x"\n', ",a\n2,y\n"):
        assert load(workshop, data, batch_rows=1)["columns"] == ["column_1", "a"]
        remove_rows(job(workshop))
    load(workshop, ",a\n2,y\n")
    assert workshop.ask("SELECT column_1, a FROM t") == [("2", "y")]


def test_also_when_that_name_is_taken_or_it_is_the_only_column(sqlite: Databases) -> None:
    """R writes a frame of row names alone so."""
    assert load(sqlite, ",COLUMN_1,b\n1,2,3\n", table="u")["columns"] == ["column_1_", "COLUMN_1", "b"]
    assert load(sqlite, '\n""\n"1"\n"2"\n')["columns"] == ["column_1"]
    assert sqlite.ask("SELECT column_1 FROM t ORDER BY 1") == [("1",), ("2",)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_without_a_header_utf_16_without_a_mark_is_no_text_of_nuls(sqlite: Databases, encoding: str) -> None:
    said = refused(sqlite, "1,2\n3,4\n".encode(encoding), header=False)
    assert "its first row is full of NULs" in said
    assert "name the encoding, utf-16-le or utf-16-be" in said
    assert load(sqlite, "1,2\n3,4\n".encode(encoding), header=False, encoding=encoding)["rows"] == 2
    assert load(sqlite, "a\0b,2\n", header=False, table="u", serial="of another")["rows"] == 1


def test_without_a_header_the_columns_are_the_tables_or_numbered(workshop: Databases) -> None:
    assert load(workshop, "\n1,2\n3,4\n", header=False, batch_rows=1)["columns"] == ["column_1", "column_2"]
    assert workshop.ask("SELECT column_1, column_2 FROM t ORDER BY 1") == [("1", "2"), ("3", "4")]
    workshop.execute("CREATE TABLE u (b TEXT, holdfast_process TEXT, a TEXT)")
    load(workshop, "1,2\n3,4\n", header=False, table="u")
    assert workshop.ask("SELECT a, b FROM u ORDER BY a") == [("2", "1"), ("4", "3")]
    said = refused(workshop, "1,2,3\n", header=False, table="u", serial="of another")
    assert "its rows have 3 fields, table 'u' has 2 columns" in said
    assert "is empty" in refused(workshop, "\n\n", header=False, table="v")


def test_a_text_stands_for_null(workshop: Databases) -> None:
    load(workshop, 'a,b\nNA,"NA"\n,x\n', null="NA")
    assert sorted(workshop.ask("SELECT a, b FROM t"), key=repr) == sorted([(None, None), ("", "x")], key=repr)
    load(workshop, "a,b\n,x\n", null="", table="u")
    assert workshop.ask("SELECT a, b FROM u") == [(None, "x")]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("a,b,A", "'a' is there twice"),
        ("a,,b", "column 2 has no name"),
        ("a,\0b", "column 2 has a NUL in it"),
        ("a,b\0", "column 2 has a NUL in it"),
        ("holdfast_process,a", "is the server's own column"),
        (",".join(f"c{n}" for n in range(2000)), "it has 2000 columns, and a table has at most"),
        (",".join("c" for n in range(100_000)), "it has 100000 columns, and a table has at most"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_can_not_be_a_header_is_a_sentence(workshop: Databases, header: str, words: str) -> None:
    said = refused(workshop, header + "\n1,2\n")
    assert words in said
    assert "should name each column once" in said
    assert len(said) < 500
    assert not inspect(workshop.engine).has_table("t")


def test_a_name_that_postgresql_would_cut_is_a_sentence(postgres: str) -> None:
    with Databases(create_engine(postgres)) as workshop:
        assert "has more than 63 bytes" in refused(workshop, "é" * 32 + ",b\n1,2\n")
        load(workshop, "é" * 31 + ",b\n1,2\n")


@pytest.mark.slow
def test_as_many_columns_as_a_table_has(sqlite: Databases) -> None:
    names = ",".join(f"c{n}" for n in range(1999))
    assert load(sqlite, f"{names}\n{names}\n")["rows"] == 1


def test_what_the_database_refuses_is_a_sentence_with_its_rows(postgres: str) -> None:
    with Databases(create_engine(postgres)) as workshop:
        said = refused(workshop, "a,b\n1,2\n3,\0\n", batch_rows=1)
        assert "x.csv: the database refuses rows 2 to 2 (before byte 12): " in said
        assert "NUL" in said
        assert "cancel this process, which takes back what it has written, mend the file, and start another" in said
        workshop.execute("CREATE TABLE u (a INTEGER, holdfast_process TEXT CHECK (a < 3))")
        assert "refuses rows 1 to 2" in refused(workshop, "a\n1\nx\n", table="u")


@pytest.mark.parametrize(
    ("data", "params", "words"),
    [
        (b"PK\x03\x04rest", {}, "is a zip file: make it plain text"),
        (b"BZh91AY&SYrest", {}, "is compressed by bzip2"),
        (b"\xfd7zXZ\x00rest", {}, "is compressed by xz"),
        (b"\x28\xb5\x2f\xfdrest", {}, "is compressed by zstd"),
        (PLAIN.encode("utf-32"), {}, "is UTF-32"),
        (PLAIN.encode(), {"compression": "gzip"}, "is not compressed by gzip"),
        (packed(PLAIN.encode())[:-9], {}, "is compressed by gzip and damaged or cut"),
        (packed(PLAIN.encode())[:-5] + b"xxxxx", {}, "is compressed by gzip and damaged or cut"),
        (b"\x1f\x8b" + b"x" * 50, {}, "is compressed by gzip and damaged or cut"),
        (packed(PLAIN.encode()), {"compression": "none"}, "is not utf-8"),
        (PLAIN.encode("utf-16-le"), {}, "UTF-16 without its mark"),
        (PLAIN.encode("utf-16") + b"x", {"batch_rows": 1}, "is not utf-16-le"),
        (b"a,b\n1,2\n3,\xff\n4,5\n", {"batch_rows": 1}, "the line before byte 12 is not utf-8. Name its encoding"),
        (b"a\n1,2\n", {}, "row 1 (before byte 6) has 2 fields, the header names 1"),
        (b"a,b\n1,x\ry\n", {}, "a carriage return stands outside of quotes"),
        (b'a,b\n1,"x\n', {}, "unexpected end of data"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_no_csv_file_says_what_would_do(
    sqlite: Databases, data: bytes, params: dict[str, Any], words: str
) -> None:
    assert words in refused(sqlite, data, **params)


@pytest.mark.slow
def test_it_can_be_stopped_anywhere_and_taken_back_whole() -> None:
    """Also the table that it has made: the world is as before."""

    def prepare(workshop: Workshop) -> None:
        rows = "".join(f'{n},"two\nlines"\n' for n in range(20))
        workshop.files.put("x.csv", packed(("a,b\n" + rows).encode("utf-16")))

    def snapshot(workshop: Workshop) -> Any:
        return workshop.contents() | {"tables": sorted(
            set(inspect(workshop.database()).get_table_names()) - {"holdfast_imports", "holdfast_import_tables"}
        )}  # fmt: skip

    params = {"file_name": "x.csv", "table": "t", "batch_rows": 6}
    assert check(import_csv, params, prepare=prepare, snapshot=snapshot).result["rows"] == 20


def test_a_file_that_seems_to_have_another_delimiter_is_told_in_the_log(sqlite: Databases) -> None:
    load(sqlite, "a;b\n1;2\n")
    assert "the file has one column, 'a;b': if ';' is its delimiter, say so" in sqlite.log
    sqlite.log.clear()
    load(sqlite, "a;b\n1;2\n", table="u", delimiter=";")
    assert sqlite.log == []


# -- after a failure in the middle


def test_doing_what_the_error_says_is_right(workshop: Databases) -> None:
    said = refused(workshop, "a;b\n1,5;2\n3;4\n", batch_rows=1)  # the wrong delimiter, and a table made with it
    assert "cancel this process, which takes back what it has written, mend the file, and start another" in said
    other = job(workshop, serial="1", delimiter=";")
    with pytest.raises(WorkError, match="cancel that one, which takes the table back"):
        list(import_csv.function(other))
    remove_rows(job(workshop))
    assert not inspect(workshop.engine).has_table("t")
    list(import_csv.function(job(workshop, serial="2", delimiter=";")))
    assert workshop.ask("SELECT a, b FROM t ORDER BY a") == [("1,5", "2"), ("3", "4")]
    remove_rows(job(workshop))
    remove_rows(other)
    assert len(workshop.ask("SELECT a FROM t")) == 2, "the rows of another stay"


def test_a_mended_file_is_loaded_once(workshop: Databases) -> None:
    refused(workshop, "a,b\n1,2\n3\n5,6\n", batch_rows=1)
    assert workshop.ask("SELECT a FROM t") == [("1",)]
    said = refused(workshop, "a,b\n1,2\n3,4\n5,6\n", batch_rows=1)
    assert "the file has changed since the import began: cancel this one" in said
    remove_rows(job(workshop))
    list(import_csv.function(job(workshop, serial="1")))
    assert workshop.ask("SELECT a FROM t ORDER BY a") == [("1",), ("3",), ("5",)]


@pytest.mark.parametrize(
    "other", [b"", b"a,a\n1,2\n", b"PK\x03\x04rest", packed(b"a,b\n1,2\n")[:-9], "a,b\n1,2\n".encode("utf-16")[:-1]]
)
def test_of_a_file_that_was_replaced_no_error_tells_to_start_another_beside_its_rows(
    sqlite: Databases, other: bytes
) -> None:
    refused(sqlite, "a,b\n1,2\n3\n", batch_rows=1)
    assert "the file has changed since the import began: cancel this one" in refused(sqlite, other, batch_rows=1)


def test_a_packed_file_that_is_damaged_behind_rows_that_were_loaded_tells_to_cancel(workshop: Databases) -> None:
    text = "a,b\n" + "".join(f"{n},{n * n * 7919 % 10007}\n" for n in range(200_000))
    data = bytearray(packed(text.encode()))
    data[-9] ^= 1
    said = refused(workshop, bytes(data), batch_rows=10_000)
    assert workshop.ask("SELECT count(*) FROM t")[0][0] > 0
    assert said.endswith(
        "; cancel this process, which takes back what it has written, mend the file, and start another"
    )
    remove_rows(job(workshop))
    assert load(workshop, packed(text.encode()), batch_rows=50_000)["rows"] == 200_000
    assert workshop.ask("SELECT count(*) FROM t") == [(200_000,)]


def test_a_file_that_went_is_uploaded_again_and_the_import_goes_on(sqlite: Databases) -> None:
    sqlite.files.put("x.csv", b"a,b\n1,2\n3,4\n")
    running = import_csv.function(job(sqlite, batch_rows=1))
    next(running)
    running.close()
    del sqlite.files._published["x.csv"]
    with pytest.raises(WorkError, match=r"there is no file 'x.csv': upload it first, then resume this process"):
        list(import_csv.function(job(sqlite, batch_rows=1)))
    assert load(sqlite, "a,b\n1,2\n3,4\n")["rows"] == 2
    assert sqlite.ask("SELECT a FROM t ORDER BY a") == [("1",), ("3",)]


def test_a_cancel_leaves_rows_that_another_journal_has_loaded_under_a_key_of_an_earlier_version(
    workshop: Databases,
) -> None:
    """There keys were numbers, which each journal began anew."""
    workshop.files.put("x.csv", b"a,b\n1,2\n")
    list(import_csv.function(job(workshop, serial="1")))
    workshop.files.put("x.csv", b"a,b\n3,4\n5,6\n")
    with pytest.raises(WorkError, match="cancel this one"):
        list(import_csv.function(job(workshop, serial="1")))
    remove_rows(job(workshop, serial="1"))
    assert workshop.ask("SELECT a FROM t") == [("1",)]
    assert "rows of table 't' that are marked 'into t#1' were left" in workshop.log[-1]
    workshop.files.put("x.csv", b"a,b\n1,2\n")
    remove_rows(job(workshop, serial="1"))
    assert not inspect(workshop.engine).has_table("t"), "its own go, though no checkpoint of it was kept"


def test_a_table_that_was_there_or_that_others_fill_is_not_taken_back(workshop: Databases) -> None:
    workshop.execute("CREATE TABLE u (a TEXT, holdfast_process TEXT)")
    refused(workshop, "a\n1\n2,3\n", table="u", batch_rows=1)
    remove_rows(job(workshop, table="u"))
    assert workshop.ask("SELECT * FROM u") == []
    # Another one begins with the table that the first has made, and has written nothing yet.
    refused(workshop, "a\n1\n2,3\n", batch_rows=1)
    workshop.files.put("x.csv", b"a\n9\n8\n")
    second = import_csv.function(job(workshop, serial="1", batch_rows=1))
    next(second)
    workshop.execute("DELETE FROM t WHERE a = '9'")
    remove_rows(job(workshop))
    list(second)
    assert workshop.ask("SELECT a FROM t") == [("8",)]


def test_a_table_that_somebody_dropped_meanwhile_is_not_begun_anew(workshop: Databases) -> None:
    workshop.files.put("x.csv", b"a\n1\n2\n3\n")
    first = import_csv.function(job(workshop, batch_rows=1))
    checkpoint = next(first).checkpoint
    first.close()
    workshop.execute("DROP TABLE t")
    with pytest.raises(WorkError, match="is gone, with 1 rows of this process: cancel it"):
        list(import_csv.function(job(workshop, checkpoint, batch_rows=1)))


# -- large things


@pytest.mark.slow
def test_fields_of_any_size_up_to_the_limit(sqlite: Databases) -> None:
    """A GeoJSON column of 131,073 characters was refused."""
    sizes = [131_073, 5 * MIB, 3]
    for quote in ("", '"'):
        data = "a,b\n" + "".join(f"{n},{quote}{'x' * n}{quote}\n" for n in sizes)
        load(sqlite, data, table=f"t{len(quote)}")
        assert sorted(sqlite.ask(f"SELECT length(b) FROM t{len(quote)}")) == sorted((n,) for n in sizes)


class Small(Databases):
    """With a small limit, and files that are made as they are read."""

    def __init__(self, make: Callable[[], IO[bytes]] | None = None, size: int = 0) -> None:
        super().__init__(create_engine("sqlite://"))
        if make is not None:
            self.files.open = lambda name: make()  # type: ignore[method-assign]
            self.files.size = lambda name: size  # type: ignore[method-assign]

    def setting(self, name: str) -> Any:
        return 4 * MIB if name == "max_field_size" else super().setting(name)


class Endless(io.RawIOBase):
    """A head and then as many bytes of one kind as it takes; counts what was read."""

    def __init__(self, head: bytes, fill: bytes, size: int) -> None:
        self.head, self.fill, self.size, self.at, self.read_bytes = head, fill, size, 0, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset
        return offset

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self.size - self.at)
        piece = (self.head[self.at : self.at + size] + self.fill * size)[:size]
        buffer[:size] = piece
        self.at += size
        self.read_bytes += size
        return size


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "fill", "words"),
    [
        (b"", b"\0", "its first line does not end within 1048576 characters"),
        (b"", b"x", "its first line does not end within 1048576 characters"),
        (b'"', b"\n", "its first line does not end within 1048576 characters"),
        (b"a,b\n1,", b"x", "row 1 (after byte 4) has more than 4194304 characters (--max-field-size)"),
        (b'a,b\n1,"', b"x\n", "row 1 (after byte"),
        (b'a,b\n1,2\n1,"', b"y", "row 2 (after byte 8) has more than 4194304 characters (--max-field-size)"),
        (b"a,b\n", b",", "row 1"),
    ],
    ids=["zeros", "no line ends", "an open quote", "a long line", "an open quote in a row", "a later row", "fields"],
)
def test_a_file_without_line_ends_costs_constant_memory(head: bytes, fill: bytes, words: str) -> None:
    files: list[Endless] = []

    def make() -> IO[bytes]:
        files.append(Endless(head, fill, 1 << 40))
        return io.BufferedReader(files[-1], MIB)  # type: ignore[return-value]

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Small(make, 1 << 40) as workshop, pytest.raises(WorkError) as caught:
        list(import_csv.function(job(workshop)))
    assert words in str(caught.value)
    assert files[0].read_bytes < 32 * MIB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


@pytest.mark.slow
def test_a_long_line_of_too_many_fields_is_refused_before_they_are_made(sqlite: Databases) -> None:
    for n, line in enumerate(("," * (3 * MIB), '"x",' * MIB, '"' + "x\n" * MIB + '",' + ",y" * MIB)):
        said = refused(sqlite, "a,b\n" + line + "\n", table=f"t{n}")
        assert "the header names 2" in said
    load(sqlite, 'a,b\n1,"' + "," * (3 * MIB) + '"\n' + '2,"x\n' + "," * (3 * MIB) + '"\n', table="u")
    assert len(sqlite.ask("SELECT a FROM u")) == 2


@pytest.mark.slow
def test_a_batch_ends_by_its_size(sqlite: Databases) -> None:
    sqlite.files.put("x.csv", b"a,b\n" + b"".join(b"1,%s\n" % (b"x" * MIB) for _ in range(10)))
    assert [item.checkpoint.rows for item in import_csv.function(job(sqlite))] == [4, 8, 10]


@pytest.mark.slow
def test_a_gzip_file_that_unpacks_to_much_is_read_in_pieces() -> None:
    data = packed(b"a,b\n" + b"1,2\n" * (8 * MIB))
    with Small() as workshop:
        workshop.files.put("x.csv", data)
        running = import_csv.function(job(workshop, batch_rows=1000))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        progress = next(running)
        running.close()
        assert progress.total == len(data)
        assert 0 < (progress.done or 0) <= len(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 * 1024
