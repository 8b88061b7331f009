"""Lines of a CSV file, each with the byte at which it ends. Compression and byte order marks are recognised."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from typing import IO

from holdfast.work import WorkError

PIECE = 256 * 1024
AGAIN = "cancel this process, which takes back what it has written, mend the file, and start another"
_SAMPLE = 1 << 20
_LARGE = 1 << 20
"""Characters of a line above which its fields are counted before it is parsed."""

_OTHERS = {
    b"PK\x03\x04": "a zip file",
    b"\xfd7zXZ\x00": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
}
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
_UTF_16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_MARKED = ("utf-8", "utf-16", "utf-16-le", "utf-16-be")
"""Encodings that a byte order mark overrides; in others its bytes are letters."""
_QUOTED = re.compile(r'"[^"]*(?:"|$)')


class TooLong(Exception):
    """A row, or a line without an end, has more characters than allowed."""


class TooManyFields(Exception):
    """A row has more fields than the header: at least that many."""


class NotText(Exception):
    """The line that ends before `byte` is not in the encoding."""

    def __init__(self, byte: int) -> None:
        super().__init__(byte)
        self.byte = byte


class CsvLines:
    """Lines of a file, each with its line end. Needs memory for one row of `most` characters and a few pieces.

    `byte` is the end of the last line in the uncompressed file. `row` counts the characters of a row; the caller sets
    it to 0 before each row.
    """

    def __init__(self, file: IO[bytes], name: str, encoding: str, compression: str, delimiter: str, most: int) -> None:
        """Raise `WorkError` for a file that can't be read in this way."""
        self._raw = file
        self._name = name
        self._delimiter = delimiter
        self.most = most
        self.width = 0
        self.row = 0
        file.seek(0)
        head = file.read(10)
        file.seek(0)
        packed = head.startswith(b"\x1f\x8b") and compression != "none"
        if compression == "gzip" and not packed:
            raise WorkError(f"{name} is not compressed by gzip: leave compression out, and it is recognised")
        self._file: IO[bytes] = gzip.GzipFile(fileobj=file, mode="rb") if packed else file  # type: ignore[assignment]
        self.is_packed = packed
        head = self._read(10)
        self._refuse_others(head)
        self.encoding, self.start = _encoding(head, encoding)
        self.end = self._line_end()
        self.byte = self.start

    @property
    def done(self) -> int:
        """Bytes read of the file as it was uploaded, compressed or not."""
        return self._raw.tell() if self.is_packed else self.byte

    def lines(self, byte: int) -> Iterator[str]:
        """Iterate over the lines from a byte on, where one begins.

        Raises:
            TooLong: a row has too many characters.
            TooManyFields: a long row can't have as few fields as the header.
            NotText: a line is not in the encoding.
            WorkError: the file is packed and damaged.
        """
        self.byte = max(byte, self.start)
        self._seek(self.byte)
        return self._split()

    def _split(self) -> Iterator[str]:
        # Pieces of a line whose end was not read yet.
        parts: list[str] = []
        size = 0
        for text in self._texts():
            pieces = text.split(self.end)
            if len(pieces) > 1:
                pieces[0] = "".join([*parts, pieces[0]])
                parts, size = [], 0
                last = pieces.pop()
                for piece in pieces:
                    yield self._taken(piece + self.end)
            else:
                last = text
            parts.append(last)
            size += len(last)
            if self.row + size > self.most:
                raise TooLong
        if size:
            yield self._taken("".join(parts))

    def _taken(self, line: str) -> str:
        size = len(line)
        if size > _LARGE and self.width:
            self._count_fields(line)
        self.row += size
        if self.row > self.most:
            raise TooLong
        self.byte += self._octets(line)
        return line

    def _octets(self, line: str) -> int:
        if self.encoding == "utf-8":
            return len(line) if line.isascii() else len(line.encode())
        return len(line.encode(self.encoding)) if self.encoding.startswith("utf") else len(line)

    def _count_fields(self, line: str) -> None:
        """Count the fields of a long line before the parser makes a list of them, which takes many times its memory."""
        if line.count(self._delimiter) < self.width:
            return
        inside = '"' if self.row else ""  # a row continues on another line only inside quotes
        fields = _QUOTED.sub("", inside + line).count(self._delimiter) + 1
        if fields > self.width:
            raise TooManyFields(fields)

    def _texts(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder(self.encoding)()
        at = self.byte
        while True:
            block = self._read(PIECE)
            at += len(block)
            try:
                yield decoder.decode(block, not block)
            except UnicodeDecodeError as error:
                octets = bytes(error.object)
                yield octets[: error.start].decode(self.encoding)
                end = self.end.encode(self.encoding)
                found = octets.find(end, error.start)
                raise NotText(at - len(octets) + (error.start if found < 0 else found + len(end))) from None
            if not block:
                return

    def _line_end(self) -> str:
        """Return the line end of the first line: a carriage return alone (old Macs), or a line feed."""
        self._seek(self.start)
        decoder = codecs.getincrementaldecoder(self.encoding)("replace")
        text = _QUOTED.sub("", decoder.decode(self._read(_SAMPLE)))
        found = re.search(r"\r\n?|\n", text)
        return "\r" if found is not None and found[0] == "\r" else "\n"

    def _read(self, size: int) -> bytes:
        """Read that many bytes, or fewer at the end of the file."""
        pieces: list[bytes] = []
        try:
            while size and (piece := self._file.read(size)):
                pieces.append(piece)
                size -= len(piece)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self._damaged(error)
        return b"".join(pieces)

    def _seek(self, byte: int) -> None:
        try:
            self._file.seek(byte)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self._damaged(error)

    def _damaged(self, error: Exception) -> None:
        raise WorkError(f"{self._name} is compressed by gzip and damaged or cut: {error}; {AGAIN}") from None

    def _refuse_others(self, head: bytes) -> None:
        kind = next((kind for mark, kind in _OTHERS.items() if head.startswith(mark)), "")
        if _BZIP2.match(head):
            kind = "compressed by bzip2"
        if kind:
            raise WorkError(f"{self._name} is {kind}: make it plain text, in UTF-8 or UTF-16, or compress it by gzip")


def _encoding(head: bytes, named: str) -> tuple[str, int]:
    """Return the encoding of a file that begins with `head`, and the byte after its byte order mark."""
    if named in _MARKED:
        if head.startswith(codecs.BOM_UTF8):
            return "utf-8", len(codecs.BOM_UTF8)
        if head[:2] in _UTF_16:
            return _UTF_16[head[:2]], 2
    return ("utf-16-le" if named == "utf-16" else named), 0
