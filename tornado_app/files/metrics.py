"""Metrics of transfers, in prometheus-client's default registry."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram


class Share:
    """The part of one service in a gauge that counts those of several."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._value = 0

    def set(self, value: int) -> None:
        """Count this value in place of the one before."""
        if value != self._value:
            self._gauge.inc(value - self._value)
            self._value = value


RECEIVED = Counter("holdfast_upload_bytes", "Bytes of uploads written to the store.")
SENT = Counter("holdfast_download_bytes", "Bytes of files sent.")
DOWNLOADS = Counter("holdfast_downloads", "Downloads by how they ended.", ["end"])
DOWNLOAD_COMPLETE = DOWNLOADS.labels("complete")
DOWNLOAD_NOT_MODIFIED = DOWNLOADS.labels("not modified")
DOWNLOAD_CUT = DOWNLOADS.labels("cut")
DOWNLOAD_STALLED = DOWNLOADS.labels("stalled")
DOWNLOAD_REDIRECTED = DOWNLOADS.labels("left to the proxy")
DOWNLOAD_CHANGED = DOWNLOADS.labels("changed")
DOWNLOAD_SECONDS = Histogram(
    "holdfast_download_seconds",
    "From a download's request to its last byte, for those that ended well.",
    buckets=(0.001, 0.01, 0.1, 1, 10, 60, 600, 3600),
)
IN_THE_MAKING = Gauge("holdfast_uploads_in_the_making", "Uploads that are not complete.")
CREATED = Counter("holdfast_uploads_created", "Uploads created.", ["kind"])
PUBLISHED = Counter("holdfast_uploads_published", "Uploads that became files.", ["kind"])
EXPIRED = Counter("holdfast_uploads_expired", "Abandoned uploads that were removed.")
CUTS = Counter("holdfast_upload_cuts", "Upload requests that ended early.", ["why"])
RESUMES = Counter("holdfast_upload_resumes", "Requests that went on with an upload.")
DIGEST_FAILURES = Counter("holdfast_digest_failures", "Digests that did not match what was received.")
DURATION = Histogram(
    "holdfast_upload_seconds",
    "From an upload's creation to its publication.",
    buckets=(0.01, 0.1, 1, 10, 60, 600, 3600, 86400),
)
DIGESTS_PENDING = Gauge("holdfast_sha256_pending", "Files whose SHA-256 is to be made.")
HASHED = Counter("holdfast_sha256_bytes", "Bytes read to make the SHA-256 of published files.")
HASHING_SECONDS = Counter("holdfast_sha256_busy_seconds", "Time spent reading and hashing them.")
HASHED_FILES = Counter("holdfast_sha256_files", "Published files whose SHA-256 was made.")
DIGEST_SECONDS = Histogram(
    "holdfast_sha256_wait_seconds",
    "From the publication of a file, or the request for its SHA-256, until that is recorded.",
    buckets=(0.1, 1, 10, 60, 600, 3600, 86400),
)
