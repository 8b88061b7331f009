"""The async face: each method runs one plan on the caller's asyncio loop.

Uses the plans, the transfers and the async driver of `_http`. Begin reading in `client.py`.
"""
