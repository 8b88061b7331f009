"""Parts that the sync and the async client share.

Uses `holdfast.wire`, `holdfast.calls` and the drivers of `_http`. Clients, transfers and notebook views use it. Begin
reading in `core.py`.
"""
