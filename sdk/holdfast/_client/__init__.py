"""The parts that the sync and the async client share and that make no request.

Uses `holdfast.wire` and `holdfast.calls`. Begin reading in `process_view.py`.
"""
