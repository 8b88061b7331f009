"""Content-Type by file name, the same on every machine."""

from __future__ import annotations

from functools import lru_cache
from mimetypes import MimeTypes

UNKNOWN = "application/octet-stream"

# What the standard table lacks or gets wrong for the files that people compute with.
_MORE = {
    ".arrow": "application/vnd.apache.arrow.file",
    ".avro": "application/vnd.apache.avro",
    ".feather": "application/vnd.apache.arrow.file",
    ".flac": "audio/flac",
    ".geojson": "application/geo+json",
    ".ipynb": "application/x-ipynb+json",
    ".jsonl": "application/jsonl",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".sqlite": "application/vnd.sqlite3",
    ".toml": "application/toml",
    ".tsv": "text/tab-separated-values",
    ".wasm": "application/wasm",
    ".webp": "image/webp",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_COMPRESSED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
    "br": UNKNOWN,
}

# Without the machine's own mime.types files, so that a file has one type wherever it is served.
_TYPES = MimeTypes()
for _suffix, _type in _MORE.items():
    _TYPES.add_type(_type, _suffix)
_TYPES.add_type("application/zstd", ".zst")


@lru_cache(maxsize=4096)
def of(name: str) -> str:
    """Return the media type for a file name. A compressed file has the type of its compression: it is sent as it is."""
    # Only the last segment counts, and no part of it is taken for a URL with a scheme.
    kind, encoding = _TYPES.guess_type("./" + name.rpartition("/")[2], strict=True)
    if encoding is not None:
        return _COMPRESSED.get(encoding, UNKNOWN)
    return kind or UNKNOWN
