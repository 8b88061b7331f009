"""Metrics of processes for `/metrics` (Prometheus text format). Names follow the Prometheus naming practices."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

LIVE = Gauge("holdfast_processes", "Processes that have not ended", ("state", "work_type"))
CHANGES = Counter("holdfast_process_state_changes", "State changes, by the state entered", ("state", "work_type"))
RUNNING = Gauge("holdfast_attempts_running", "Attempts that run now, rollbacks included")
QUEUE_AGE = Gauge("holdfast_queue_age_seconds", "Age of the oldest queued process")
YIELDS = Counter("holdfast_yields", "Safe points that running work has reached")
COMMIT = Histogram("holdfast_journal_commit_seconds", "Time of one journal transaction", buckets=_QUICK)
CHECKPOINT = Histogram("holdfast_checkpoint_seconds", "From handing over checkpoints to durable", buckets=_QUICK)
LOOP_LAG = Histogram("holdfast_loop_lag_seconds", "How late the event loop was", buckets=_QUICK)
WATCHERS = Gauge("holdfast_watchers", "Connections that watch events")
