"""The sync face: each method runs one plan in the calling thread.

Uses the plans, the transfers and the sync driver of `_http`. Begin reading in `client.py`.
"""
