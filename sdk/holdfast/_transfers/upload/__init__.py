"""Uploads: one request, one stream, parallel blocks, or parts that the server joins; verified by the server at the end.

Uses `holdfast.plans`, `holdfast.calls` and `_local_files`. Begin reading in `job.py`, which chooses the way; `state.py`
has what all ways share. `sequential.py` sends over one connection, `by_blocks.py` over several, or what is missing.
"""
