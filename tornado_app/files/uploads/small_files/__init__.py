"""Uploads of small files: one request each, in memory until they are published, in groups that share the disk's time.

Uses the store, limits and events of uploads. Begin reading in `requests.py`, then `groups.py`.
"""
